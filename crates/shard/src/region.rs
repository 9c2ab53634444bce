//! A region that this store leads, and what the tasks know of it.

use logtide_checkpoint::{LockOp, Subscription};
use logtide_format::RegionNote;
use logtide_model::message::GapFlag;
use logtide_model::{KeyRange, Region, RegionEpoch, Task, TaskName, Term, Ts};

use crate::marks::Place;

/// A region in the term in which it is led.
#[derive(Debug)]
pub(crate) struct LedRegion {
    pub(crate) region: Region,
    pub(crate) term: Term,
    pub(crate) gap: GapFlag,
    /// The last index whose records were appended.
    pub(crate) streamed: u64,
    /// One for each task that overlaps, by name.
    pub(crate) followers: Vec<Follower>,
    /// What the lock account has for it.
    pub(crate) accounted: usize,
}

/// A task's subscription, and what the metadata of its open generation will say about the region.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) task: TaskName,
    pub(crate) subscription: Subscription,
    /// The task wants every key of the region.
    whole: bool,
    note: RegionNote,
    /// Everything of the region up to here is durable once all that was sealed before is: see [`crate::marks`].
    durable: Option<Ts>,
    /// The start ts of the scan under way.
    scan_start: Ts,
}

impl LedRegion {
    pub(crate) fn new(region: Region, term: Term, gap: GapFlag) -> Self {
        LedRegion { region, term, gap, streamed: 0, followers: Vec::new(), accounted: 0 }
    }

    /// Adds a subscription if the task wants some of the region and has none.
    pub(crate) fn follow(&mut self, task: &Task) {
        let at = self.followers.binary_search_by(|follower| follower.task.cmp(&task.name));
        if let Err(at) = at
            && task.overlaps(&self.region.range)
        {
            let subscription = Subscription::new(self.region.clone(), self.term, self.gap.clone());
            // There is one in nearly all regions, and a list that grows by itself begins with room for four.
            self.followers.reserve_exact(1);
            self.followers.insert(at, Follower::new(task, subscription));
        }
    }

    pub(crate) fn follower(&mut self, task: &TaskName) -> Option<&mut Follower> {
        self.followers.iter_mut().find(|follower| follower.task == *task)
    }
}

impl Follower {
    fn new(task: &Task, subscription: Subscription) -> Self {
        let region = subscription.region();
        let whole = covers(task, &region.range);
        let note = RegionNote { range: region.range.clone(), epochs: vec![region.epoch] };
        Follower { task: task.name.clone(), subscription, whole, note, durable: None, scan_start: Ts::ZERO }
    }

    /// True if the task wants the key.
    pub(crate) fn wants(&self, task: &Task, key: &[u8]) -> bool {
        self.whole || task.contains(key)
    }

    /// The changes to keys that the task wants; `scratch` holds them if that is not all of them.
    pub(crate) fn wanted<'a, 'b>(
        &self,
        task: &Task,
        ops: &'a [LockOp<'b>],
        scratch: &'a mut Vec<LockOp<'b>>,
    ) -> &'a [LockOp<'b>] {
        if self.whole {
            return ops;
        }
        scratch.clear();
        scratch.extend(ops.iter().filter(|op| task.contains(op.key)));
        scratch
    }

    /// The region has another shape or epoch now, as the subscription knows already.
    pub(crate) fn reshaped(&mut self, task: &Task) {
        let region = self.subscription.region();
        self.whole = covers(task, &region.range);
        self.note.range = hull(&self.note.range, &region.range);
        if self.note.epochs.last() != Some(&region.epoch) {
            self.note.epochs.push(region.epoch);
        }
    }

    /// The region has another range: what it stated is nothing about what came to it.
    pub(crate) fn replace(&mut self, region: Region) {
        self.durable = None;
        self.subscription.replace(region);
    }

    /// A scan begins at `start_ts`, which is durable.
    pub(crate) fn scan_from(&mut self, start_ts: Ts) {
        self.scan_start = start_ts;
        self.stated(start_ts);
    }

    /// It stated `checkpoint` at a seal.
    pub(crate) fn stated(&mut self, checkpoint: Ts) {
        self.durable = self.durable.max(Some(checkpoint));
    }

    /// Where something is marked that is applied now.
    pub(crate) fn place(&self) -> Place {
        let region = self.subscription.region();
        Place { region_id: region.id, version: region.epoch.version, after: self.durable }
    }

    /// Where something is marked that a scan found: it may be older than what was stated here, and came after the ts that
    /// the scan starts from.
    pub(crate) fn scan_place(&self) -> Place {
        Place { after: Some(self.scan_start), ..self.place() }
    }

    /// The epochs and the widest range since the last seal.
    pub(crate) fn take_note(&mut self) -> RegionNote {
        let region = self.subscription.region();
        let next = RegionNote { range: region.range.clone(), epochs: vec![region.epoch] };
        std::mem::replace(&mut self.note, next)
    }
}

fn covers(task: &Task, range: &KeyRange) -> bool {
    task.ranges.iter().any(|wanted| wanted.covers(range))
}

/// The smallest range that covers both.
pub(crate) fn hull(a: &KeyRange, b: &KeyRange) -> KeyRange {
    let start = a.start.clone().min(b.start.clone());
    let end = if a.end.is_empty() || b.end.is_empty() { Default::default() } else { a.end.clone().max(b.end.clone()) };
    KeyRange { start, end }
}

/// True if `new` is newer news of the region than `known`.
pub(crate) fn is_newer(new: RegionEpoch, known: RegionEpoch) -> bool {
    new.version > known.version
}
