//! The order of scans: which request has its turn, and when. Pure: no clock, no threads, no scanning.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use logtide_model::message::{ScanId, ScanRequest};
use logtide_model::{RegionId, TaskName, Ts};

use crate::Cancel;

/// Requests that wait, and those that have their turn.
///
/// A request waits until it is due (the backoff after failures), then for one of `limit` turns; it is taken *before* the
/// snapshot, so that no more snapshots are held open than scans run. Among those that are due, the smallest checkpoint
/// goes first, because it holds the global one back; then who came first. There is at most one request for each task and
/// region, so it is bounded by the number of regions.
///
/// A request that fails comes back with a delay, and is not in the way of others meanwhile.
#[derive(Debug)]
pub struct ScanSchedule {
    limit: usize,
    /// By due time, then arrival.
    later: BTreeMap<(Instant, u64), Waiting>,
    /// Those that are due: by checkpoint, then arrival.
    ready: BTreeMap<(Ts, u64), Waiting>,
    /// The newest attempt of each task and region, waiting or running. Only looked up, never walked through.
    newest: HashMap<(TaskName, RegionId), Newest>,
    arrivals: u64,
    running: usize,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    request: ScanRequest,
    checkpoint: Ts,
}

#[derive(Debug)]
struct Newest {
    attempt: u64,
    cancel: Cancel,
    at: At,
}

/// Where a request is.
#[derive(Clone, Copy, Debug)]
enum At {
    Later(Instant, u64),
    Ready(Ts, u64),
    Running,
}

/// How many requests there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScheduleCounts {
    /// Not due yet, as far as [`ScanSchedule::take`] has looked.
    pub later: usize,
    /// Due, and waiting for a turn.
    pub ready: usize,
    /// Taken and not done; cancelled ones too, until they are.
    pub running: usize,
}

impl ScanSchedule {
    /// Nothing to do yet; `limit` scans at once.
    pub fn new(limit: usize) -> Self {
        ScanSchedule {
            limit,
            later: BTreeMap::new(),
            ready: BTreeMap::new(),
            newest: HashMap::new(),
            arrivals: 0,
            running: 0,
            closed: false,
        }
    }

    /// How many scans run at once.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Changes how many scans run at once. Those that run go on, even if they are too many now.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Adds a request that is due at `due` for a region whose checkpoint is `checkpoint`, as far as it is known. An
    /// older attempt for the same task and region is cancelled. Answers false for an attempt that is not newer than one
    /// that is here, and after [`Self::close`]: it is dropped.
    pub fn push(&mut self, request: ScanRequest, due: Instant, checkpoint: Ts) -> bool {
        let key = (request.id.task.clone(), request.id.region_id);
        let attempt = request.id.attempt;
        if self.closed || self.newest.get(&key).is_some_and(|known| known.attempt >= attempt) {
            return false;
        }
        self.remove(&key);
        self.arrivals += 1;
        self.later.insert((due, self.arrivals), Waiting { request, checkpoint });
        let at = At::Later(due, self.arrivals);
        self.newest.insert(key, Newest { attempt, cancel: Cancel::default(), at });
        true
    }

    /// The region's checkpoint is no more than `checkpoint`: if it waits, it goes before those with larger ones.
    pub fn hasten(&mut self, task: &TaskName, region_id: RegionId, checkpoint: Ts) {
        let Some(newest) = self.newest.get_mut(&(task.clone(), region_id)) else { return };
        match newest.at {
            At::Later(due, arrival) => {
                if let Some(waiting) = self.later.get_mut(&(due, arrival)) {
                    waiting.checkpoint = checkpoint.min(waiting.checkpoint);
                }
            }
            At::Ready(before, arrival) if checkpoint < before => {
                if let Some(waiting) = self.ready.remove(&(before, arrival)) {
                    self.ready.insert((checkpoint, arrival), Waiting { checkpoint, ..waiting });
                    newest.at = At::Ready(checkpoint, arrival);
                }
            }
            At::Ready(..) | At::Running => {}
        }
    }

    /// Cancels an attempt, waiting or running; a newer one is left alone. Answers false if there was none.
    pub fn cancel(&mut self, id: &ScanId) -> bool {
        let key = (id.task.clone(), id.region_id);
        let known = self.newest.get(&key).is_some_and(|known| known.attempt <= id.attempt);
        known && self.remove(&key)
    }

    /// The request whose turn it is, if one is due at `now` and a turn is free. [`Self::done`] gives the turn back.
    pub fn take(&mut self, now: Instant) -> Option<(ScanRequest, Cancel)> {
        if self.closed || self.running >= self.limit {
            return None;
        }
        self.promote(now);
        let (_, Waiting { request, .. }) = self.ready.pop_first()?;
        let newest = self.newest.get_mut(&(request.id.task.clone(), request.id.region_id))?;
        newest.at = At::Running;
        self.running += 1;
        Some((request, newest.cancel.clone()))
    }

    /// A request that was taken is over, however it ended.
    pub fn done(&mut self, id: &ScanId) {
        self.running = self.running.saturating_sub(1);
        let key = (id.task.clone(), id.region_id);
        if self.newest.get(&key).is_some_and(|known| known.attempt == id.attempt) {
            self.newest.remove(&key);
        }
    }

    /// When [`Self::take`] has something to answer if nothing else happens: `now` or a later time. `None` if it takes a
    /// push, a turn that is given back or a higher limit.
    pub fn next_turn(&self, now: Instant) -> Option<Instant> {
        if self.closed || self.running >= self.limit {
            return None;
        }
        if !self.ready.is_empty() {
            return Some(now);
        }
        self.later.first_key_value().map(|((due, _), _)| now.max(*due))
    }

    /// How many requests there are.
    pub fn counts(&self) -> ScheduleCounts {
        ScheduleCounts { later: self.later.len(), ready: self.ready.len(), running: self.running }
    }

    /// Ends it: everything is cancelled, and nothing is taken or added any more.
    pub fn close(&mut self) {
        self.closed = true;
        self.later.clear();
        self.ready.clear();
        self.newest.drain().for_each(|(_, newest)| newest.cancel.cancel());
    }

    fn promote(&mut self, now: Instant) {
        while let Some(first) = self.later.first_entry() {
            let (due, arrival) = *first.key();
            if due > now {
                return;
            }
            let waiting = first.remove();
            let id = &waiting.request.id;
            if let Some(newest) = self.newest.get_mut(&(id.task.clone(), id.region_id)) {
                newest.at = At::Ready(waiting.checkpoint, arrival);
                self.ready.insert((waiting.checkpoint, arrival), waiting);
            }
        }
    }

    /// Cancels what is there for a task and a region.
    fn remove(&mut self, key: &(TaskName, RegionId)) -> bool {
        let Some(newest) = self.newest.remove(key) else { return false };
        newest.cancel.cancel();
        match newest.at {
            At::Later(due, arrival) => drop(self.later.remove(&(due, arrival))),
            At::Ready(checkpoint, arrival) => drop(self.ready.remove(&(checkpoint, arrival))),
            At::Running => {}
        }
        true
    }
}
