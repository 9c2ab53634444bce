//! The memory of a subscription, and how it gives some back.

use super::{Locks, Observing, Scanning, State, Subscription};
use crate::lock_queue::Forgotten;

impl Subscription {
    /// Gives memory back, whatever it costs but the truth; answers false if there is nothing to give.
    ///
    /// * Pending: forgets the older half of the queue. A snapshot that is taken soon has it anyway; if not, its locks begin
    ///   with a lower bound.
    /// * Else the locks, and what waits for them, collapse to a lower bound, which markers state; when it can help, the
    ///   locks are read anew (§15.11).
    ///
    /// No attempt begins anew for it: what takes too much memory now may do so in the next attempt.
    pub fn relieve(&mut self) -> bool {
        let before = self.memory();
        match &mut self.state {
            State::Pending(pending) => {
                let (gone, before) = (pending.queue.trim(pending.queue.memory() / 2), pending.forgotten);
                let floor = |gone: Forgotten| before.map_or(gone.floor, |before| before.floor.min(gone.floor));
                pending.forgotten = gone.map(|gone| Forgotten { floor: floor(gone), ..gone }).or(before);
            }
            State::Scanning(Scanning { locks: Locks::Loading(locks, queue), .. }) if before > 0 => {
                locks.collapse();
                std::mem::take(queue).replay(&self.region.range, locks);
            }
            State::Scanning(Scanning { locks: Locks::Known(locks), .. })
            | State::Observing(Observing { locks, .. })
                if before > 0 =>
            {
                locks.collapse();
            }
            State::Scanning(_) | State::Observing(_) => {}
        }
        self.memory() < before
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
