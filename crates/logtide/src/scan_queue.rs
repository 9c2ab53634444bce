//! Scans that wait for their turn, shared by the shards (which push and cancel) and the scanners (which take). The order is
//! [`ScanSchedule`]'s; here is the waiting.

use std::time::Instant;

use logtide_initial_scan::{Cancel, ScanSchedule};
use logtide_model::Ts;
use logtide_model::message::{ScanId, ScanRequest};
use parking_lot::{Condvar, Mutex};

/// See the module.
pub(crate) struct ScanQueue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    schedule: ScanSchedule,
    closed: bool,
}

impl ScanQueue {
    /// An empty one; `limit` scans at once.
    pub(crate) fn new(limit: usize) -> Self {
        let state = State { schedule: ScanSchedule::new(limit), closed: false };
        ScanQueue { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds a request that is due at `due`, for a region whose checkpoint is `checkpoint`; an older attempt for the same
    /// task and region is cancelled.
    pub(crate) fn push(&self, request: ScanRequest, due: Instant, checkpoint: Ts) {
        self.state.lock().schedule.push(request, due, checkpoint);
        self.changed.notify_one();
    }

    /// Cancels an attempt, waiting or running; a newer one is left alone.
    pub(crate) fn cancel(&self, id: &ScanId) {
        self.state.lock().schedule.cancel(id);
    }

    /// Waits for the next request that is due and a turn that is free; `None` once closed.
    pub(crate) fn take(&self) -> Option<(ScanRequest, Cancel)> {
        let mut state = self.state.lock();
        while !state.closed {
            let now = Instant::now();
            if let Some(taken) = state.schedule.take(now) {
                return Some(taken);
            }
            match state.schedule.next_turn(now) {
                Some(at) => drop(self.changed.wait_until(&mut state, at)),
                None => self.changed.wait(&mut state),
            }
        }
        None
    }

    /// The next request that is due at `now`, if there is one and a turn is free.
    pub(crate) fn try_take(&self, now: Instant) -> Option<(ScanRequest, Cancel)> {
        self.state.lock().schedule.take(now)
    }

    /// Says that a request that was taken is over: another one has its turn.
    pub(crate) fn done(&self, id: &ScanId) {
        self.state.lock().schedule.done(id);
        self.changed.notify_one();
    }

    /// Changes how many scans run at once.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.state.lock().schedule.set_limit(limit);
        self.changed.notify_all();
    }

    /// How many wait, and how many run.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let counts = self.state.lock().schedule.counts();
        (counts.later + counts.ready, counts.running)
    }

    /// Ends it: everything is cancelled, and `take` returns `None`.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.schedule.close();
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_model::message::{GapFlag, ScanReason};
    use logtide_model::{Compression, Incarnation, KeyRange, Region, RegionEpoch, RegionId, Task, TaskName};
    use std::sync::Arc;
    use std::thread;

    fn request(region_id: RegionId) -> ScanRequest {
        let name = TaskName::new("t").unwrap();
        let task = Task {
            name: name.clone(),
            incarnation: Incarnation(1),
            storage: "memory://t".into(),
            start_ts: Ts::ZERO,
            ranges: vec![KeyRange::ALL],
            compression: Compression::Zstd,
            encryption: None,
        };
        ScanRequest {
            id: ScanId { task: name, region_id, attempt: 1 },
            region: Region { id: region_id, epoch: RegionEpoch::default(), range: KeyRange::ALL },
            term: 1,
            gap: GapFlag::default(),
            task: Arc::new(task),
            failures: 0,
            reason: ScanReason::default(),
        }
    }

    #[test]
    fn who_waits_is_woken_by_a_request_by_a_free_turn_and_by_the_end() {
        let queue = Arc::new(ScanQueue::new(1));
        let taker = |queue: &Arc<ScanQueue>| {
            let queue = queue.clone();
            thread::spawn(move || queue.take().map(|(request, _)| request.id))
        };
        let first = taker(&queue);
        queue.push(request(1), Instant::now(), Ts::ZERO);
        let first = first.join().unwrap().unwrap();
        queue.push(request(2), Instant::now(), Ts::ZERO);
        assert!(queue.try_take(Instant::now()).is_none(), "the only turn is taken");
        let second = taker(&queue);
        queue.done(&first);
        assert_eq!(second.join().unwrap().unwrap().region_id, 2);
        let third = taker(&queue);
        queue.close();
        assert!(third.join().unwrap().is_none());
        assert_eq!(queue.counts().0, 0);
    }
}
