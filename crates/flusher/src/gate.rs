//! Memory for uploads: asynchronous waiting in front of an accounted budget.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use logtide_model::{MemoryBudget, Permit};
use tokio::sync::Notify;

/// The budget may be shared with others, who tell nobody when they give back.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Hands out memory of a budget, one after the other: by rank, then in the order of the asking, so that what is large is
/// not overtaken for ever. Who finds nobody holding anything gets what it asks for, so at least one upload goes on however
/// small the budget is.
#[derive(Debug)]
pub(crate) struct Gate {
    budget: MemoryBudget,
    /// Locked while memory is taken, so that of two only one finds itself alone.
    line: Mutex<Line>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct Line {
    /// How many hold something.
    holders: usize,
    /// Who waits: rank and ticket.
    waiting: BTreeSet<(u64, u64)>,
    tickets: u64,
}

/// A place in the line. Dropping it leaves the line.
#[derive(Debug)]
struct Place {
    gate: Arc<Gate>,
    at: (u64, u64),
}

/// Memory that is held.
#[derive(Debug)]
pub(crate) struct Held {
    permit: Option<Permit>,
    gate: Arc<Gate>,
}

impl Gate {
    pub(crate) fn new(budget: MemoryBudget) -> Arc<Self> {
        Arc::new(Gate { budget, line: Mutex::default(), moved: Notify::new() })
    }

    /// Waits until there is room for `bytes` and nobody is before it, or until nobody holds anything. Its place in the line
    /// is that of this call, not of the first poll: behind all of a lower or the same rank.
    pub(crate) fn acquire(self: &Arc<Self>, rank: u64, bytes: u64) -> impl Future<Output = Held> + Send + use<> {
        let place = self.enter(rank);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        async move {
            loop {
                let moved = place.gate.moved.notified();
                if let Some(permit) = place.try_acquire(bytes) {
                    return Held { permit: Some(permit), gate: place.gate.clone() };
                }
                let _ = tokio::time::timeout(LOOK_AGAIN, moved).await;
            }
        }
    }

    fn enter(self: &Arc<Self>, rank: u64) -> Place {
        let mut line = self.lock();
        line.tickets += 1;
        let at = (rank, line.tickets);
        line.waiting.insert(at);
        Place { gate: self.clone(), at }
    }

    /// Accounts what is held already and cannot wait.
    pub(crate) fn account(&self, bytes: u64) -> Permit {
        self.budget.force_acquire(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        // Nothing panics while it holds the lock.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn try_acquire(&self, bytes: usize) -> Option<Permit> {
        let mut line = self.gate.lock();
        if line.waiting.first() != Some(&self.at) {
            return None;
        }
        let alone = || (line.holders == 0).then(|| self.gate.budget.force_acquire(bytes));
        let permit = self.gate.budget.try_acquire(bytes).or_else(alone)?;
        line.holders += 1;
        Some(permit)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.lock().waiting.remove(&self.at);
        self.gate.moved.notify_waiters();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.permit = None;
        self.gate.lock().holders -= 1;
        self.gate.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn waits_for_room_and_always_lets_one_through() {
        let budget = MemoryBudget::new(10);
        let gate = Gate::new(budget.clone());
        let first = gate.acquire(1, 8).await;
        let mut second = Box::pin(gate.acquire(1, 5));
        assert!((&mut second).now_or_never().is_none());
        assert_eq!(budget.used(), 8);
        drop(first);
        let second = second.await;
        assert_eq!(budget.used(), 5);
        drop(second);
        let large = gate.acquire(1, 100).await;
        assert_eq!(budget.used(), 100);
        assert!(gate.acquire(1, 1).now_or_never().is_none());
        drop(large);
        assert_eq!((budget.used(), budget.peak()), (0, 100));
    }

    #[tokio::test]
    async fn lower_ranks_go_first_and_equal_ones_in_the_order_of_their_calls() {
        let gate = Gate::new(MemoryBudget::new(10));
        let held = gate.acquire(9, 10).await;
        let mut calls = [(3, 1), (2, 8), (2, 1), (1, 1)].map(|(rank, bytes)| Box::pin(gate.acquire(rank, bytes)));
        // Polled in another order than they were called.
        for call in calls.iter_mut().rev() {
            assert!(call.now_or_never().is_none());
        }
        drop(held);
        let mut ends = Vec::new();
        let mut got = Vec::new();
        for _ in 0..calls.len() {
            for (at, call) in calls.iter_mut().enumerate() {
                if !ends.contains(&at)
                    && let Some(held) = call.now_or_never()
                {
                    ends.push(at);
                    got.push(held);
                    break;
                }
            }
        }
        assert_eq!(ends, [3, 1, 2], "the last does not fit any more");
        got.remove(1);
        assert!((&mut calls[0]).now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_holds_nobody_back() {
        let gate = Gate::new(MemoryBudget::new(10));
        let held = gate.acquire(1, 6).await;
        let large = gate.acquire(1, 8);
        let mut small = Box::pin(gate.acquire(1, 2));
        assert!((&mut small).now_or_never().is_none(), "it is not its turn");
        drop(large);
        assert!((&mut small).now_or_never().is_some());
        drop(held);
    }
}
