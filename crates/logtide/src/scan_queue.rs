//! Scans that wait for their turn. It owns their order, their backoff and their cancellation; it scans nothing.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use logtide_initial_scan::{Cancel, Waiter};
use logtide_model::message::{ScanId, ScanRequest};
use logtide_model::{RegionId, TaskName};
use parking_lot::{Condvar, Mutex};

/// Requests by due time. Shared by the shards (which push and cancel) and the scanners (which take).
#[derive(Default)]
pub(crate) struct ScanQueue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By due time, then by arrival.
    waiting: BTreeMap<(Instant, u64), (ScanRequest, Cancel)>,
    /// The newest attempt of each task and region, waiting or running.
    newest: HashMap<(TaskName, RegionId), (u64, Cancel)>,
    arrivals: u64,
    running: usize,
    closed: bool,
}

impl ScanQueue {
    /// Adds a request that is due at `due`; an older attempt for the same task and region is cancelled.
    pub(crate) fn push(&self, request: ScanRequest, due: Instant) {
        let mut state = self.state.lock();
        let flag = Cancel::default();
        let key = (request.id.task.clone(), request.id.region_id);
        if let Some((_, older)) = state.newest.insert(key, (request.id.attempt, flag.clone())) {
            older.cancel();
        }
        state.arrivals += 1;
        let place = (due, state.arrivals);
        state.waiting.insert(place, (request, flag));
        self.changed.notify_one();
    }

    /// Cancels an attempt, waiting or running; a newer one is left alone.
    pub(crate) fn cancel(&self, id: &ScanId) {
        let mut state = self.state.lock();
        let key = (id.task.clone(), id.region_id);
        if state.newest.get(&key).is_some_and(|(attempt, _)| *attempt <= id.attempt)
            && let Some((_, flag)) = state.newest.remove(&key)
        {
            flag.cancel();
        }
    }

    /// Waits for the next request that is due; `None` once closed.
    pub(crate) fn take(&self) -> Option<(ScanRequest, Cancel)> {
        let mut state = self.state.lock();
        while !state.closed {
            if let Some(taken) = state.take(Instant::now()) {
                return Some(taken);
            }
            match state.waiting.first_key_value().map(|(place, _)| place.0) {
                Some(due) => drop(self.changed.wait_until(&mut state, due)),
                None => self.changed.wait(&mut state),
            }
        }
        None
    }

    /// The next request that is due at `now`, if there is one.
    pub(crate) fn try_take(&self, now: Instant) -> Option<(ScanRequest, Cancel)> {
        self.state.lock().take(now)
    }

    /// Says that a request that was taken is over.
    pub(crate) fn done(&self, id: &ScanId) {
        let mut state = self.state.lock();
        state.running -= 1;
        let key = (id.task.clone(), id.region_id);
        if state.newest.get(&key).is_some_and(|(attempt, _)| *attempt == id.attempt) {
            state.newest.remove(&key);
        }
    }

    /// How many wait, and how many run.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.waiting.len(), state.running)
    }

    /// Ends it: everything is cancelled, and `take` returns `None`.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.waiting.clear();
        state.newest.drain().for_each(|(_, (_, flag))| flag.cancel());
        self.changed.notify_all();
    }
}

impl State {
    fn take(&mut self, now: Instant) -> Option<(ScanRequest, Cancel)> {
        while let Some(next) = self.waiting.first_entry().filter(|next| next.key().0 <= now) {
            let (request, flag) = next.remove();
            if !flag.is_cancelled() {
                self.running += 1;
                return Some((request, flag));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_model::message::GapFlag;
    use logtide_model::{Compression, Incarnation, KeyRange, Region, RegionEpoch, Task, Ts};
    use std::sync::Arc;
    use std::time::Duration;

    fn request(region_id: RegionId, attempt: u64) -> ScanRequest {
        let name = TaskName::new("t").unwrap();
        let task = Task {
            name: name.clone(),
            incarnation: Incarnation(1),
            storage: "memory://t".into(),
            start_ts: Ts::ZERO,
            ranges: vec![KeyRange::ALL],
            compression: Compression::Zstd,
        };
        ScanRequest {
            id: ScanId { task: name, region_id, attempt },
            region: Region { id: region_id, epoch: RegionEpoch::default(), range: KeyRange::ALL },
            term: 1,
            gap: GapFlag::default(),
            task: Arc::new(task),
            failures: 0,
        }
    }

    #[test]
    fn a_newer_attempt_cancels_the_older_one() {
        let queue = ScanQueue::default();
        queue.push(request(1, 1), Instant::now());
        queue.push(request(1, 2), Instant::now());
        queue.cancel(&request(1, 1).id);
        let (taken, flag) = queue.take().unwrap();
        assert_eq!(taken.id.attempt, 2);
        assert!(!flag.is_cancelled());
        queue.push(request(1, 3), Instant::now());
        assert!(flag.is_cancelled(), "running attempts are cancelled too");
        queue.done(&taken.id);
        assert_eq!(queue.counts(), (1, 0));
    }

    #[test]
    fn due_ones_go_before_those_that_back_off() {
        let queue = ScanQueue::default();
        queue.push(request(1, 1), Instant::now() + Duration::from_secs(3600));
        queue.push(request(2, 1), Instant::now());
        assert_eq!(queue.take().unwrap().0.id.region_id, 2);
        queue.close();
        assert!(queue.take().is_none());
    }
}
