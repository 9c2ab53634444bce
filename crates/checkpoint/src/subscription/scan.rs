//! The steps of a scan, in the only order that counts.

use logtide_model::Ts;
use logtide_model::planted::Bug;

use super::{Locks, Observing, Phase, Rescan, Scanning, State, Subscription};
use crate::LockTracker;
use crate::lock_queue::LockQueue;

impl Subscription {
    /// A snapshot was taken at `applied_index`, to be read from `start_ts` on. Answers false if the step is stale.
    pub fn scan_started(&mut self, attempt: u64, start_ts: Ts, applied_index: u64) -> bool {
        let State::Pending(pending) = &mut self.state else { return self.unexpected_step(attempt) };
        if self.attempt != Some(attempt) {
            return false;
        }
        let first_after = applied_index.saturating_add(1);
        let next = match pending.seen {
            // What lies between the snapshot and the first entry seen would be missing.
            Some((from, _)) if from > first_after => {
                self.rescan(Rescan::Gap);
                return true;
            }
            Some((_, next)) => next.max(first_after),
            None => first_after,
        };
        let mut queue = std::mem::take(&mut pending.queue);
        queue.drop_through(applied_index);
        let locks = match pending.forgotten {
            // Not all that was forgotten is in the snapshot.
            Some(forgotten) if forgotten.through > applied_index => {
                let mut locks = LockTracker::bounded(forgotten.floor);
                queue.replay(&self.region.range, &mut locks);
                Locks::Loading(locks, LockQueue::default())
            }
            _ => Locks::Loading(LockTracker::new(), queue),
        };
        self.state = State::Scanning(Scanning { start_ts, next, locks });
        true
    }

    /// A lock of the snapshot. Answers false if the step is stale.
    pub fn scan_lock(&mut self, attempt: u64, key: &[u8], start_ts: Ts) -> bool {
        if Bug::StaleScanLock.is_planted()
            && let State::Observing(observing) = &mut self.state
        {
            observing.locks.track(key, start_ts);
        }
        if self.attempt != Some(attempt) {
            return false;
        }
        let State::Scanning(Scanning { locks: Locks::Loading(locks, _), .. }) = &mut self.state else {
            return self.unexpected_step(attempt);
        };
        if self.region.range.contains(key) {
            locks.track(key, start_ts);
        }
        true
    }

    /// All locks of the snapshot were told: replays the changes after it. Answers false if the step is stale.
    pub fn scan_locks_done(&mut self, attempt: u64) -> bool {
        if self.attempt != Some(attempt) {
            return false;
        }
        let State::Scanning(Scanning { locks, .. }) = &mut self.state else { return self.unexpected_step(attempt) };
        let Locks::Loading(tracker, queue) = locks else { return self.unexpected_step(attempt) };
        let mut tracker = std::mem::take(tracker);
        tracker.rebase();
        if !Bug::ScanQueueLost.is_planted() {
            std::mem::take(queue).replay(&self.region.range, &mut tracker);
        }
        *locks = Locks::Known(tracker);
        true
    }

    /// True if records of that attempt are wanted.
    pub fn wants_data(&self, attempt: u64) -> bool {
        self.attempt == Some(attempt) && self.phase() == Phase::Scanning
    }

    /// All records were told, and the caller has them. Answers false if the step is stale.
    pub fn scan_finished(&mut self, attempt: u64) -> bool {
        if self.attempt != Some(attempt) {
            return false;
        }
        let State::Scanning(Scanning { next, locks: Locks::Known(locks), .. }) = &mut self.state else {
            return self.unexpected_step(attempt);
        };
        self.state = State::Observing(Observing { next: *next, locks: std::mem::take(locks) });
        self.attempt = None;
        true
    }

    /// The attempt is over without result. Answers false if the step is stale.
    pub fn scan_failed(&mut self, attempt: u64) -> bool {
        self.unexpected_step(attempt)
    }

    /// A step that its place does not allow: such a scan proves nothing.
    fn unexpected_step(&mut self, attempt: u64) -> bool {
        if self.attempt != Some(attempt) {
            return false;
        }
        self.rescan(Rescan::Failed);
        true
    }
}
