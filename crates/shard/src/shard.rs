//! The shard: what each message does to tasks and regions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use logtide_checkpoint::{Phase, Rescan};
use logtide_model::message::{Lead, ScanId, ScanReason, ScanRequest, ShardMessage};
use logtide_model::planted::Bug;
use logtide_model::{Region, RegionChange, RegionId, Task, TaskName, Term};
use logtide_temp_file::SpoolError;

use crate::account::LockAccount;
use crate::region::{Follower, LedRegion, is_newer};
use crate::task::TaskWork;
use crate::{ShardConfig, ShardEvent, ShardStats};

/// How many subscriptions give memory back at most when a message overdraws the budget: the search for the largest
/// goes through all regions.
const RELIEFS: usize = 4;

/// The worker of some regions; see the crate's documentation.
#[derive(Debug)]
pub struct Shard {
    pub(crate) config: ShardConfig,
    pub(crate) tasks: BTreeMap<TaskName, TaskWork>,
    pub(crate) regions: HashMap<RegionId, LedRegion>,
    pub(crate) locks: LockAccount,
    pub(crate) counts: ShardStats,
    attempts: u64,
}

impl Shard {
    /// A shard without tasks and regions.
    pub fn new(config: ShardConfig) -> Self {
        Shard {
            locks: LockAccount::new(config.lock_memory.clone()),
            config,
            tasks: BTreeMap::new(),
            regions: HashMap::new(),
            counts: ShardStats::default(),
            attempts: 0,
        }
    }

    /// Handles a message; what follows from it is appended to `out`. The message's memory permit is given back.
    pub fn handle(&mut self, message: ShardMessage, out: &mut Vec<ShardEvent>) {
        match message {
            ShardMessage::Applied(batch) => self.applied(&batch, out),
            ShardMessage::Lead(lead) => self.lead(lead, out),
            ShardMessage::Unlead { region_id, term } => self.unlead(region_id, term, out),
            ShardMessage::RegionChanged(change) => self.region_changed(change, out),
            ShardMessage::StartTask(task) => self.start_task(task, out),
            ShardMessage::StopTask(name) => self.stop_task(&name, out),
            ShardMessage::Scan(step) => self.scan_step(step, out),
            ShardMessage::Seal(marker) => self.seal(&marker, out),
        }
    }

    /// How it is; walks over all regions.
    pub fn stats(&self) -> ShardStats {
        let mut stats = self.counts.clone();
        stats.open = self.tasks.iter().map(|(name, work)| (name.clone(), work.open_bytes())).collect();
        stats.regions = self.regions.len();
        stats.lock_bytes = self.locks.bytes();
        for follower in self.regions.values().flat_map(|region| &region.followers) {
            stats.locks += follower.subscription.locks();
            match follower.subscription.phase() {
                Phase::Pending => {
                    stats.pending += 1;
                    stats.released += usize::from(follower.subscription.rescanned() == Some(Rescan::NoRoom));
                }
                Phase::Scanning => stats.scanning += 1,
                Phase::Observing => stats.observing += 1,
            }
        }
        stats
    }

    fn lead(&mut self, lead: Lead, out: &mut Vec<ShardEvent>) {
        let id = lead.region.id;
        if let Some(known) = self.regions.get_mut(&id) {
            if lead.term < known.term || is_newer(known.region.epoch, lead.region.epoch) {
                self.counts.stale += 1;
                return;
            }
            known.term = lead.term;
            known.gap = lead.gap.clone();
            for follower in &mut known.followers {
                follower.subscription.lead(lead.term, lead.gap.clone());
            }
            self.reshape(lead.region, Reshape::Anew, out);
        } else {
            let region = LedRegion::new(lead.region, lead.term, lead.gap);
            self.regions.insert(id, region);
            self.follow(id, out);
        }
    }

    fn unlead(&mut self, region_id: RegionId, term: Term, out: &mut Vec<ShardEvent>) {
        match self.regions.get(&region_id) {
            Some(known) if term >= known.term => self.drop_region(region_id, out),
            _ => self.counts.stale += 1,
        }
    }

    fn region_changed(&mut self, change: RegionChange, out: &mut Vec<ShardEvent>) {
        match change {
            RegionChange::Split { parent, children, .. } => {
                let how = Reshape::Split { children: children.len() as u64 };
                self.reshape(parent, how, out);
            }
            RegionChange::Merge { target, source } => {
                self.drop_region(source.id, out);
                self.reshape(target, Reshape::Anew, out);
            }
            RegionChange::EpochChange { region } => self.reshape(region, Reshape::Anew, out),
            RegionChange::Destroy { region } => self.drop_region(region.id, out),
        }
    }

    /// A region is now `region`. Without a newer version the range is the same, and what was seen stays (§15.16).
    fn reshape(&mut self, region: Region, how: Reshape, out: &mut Vec<ShardEvent>) {
        let id = region.id;
        let Some(known) = self.regions.get_mut(&id) else { return };
        if is_newer(known.region.epoch, region.epoch) {
            self.counts.stale += 1;
            return;
        }
        let newer = is_newer(region.epoch, known.region.epoch);
        let in_place = how.is_in_place(&known.region, &region);
        let conf_ver = region.epoch.conf_ver.max(known.region.epoch.conf_ver);
        known.region = region;
        known.region.epoch.conf_ver = conf_ver;
        for follower in &mut known.followers {
            let subscription = &mut follower.subscription;
            match (newer, in_place) {
                (false, _) => subscription.set_conf_ver(known.region.epoch),
                (true, true) => subscription.shrink(known.region.clone()),
                (true, false) => follower.replace(known.region.clone()),
            }
            if let Some(work) = self.tasks.get(&follower.task) {
                follower.reshaped(&work.task);
            }
        }
        self.follow(id, out);
    }

    /// Subscribes the tasks that overlap the region, and ends the subscriptions of those that do not any more.
    fn follow(&mut self, id: RegionId, out: &mut Vec<ShardEvent>) {
        let Some(region) = self.regions.get_mut(&id) else { return };
        let range = region.region.range.clone();
        let overlaps = |work: &TaskWork| work.task.overlaps(&range);
        let is_left = |follower: &mut Follower| !self.tasks.get(&follower.task).is_some_and(overlaps);
        let left: Vec<Follower> = region.followers.extract_if(.., is_left).collect();
        for follower in left {
            leave(&mut self.tasks, id, follower, out);
        }
        let tasks = &self.tasks;
        tasks.values().for_each(|work| region.follow(&work.task));
        self.settle(id, out);
    }

    fn drop_region(&mut self, id: RegionId, out: &mut Vec<ShardEvent>) {
        let Some(region) = self.regions.remove(&id) else { return };
        self.locks.change(region.accounted, 0);
        for follower in region.followers {
            leave(&mut self.tasks, id, follower, out);
        }
    }

    fn start_task(&mut self, task: Arc<Task>, out: &mut Vec<ShardEvent>) {
        let name = task.name.clone();
        if let Some(known) = self.tasks.get(&name) {
            if known.task.incarnation == task.incarnation {
                if Bug::ReRegistrationWipes.is_planted() {
                    self.wipe(&name);
                }
                return;
            }
            self.stop_task(&name, out);
        }
        let mut work = TaskWork::new(task, &self.config);
        let opened = work.reopen();
        self.tasks.insert(name.clone(), work);
        if let Err(error) = opened {
            self.poisoned(&name, error, out);
        }
        for id in self.region_ids() {
            self.follow(id, out);
        }
    }

    /// What [`Bug::ReRegistrationWipes`] does.
    fn wipe(&mut self, name: &TaskName) {
        if let Some(work) = self.tasks.get_mut(name) {
            work.wipe();
        }
    }

    fn stop_task(&mut self, name: &TaskName, out: &mut Vec<ShardEvent>) {
        if self.tasks.remove(name).is_some() {
            for id in self.region_ids() {
                self.follow(id, out);
            }
        }
    }

    /// The open generation of a task is lost: see the crate's documentation for what has to be true from now on.
    pub(crate) fn lose(&mut self, name: &TaskName, error: SpoolError, out: &mut Vec<ShardEvent>) {
        if let Some(work) = self.tasks.get_mut(name) {
            work.lose();
        }
        self.poisoned(name, error, out);
        for id in self.region_ids() {
            if let Some(follower) = self.regions.get_mut(&id).and_then(|region| region.follower(name)) {
                follower.subscription.rescan(Rescan::Lost);
                self.settle(id, out);
            }
        }
    }

    fn poisoned(&mut self, name: &TaskName, error: SpoolError, out: &mut Vec<ShardEvent>) {
        self.counts.lost += 1;
        tracing::warn!(task = %name, shard = self.config.shard, %error, "the open generation is lost");
        out.push(ShardEvent::Poisoned { task: name.clone(), error });
    }

    /// Accounts for a region's locks and asks for the scans that it wants; to be called after every change to it.
    pub(crate) fn settle(&mut self, id: RegionId, out: &mut Vec<ShardEvent>) {
        if self.settle_one(id, out) {
            self.relieve(out);
        }
    }

    fn settle_one(&mut self, id: RegionId, out: &mut Vec<ShardEvent>) -> bool {
        let Some(region) = self.regions.get_mut(&id) else { return false };
        let mut memory = 0;
        for follower in &mut region.followers {
            let subscription = &mut follower.subscription;
            memory += subscription.memory();
            if let Some(attempt) = subscription.take_given_up() {
                cancel(id, follower.task.clone(), Some(attempt), out);
            }
            let Some(work) = self.tasks.get(&follower.task) else { continue };
            let given_up = Bug::ScanGivesUp.is_planted() && subscription.failures() > 2;
            if subscription.wants_scan() && !work.is_lost() && !given_up {
                self.attempts += 1;
                let failures = subscription.request_scan(self.attempts);
                out.push(ShardEvent::Scan(ScanRequest {
                    id: ScanId { task: follower.task.clone(), region_id: id, attempt: self.attempts },
                    region: subscription.region().clone(),
                    term: subscription.term(),
                    gap: region.gap.clone(),
                    task: work.task.clone(),
                    failures,
                    reason: reason(subscription.rescanned()),
                }));
            }
        }
        let before = std::mem::replace(&mut region.accounted, memory);
        memory != before && self.locks.change(before, memory)
    }

    /// The budget of locks is overdrawn: those who take most give something back.
    fn relieve(&mut self, out: &mut Vec<ShardEvent>) {
        for _ in 0..RELIEFS {
            let largest = self.regions.values().filter(|region| region.accounted > 0);
            let Some(id) = largest.max_by_key(|region| (region.accounted, region.region.id)).map(|r| r.region.id)
            else {
                return;
            };
            let Some(region) = self.regions.get_mut(&id) else { return };
            let most = region.followers.iter_mut().max_by_key(|follower| follower.subscription.memory());
            if !most.is_some_and(|follower| follower.subscription.relieve()) {
                return;
            }
            self.counts.relieved += 1;
            tracing::debug!(region = id, shard = self.config.shard, "memory of locks is used up");
            self.settle_one(id, out);
            if !self.locks.is_over() {
                return;
            }
        }
    }

    /// The regions in order: what is done to all of them must not depend on hashing.
    pub(crate) fn region_ids(&self) -> Vec<RegionId> {
        let mut ids: Vec<RegionId> = self.regions.keys().copied().collect();
        ids.sort_unstable();
        ids
    }
}

/// How a region came to its new range.
#[derive(Clone, Copy, Debug)]
enum Reshape {
    /// It gave some of it to that many children.
    Split { children: u64 },
    /// By a merge, or nobody knows.
    Anew,
}

impl Reshape {
    /// True if every key of the new range was in the region all the time: a split and nothing else happened. (A split
    /// raises the version by one, or by the number of children.)
    fn is_in_place(self, old: &Region, new: &Region) -> bool {
        match self {
            Reshape::Split { children } => {
                new.epoch.version <= old.epoch.version + children.max(1) && old.range.covers(&new.range)
            }
            Reshape::Anew => false,
        }
    }
}

/// A subscription ends. What it marked and never had a place for may be missing from everything the task has.
fn leave(tasks: &mut BTreeMap<TaskName, TaskWork>, id: RegionId, follower: Follower, out: &mut Vec<ShardEvent>) {
    if let Some(work) = tasks.get_mut(&follower.task) {
        work.marks.place(id, work.task.start_ts);
    }
    cancel(id, follower.task, follower.subscription.end(), out);
}

fn reason(why: Option<Rescan>) -> ScanReason {
    match why {
        None | Some(Rescan::Term) => ScanReason::LeaderChanged,
        Some(Rescan::Range) => ScanReason::RegionChanged,
        Some(_) => ScanReason::Retry,
    }
}

fn cancel(region_id: RegionId, task: TaskName, attempt: Option<u64>, out: &mut Vec<ShardEvent>) {
    if let Some(attempt) = attempt {
        out.push(ShardEvent::CancelScan(ScanId { task, region_id, attempt }));
    }
}
