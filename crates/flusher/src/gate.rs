//! Memory for uploads: asynchronous waiting in front of an accounted budget.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use logtide_model::{MemoryBudget, Permit};
use tokio::sync::Notify;

/// The budget may be shared with others, who tell nobody when they give back.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Hands out memory of a budget, and makes sure of progress: who holds nothing gets what it asks for, so at least one
/// upload goes on however small the budget is.
#[derive(Debug)]
pub(crate) struct Gate {
    budget: MemoryBudget,
    /// How many hold something. Locked while memory is taken, so that of two only one finds itself alone.
    holders: Mutex<usize>,
    given_back: Notify,
}

/// Memory that is held.
#[derive(Debug)]
pub(crate) struct Held {
    permit: Option<Permit>,
    gate: Arc<Gate>,
}

impl Gate {
    pub(crate) fn new(budget: MemoryBudget) -> Arc<Self> {
        Arc::new(Gate { budget, holders: Mutex::new(0), given_back: Notify::new() })
    }

    /// Waits until there is room for `bytes`, or until nobody else holds anything.
    pub(crate) async fn acquire(self: &Arc<Self>, bytes: u64) -> Held {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        loop {
            let given_back = self.given_back.notified();
            if let Some(permit) = self.try_acquire(bytes) {
                return Held { permit: Some(permit), gate: self.clone() };
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, given_back).await;
        }
    }

    fn try_acquire(&self, bytes: usize) -> Option<Permit> {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let alone = || (*holders == 0).then(|| self.budget.force_acquire(bytes));
        let permit = self.budget.try_acquire(bytes).or_else(alone)?;
        *holders += 1;
        Some(permit)
    }

    /// Accounts what is held already and cannot wait.
    pub(crate) fn account(&self, bytes: u64) -> Permit {
        self.budget.force_acquire(usize::try_from(bytes).unwrap_or(usize::MAX))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.permit = None;
        *self.gate.holders.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.gate.given_back.notify_waiters();
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
        let first = gate.acquire(8).await;
        let mut second = Box::pin(gate.acquire(5));
        assert!((&mut second).now_or_never().is_none());
        assert_eq!(budget.used(), 8);
        drop(first);
        let second = second.await;
        assert_eq!(budget.used(), 5);
        drop(second);
        let large = gate.acquire(100).await;
        assert_eq!(budget.used(), 100);
        assert!(gate.acquire(1).now_or_never().is_none());
        drop(large);
        assert_eq!((budget.used(), budget.peak()), (0, 100));
    }
}
