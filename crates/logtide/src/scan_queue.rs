//! Scans that wait for their turn, shared by the shards (which push and cancel) and the scanners (which take). The order is
//! [`ScanSchedule`]'s; here is the waiting, also for room in the spool: while that is tight no scan begins, and none goes on.

use std::time::{Duration, Instant};

use logtide_initial_scan::{Cancel, ScanSchedule, Waiter};
use logtide_model::Ts;
use logtide_model::message::{ScanId, ScanRequest};
use logtide_temp_file::SpoolRoom;
use parking_lot::{Condvar, Mutex};

/// How soon a spool that was tight is looked at again: nobody tells when files are removed.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// See the module.
pub(crate) struct ScanQueue {
    state: Mutex<State>,
    changed: Condvar,
    room: SpoolRoom,
}

struct State {
    schedule: ScanSchedule,
    closed: bool,
}

impl ScanQueue {
    /// An empty one; `limit` scans at once, what they find goes to `room`.
    pub(crate) fn new(limit: usize, room: SpoolRoom) -> Self {
        let state = State { schedule: ScanSchedule::new(limit), closed: false };
        ScanQueue { state: Mutex::new(state), changed: Condvar::new(), room }
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
            if self.room.is_tight() {
                self.changed.wait_for(&mut state, LOOK_AGAIN);
                continue;
            }
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
        if self.room.is_tight() { None } else { self.state.lock().schedule.take(now) }
    }

    /// Waits until what a scan found may be spooled, or the scan is cancelled. What is applied meanwhile goes first, so that
    /// a scan of more than fits goes on as fast as the spool is emptied, instead of losing its own region's room.
    pub(crate) fn wait_for_room(&self, cancel: &Cancel) {
        let mut state = self.state.lock();
        while self.room.is_tight() && !cancel.is_cancelled() {
            self.changed.wait_for(&mut state, LOOK_AGAIN);
        }
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
    use logtide_model::{
        Compression, Incarnation, KeyRange, MemoryBudget, Region, RegionEpoch, RegionId, Task, TaskName,
    };
    use logtide_temp_file::{Spool, SpoolConfig};
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

    /// Whose disk cannot be used, so that memory is all there is.
    fn room() -> SpoolRoom {
        let nowhere = tempfile::NamedTempFile::new().unwrap();
        let room = SpoolRoom::new(nowhere.path().join("spool"), MemoryBudget::new(16 << 20), u64::MAX);
        let compression = Compression::None;
        let config = SpoolConfig { room: room.clone(), block_size: 4096, compression, encryption: None };
        Spool::new(config, "t").unwrap();
        assert!(room.disk.is_out() && !room.is_tight());
        room
    }

    #[test]
    fn nothing_begins_and_nothing_goes_on_while_the_spool_is_tight() {
        let room = room();
        let queue = Arc::new(ScanQueue::new(2, room.clone()));
        (1..=2).for_each(|region| queue.push(request(region), Instant::now(), Ts::ZERO));
        let (_, cancel) = queue.try_take(Instant::now()).unwrap();
        let full = room.memory.force_acquire(9 << 20);
        assert!(queue.try_take(Instant::now()).is_none(), "there is a turn, and no room");
        let on = |queue: &Arc<ScanQueue>, cancel: &Cancel| {
            let (queue, cancel) = (queue.clone(), cancel.clone());
            thread::spawn(move || queue.wait_for_room(&cancel))
        };
        let (waits, cancelled) = (on(&queue, &cancel), Cancel::default());
        cancelled.cancel();
        on(&queue, &cancelled).join().unwrap();
        let taker = thread::spawn({
            let queue = queue.clone();
            move || queue.take().map(|(request, _)| request.id.region_id)
        });
        assert!(!waits.is_finished() && !taker.is_finished());
        drop(full);
        waits.join().unwrap();
        assert_eq!(taker.join().unwrap(), Some(2));
    }

    #[test]
    fn who_waits_is_woken_by_a_request_by_a_free_turn_and_by_the_end() {
        let queue = Arc::new(ScanQueue::new(1, room()));
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
