//! What raft applied: seen without a gap or not, and its changes of the locks, in every state.

use logtide_model::planted::Bug;

use super::{Locks, Rescan, State, Subscription};
use crate::LockOp;
use crate::lock_queue::LockQueue;

impl Subscription {
    /// Entries `first..=last` were applied, with these changes of the lock column family.
    ///
    /// Entries that were seen before are skipped. Answers false at a jump: entries were not seen, and the subscription
    /// begins anew with this batch.
    pub fn applied(&mut self, first: u64, last: u64, ops: &[LockOp<'_>]) -> bool {
        let next = match &self.state {
            State::Pending(pending) => return self.applied_while_pending(pending.seen, first, last, ops),
            State::Scanning(scanning) => scanning.next,
            State::Observing(observing) => observing.next,
        };
        if first > next && !Bug::DropUnnoticed.is_planted() {
            self.rescan(Rescan::Gap);
            self.applied_while_pending(None, first, last, ops);
            return false;
        }
        if last >= next {
            self.advance(last, ops);
        }
        true
    }

    fn applied_while_pending(&mut self, seen: Option<(u64, u64)>, first: u64, last: u64, ops: &[LockOp<'_>]) -> bool {
        let State::Pending(pending) = &mut self.state else { return true };
        let from = match seen {
            Some((_, next)) if last < next => return true,
            Some((from, next)) if first <= next => from,
            // A jump: only a snapshot that has all up to here can be of use, and has what is queued.
            _ => {
                (pending.queue, pending.forgotten) = (LockQueue::default(), None);
                first
            }
        };
        pending.seen = Some((from, last.saturating_add(1)));
        pending.queue.push(last, ops);
        true
    }

    fn advance(&mut self, last: u64, ops: &[LockOp<'_>]) {
        let range = &self.region.range;
        let tracker = match &mut self.state {
            State::Pending(_) => return,
            State::Scanning(scanning) => {
                scanning.next = last.saturating_add(1);
                match &mut scanning.locks {
                    Locks::Loading(locks, queue) if locks.is_exact() => return queue.push(last, ops),
                    Locks::Loading(locks, _) | Locks::Known(locks) => locks,
                }
            }
            State::Observing(observing) => {
                observing.next = last.saturating_add(1);
                &mut observing.locks
            }
        };
        // A lock outside of the range belongs to another region, whose changes are not seen here.
        ops.iter().filter(|op| range.contains(op.key)).for_each(|op| tracker.apply(*op));
    }
}
