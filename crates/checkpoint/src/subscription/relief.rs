//! The memory of a subscription, and how it gives some back.

use super::{Locks, Rescan, Scanning, State, Subscription};
use crate::LockTracker;

impl Subscription {
    /// Gives memory back, whatever it costs but the truth; answers false if there is nothing to give.
    ///
    /// * Pending: drops the older half of the queue; a snapshot that is taken soon has it anyway.
    /// * Loading, with more in the queue than in the snapshot's locks: begins anew.
    /// * Else the locks collapse to a lower bound; the next marker states it and has them read anew (§15.11).
    pub fn relieve(&mut self) -> bool {
        match &mut self.state {
            State::Pending(pending) => {
                let gone = pending.queue.trim(pending.queue.memory() / 2);
                if let (Some(gone), Some((from, _))) = (gone, &mut pending.seen) {
                    *from = gone.saturating_add(1);
                }
                gone.is_some()
            }
            State::Scanning(Scanning { locks: Locks::Loading(locks, queue), .. }) => {
                if queue.memory() > locks.memory() {
                    self.rescan(Rescan::Memory);
                    return true;
                }
                collapse(locks)
            }
            State::Scanning(Scanning { locks: Locks::Known(locks), .. }) => collapse(locks),
            State::Observing(observing) => collapse(&mut observing.locks),
        }
    }

    /// Bytes of memory that locks and queued changes take, about.
    pub fn memory(&self) -> usize {
        match &self.state {
            State::Pending(pending) => pending.queue.memory(),
            State::Scanning(Scanning { locks: Locks::Loading(locks, queue), .. }) => locks.memory() + queue.memory(),
            State::Scanning(Scanning { locks: Locks::Known(locks), .. }) => locks.memory(),
            State::Observing(observing) => observing.locks.memory(),
        }
    }

    /// How many locks are known by key.
    pub fn locks(&self) -> usize {
        match &self.state {
            State::Pending(_) => 0,
            State::Scanning(Scanning { locks: Locks::Loading(locks, _) | Locks::Known(locks), .. }) => locks.len(),
            State::Observing(observing) => observing.locks.len(),
        }
    }
}

fn collapse(locks: &mut LockTracker) -> bool {
    let some = !locks.is_empty();
    locks.collapse();
    some
}
