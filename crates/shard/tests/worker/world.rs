//! A small cluster as one store sees it: regions with true logs that split and merge, leaders that change, a host that
//! applies and tells, an observer that drops batches, scanners, two tasks that seal, a disk that breaks. A list of
//! numbers drives it. It knows of every fact whether the sealed spools have what it claims.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use logtide_checkpoint::Cover;
use logtide_model::message::{
    AppliedBatch, GapFlag, Lead, ScanEntry, ScanEvent, ScanRequest, ScanStep, SealMarker, ShardMessage,
};
use logtide_model::{
    Cf, Confirmed, HostError, KeyRange, Op, RegionChange, RegionFact, Task, Ts, encode_raw_key, split_ts,
};
use logtide_shard::SealedShard;

use crate::fixture::{Fixture, records, scan_entry, task, value, write};
use crate::raft::{Entry, KEYS, RaftRegion, State, commit_of, contains, letter, ops_of};
use crate::totals::Outcome;

const TASKS: [&str; 2] = ["all", "some"];

/// Runs a history, lets the world come to rest, judges every fact. `tight`: with almost no memory, so on disk.
pub(crate) fn run(actions: &[u32], tight: bool) -> Outcome {
    let mut world = World::new(tight);
    for action in actions {
        world.act(*action);
    }
    world.outcome.caught_up = world.come_to_rest();
    world.judge();
    let stats = world.fixture.shard.stats();
    (world.outcome.totals.gaps, world.outcome.totals.releases) = (stats.gaps, stats.releases);
    world.outcome
}

/// A key's transaction in the lock column family.
#[derive(Clone, Debug)]
struct Txn {
    start: u64,
    /// The region and index of its lock.
    region: u64,
    index: u64,
    commit: Option<u64>,
}

struct Scan {
    request: ScanRequest,
    cleared: bool,
    steps: Option<VecDeque<ScanEvent>>,
}

#[derive(Clone)]
enum Seal {
    Idle,
    Barrier { barrier: u64, told: BTreeMap<u64, u64> },
    Ready { barrier: u64, confirmed: Vec<Confirmed> },
}

struct Fact {
    task: usize,
    generation: u64,
    range: KeyRange,
    checkpoint: u64,
    what: String,
}

/// A task's progress.
struct TaskWorld {
    task: Arc<Task>,
    started: bool,
    generation: u64,
    seal: Seal,
    cover: Cover,
    /// Version and index of what was published of each region, the largest.
    indexes: BTreeMap<u64, (u64, u64)>,
    unpublished: VecDeque<Vec<RegionFact>>,
    /// The first generation that has a write record, by commit ts.
    writes: BTreeMap<u64, u64>,
    /// The first generation that has a value, by key and start ts.
    values: BTreeMap<(u8, u64), u64>,
}

struct World {
    fixture: Fixture,
    queue: VecDeque<ShardMessage>,
    now: u64,
    regions: BTreeMap<u64, RaftRegion>,
    txns: BTreeMap<u8, Txn>,
    scans: Vec<Scan>,
    tasks: Vec<TaskWorld>,
    facts: Vec<Fact>,
    disk_broken: bool,
    outcome: Outcome,
}

impl World {
    fn new(tight: bool) -> Self {
        let fixture = if tight { Fixture::with_memory(1, 4 << 10) } else { Fixture::with_memory(64 << 20, 1 << 20) };
        // One can lose generations, the other can find no room.
        let tasks = [task(TASKS[0], &[("", "")]), fixture.encrypted(TASKS[1], &[("c", "h"), ("k", "n")])];
        let tasks = tasks.map(|task| TaskWorld {
            task,
            started: false,
            generation: 0,
            seal: Seal::Idle,
            cover: Cover::new(),
            indexes: BTreeMap::new(),
            unpublished: VecDeque::new(),
            writes: BTreeMap::new(),
            values: BTreeMap::new(),
        });
        let regions = [(1, 0, 6), (2, 6, KEYS)];
        let regions = regions.map(|(id, start, end)| (id, RaftRegion::new(start, end, 1, State::default(), true)));
        let mut world = World {
            fixture,
            queue: VecDeque::new(),
            now: 100,
            regions: regions.into(),
            txns: BTreeMap::new(),
            scans: Vec::new(),
            tasks: tasks.into(),
            facts: Vec::new(),
            disk_broken: false,
            outcome: Outcome::default(),
        };
        world.start_task(0);
        world.lead(1);
        world.lead(2);
        world
    }

    fn act(&mut self, action: u32) {
        let pick = (action >> 6) as usize;
        let region = self.pick_region(pick);
        match action % 64 {
            0..=7 => self.prewrite(pick as u8 % KEYS),
            8..=11 => self.take_commit_ts(pick),
            12..=17 => self.finish_txn(pick, pick.is_multiple_of(9)),
            18..=23 => self.apply(region, 1 + (pick / 7) as u64 % 4),
            24..=31 => self.tell(region, 1 + (pick / 7) as u64 % 4, pick.is_multiple_of(11)),
            32..=42 => self.advance_scan(pick, pick.is_multiple_of(37)),
            43..=45 => self.advance_seal(pick % self.tasks.len(), pick / 2),
            46..=55 => self.process(),
            56..=57 => self.publish(pick % self.tasks.len()),
            58 if pick.is_multiple_of(10) => self.split(region, pick / 10),
            59 if pick.is_multiple_of(12) => self.merge(region),
            60 if pick.is_multiple_of(6) => self.change_leader(region),
            61 if pick.is_multiple_of(64) => self.toggle_disk(),
            61 if pick % 64 == 1 => self.fixture.break_spool(),
            61 if pick % 16 == 2 => self.fixture.mend_spool(),
            62 if pick.is_multiple_of(8) => self.start_task(1),
            63 if pick.is_multiple_of(8) => self.audit(region),
            _ => {}
        }
    }

    fn timestamp(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn pick_region(&self, pick: usize) -> u64 {
        let alive: Vec<u64> = self.regions.iter().filter(|(_, r)| !r.gone).map(|(id, _)| *id).collect();
        alive[pick % alive.len()]
    }

    /// The region that has a key at the ends of the logs.
    fn owner(&mut self, key: u8) -> (u64, &mut RaftRegion) {
        let mut alive = self.regions.iter_mut().filter(|(_, region)| !region.gone);
        let (id, region) = alive.find(|(_, region)| region.start <= key && key < region.end()).unwrap();
        (*id, region)
    }

    fn prewrite(&mut self, key: u8) {
        if !self.txns.contains_key(&key) {
            let start = self.timestamp();
            let (id, region) = self.owner(key);
            region.log.push(Entry::Lock { key, start });
            let index = region.log.len() as u64;
            self.txns.insert(key, Txn { start, region: id, index, commit: None });
        }
    }

    /// A commit ts is taken once the lock is acknowledged; where this store led, it was told before (H1).
    fn take_commit_ts(&mut self, pick: usize) {
        let commit = self.timestamp();
        let regions = &self.regions;
        let acknowledged = |txn: &Txn| !regions[&txn.region].leading || txn.index <= regions[&txn.region].told;
        let ready = self.txns.iter().filter(|(_, txn)| txn.commit.is_none() && acknowledged(txn));
        let ready: Vec<u8> = ready.map(|(key, _)| *key).collect();
        if let Some(key) = ready.get(pick % ready.len().max(1)) {
            self.txns.get_mut(key).unwrap().commit = Some(commit);
        }
    }

    fn finish_txn(&mut self, pick: usize, rollback: bool) {
        let ready = self.txns.iter().filter(|(_, txn)| txn.commit.is_some() != rollback);
        let ready: Vec<u8> = ready.map(|(key, _)| *key).collect();
        let Some(key) = ready.get(pick % ready.len().max(1)).copied() else { return };
        let txn = self.txns.remove(&key).unwrap();
        let entry = match txn.commit {
            Some(commit) => Entry::Commit { key, start: txn.start, commit },
            None => Entry::Rollback { key },
        };
        self.outcome.totals.commits += usize::from(txn.commit.is_some());
        self.owner(key).1.log.push(entry);
    }

    fn apply(&mut self, id: u64, n: u64) {
        let region = self.regions.get_mut(&id).unwrap();
        if region.here {
            region.applied = (region.applied + n).min(region.log.len() as u64);
        }
    }

    /// Tells up to `n` applied entries; a change of shape ends a batch and is told after it.
    fn tell(&mut self, id: u64, n: u64, drop: bool) {
        let region = self.regions.get_mut(&id).unwrap();
        let first = region.told + 1;
        let (mut last, mut reshaped) = (region.told, false);
        while last < region.applied && last < region.told.saturating_add(n) && !reshaped {
            last += 1;
            reshaped = matches!(region.log[last as usize - 1], Entry::Split { .. } | Entry::Merge { .. });
        }
        if !region.here || last < first {
            return;
        }
        region.told = last;
        let leading = region.leading;
        if leading && drop {
            region.flag.raise();
        } else if leading {
            let ops = region.log[first as usize - 1..last as usize].iter().flat_map(ops_of).collect();
            let permit = self.fixture.in_flight.force_acquire(0);
            let version = region.shape(last).1;
            let batch = AppliedBatch {
                region_id: id,
                version,
                term: region.term,
                first_index: first,
                last_index: last,
                ops,
                permit,
            };
            self.queue.push_back(ShardMessage::Applied(batch));
        }
        if reshaped {
            self.reshaped(id, last, leading);
        }
    }

    fn reshaped(&mut self, id: u64, index: u64, leading: bool) {
        let region = &self.regions[&id];
        let (now, term) = (region.region(id, index), region.term);
        let change = match region.log[index as usize - 1].clone() {
            Entry::Split { child, .. } => {
                let child_region = self.regions.get_mut(&child).unwrap();
                child_region.here = true;
                let children = vec![child_region.region(child, 0)];
                RegionChange::Split { parent: now, children, leader: leading, term }
            }
            Entry::Merge { source, .. } => {
                let source = self.regions[&source].region(source, u64::MAX);
                RegionChange::Merge { target: now, source }
            }
            _ => return,
        };
        if leading {
            self.queue.push_back(ShardMessage::RegionChanged(change));
        }
    }

    fn lead(&mut self, id: u64) {
        let region = self.regions.get_mut(&id).unwrap();
        region.term += 1;
        region.log.push(Entry::Noop);
        self.apply_all(id);
        let region = self.regions.get_mut(&id).unwrap();
        region.leading = true;
        region.flag = GapFlag::default();
        let lead = Lead { region: region.region(id, region.told), term: region.term, gap: region.flag.clone() };
        self.queue.push_back(ShardMessage::Lead(lead));
    }

    fn apply_all(&mut self, id: u64) {
        self.apply(id, u64::MAX >> 1);
        while self.regions[&id].told < self.regions[&id].applied {
            self.tell(id, 4, false);
        }
    }

    fn change_leader(&mut self, id: u64) {
        let region = self.regions.get_mut(&id).unwrap();
        if region.leading {
            region.leading = false;
            region.term += 1;
            self.queue.push_back(ShardMessage::Unlead { region_id: id, term: region.term });
        } else if region.here {
            self.lead(id);
        }
    }

    /// The façade's audit tells of a leadership again.
    fn audit(&mut self, id: u64) {
        let region = &self.regions[&id];
        if region.leading {
            let lead = Lead { region: region.region(id, region.told), term: region.term, gap: region.flag.clone() };
            self.queue.push_back(ShardMessage::Lead(lead));
        }
    }

    fn split(&mut self, id: u64, pick: usize) {
        let child = *self.regions.keys().last().unwrap() + 1;
        let region = self.regions.get_mut(&id).unwrap();
        let (end, version) = region.shape(u64::MAX);
        if end - region.start < 2 || self.regions.len() > 12 {
            return;
        }
        let region = self.regions.get_mut(&id).unwrap();
        let at = region.start + 1 + (pick as u8) % (end - region.start - 1);
        let mut base = region.state(u64::MAX);
        base.locks.retain(|key, _| *key >= at);
        base.commits.retain(|_, (key, _)| *key >= at);
        region.log.push(Entry::Split { at, child });
        self.outcome.totals.splits += 1;
        self.regions.insert(child, RaftRegion::new(at, end, version + 1, base, false));
    }

    /// The right neighbour is merged into the region. Its log ends first, on every store.
    fn merge(&mut self, id: u64) {
        let end = self.regions[&id].end();
        let Some((&source, _)) = self.regions.iter().find(|(_, r)| !r.gone && r.start == end) else { return };
        if !self.regions[&id].here || !self.regions[&source].here {
            return;
        }
        self.apply_all(source);
        let from = self.regions.get_mut(&source).unwrap();
        from.gone = true;
        from.leading = false;
        let (state, (source_end, _)) = (from.state(u64::MAX), from.shape(u64::MAX));
        let target = self.regions.get_mut(&id).unwrap();
        target.log.push(Entry::Merge { source, end: source_end, state });
        self.queue.push_back(ShardMessage::Unlead { region_id: source, term: u64::MAX });
        self.outcome.totals.merges += 1;
    }

    fn start_task(&mut self, at: usize) {
        if !std::mem::replace(&mut self.tasks[at].started, true) {
            self.queue.push_back(ShardMessage::StartTask(self.tasks[at].task.clone()));
        }
    }

    fn toggle_disk(&mut self) {
        if self.disk_broken {
            self.fixture.mend_disk()
        } else {
            self.fixture.break_disk()
        }
        self.disk_broken = !self.disk_broken;
    }

    fn advance_scan(&mut self, pick: usize, fail: bool) {
        if self.scans.is_empty() {
            return;
        }
        let at = pick % self.scans.len();
        let scan = &mut self.scans[at];
        let id = scan.request.id.clone();
        let region = &self.regions[&id.region_id];
        let applied = region.region(id.region_id, region.applied).epoch.version;
        let refused = region.gone || !region.leading || scan.request.region.epoch.version != applied;
        if fail || (scan.cleared && scan.steps.is_none() && refused) {
            self.scans.swap_remove(at);
            let event = ScanEvent::Failed(HostError::NotLeader(id.region_id));
            return self.queue.push_back(ShardMessage::Scan(ScanStep { id, event }));
        }
        if !scan.cleared {
            scan.request.gap.clear();
            scan.cleared = true;
        } else if scan.steps.is_none() {
            let request = scan.request.clone();
            let steps = self.catch_up(&request, pick / 64).unwrap_or_else(|| self.snapshot(&request));
            self.outcome.totals.replays += usize::from(steps.iter().any(|s| matches!(s, ScanEvent::Replayed { .. })));
            self.scans[at].steps = Some(steps);
        } else if let Some(event) = scan.steps.as_mut().and_then(VecDeque::pop_front) {
            self.queue.push_back(ShardMessage::Scan(ScanStep { id, event }));
        } else {
            self.scans.swap_remove(at);
        }
    }

    /// The first steps: the snapshot, and its locks in the ranges.
    fn locks(&self, state: &State, start_ts: Ts, index: u64, wanted: &[KeyRange]) -> VecDeque<ScanEvent> {
        let locks = state.locks.iter().filter(|(key, _)| wanted.iter().any(|range| contains(range, **key)));
        let locks =
            locks.map(|(key, start)| (encode_raw_key(letter(*key).as_bytes()).into(), Ts::new(*start))).collect();
        VecDeque::from([
            ScanEvent::Started { start_ts, applied_index: index },
            ScanEvent::Locks { locks, permit: self.fixture.in_flight.force_acquire(0) },
            ScanEvent::LocksDone,
        ])
    }

    fn wanted(&self, request: &ScanRequest) -> (&TaskWorld, &RaftRegion, Vec<KeyRange>) {
        let of = self.tasks.iter().find(|of| of.task.name == request.task.name).unwrap();
        let region = &self.regions[&request.id.region_id];
        let range = region.region(request.id.region_id, region.applied).range;
        let wanted = of.task.ranges.iter().filter_map(|wanted| wanted.intersect(&range)).collect();
        (of, region, wanted)
    }

    /// The steps of a catch-up from the log behind the published index. The host keeps the last entries only.
    fn catch_up(&self, request: &ScanRequest, pick: usize) -> Option<VecDeque<ScanEvent>> {
        let (of, region, wanted) = self.wanted(request);
        let version = request.region.epoch.version;
        let (_, index) = *of.indexes.get(&request.id.region_id).filter(|(known, _)| *known == version)?;
        let kept = region.applied.saturating_sub([0, 10, 100, 1000][pick % 4]);
        if index < kept || region.shape(index).1 != version {
            return None;
        }
        let start_ts = of.cover.min_over(&wanted, of.task.start_ts);
        let mut steps = self.locks(&region.state(region.applied), start_ts, region.applied, &wanted);
        for (entry, index) in region.log[..region.applied as usize].iter().zip(1..).skip(index as usize) {
            let data = |op: &Op| match op {
                Op::Put { cf: Cf::Default | Cf::Write, key, .. } => wanted.iter().any(|range| range.contains(key)),
                _ => false,
            };
            let ops = ops_of(entry).into_iter().filter(data).collect();
            steps.push_back(ScanEvent::Replayed { index, ops, permit: self.fixture.in_flight.force_acquire(0) });
        }
        steps.push_back(ScanEvent::Finished);
        Some(steps)
    }

    fn snapshot(&self, request: &ScanRequest) -> VecDeque<ScanEvent> {
        let (of, region, wanted) = self.wanted(request);
        let start_ts = of.cover.min_over(&wanted, of.task.start_ts);
        let state = region.state(region.applied);
        let wants = |key: &u8| wanted.iter().any(|range| contains(range, *key));
        let locks = state.locks.iter().filter(|(key, _)| wants(key));
        let mut data: Vec<ScanEntry> = locks.map(|(key, start)| scan_entry(value(&letter(*key), *start))).collect();
        for (commit, (key, start)) in state.commits.range(start_ts.get() + 1..) {
            if wants(key) {
                data.push(scan_entry(value(&letter(*key), *start)));
                data.push(scan_entry(write(&letter(*key), *start, *commit)));
            }
        }
        let mut steps = self.locks(&state, start_ts, region.applied, &wanted);
        let permit = || self.fixture.in_flight.force_acquire(0);
        steps.extend(data.chunks(5).map(|chunk| ScanEvent::Data { entries: chunk.to_vec(), permit: permit() }));
        steps.push_back(ScanEvent::Finished);
        steps
    }

    fn advance_seal(&mut self, at: usize, pick: usize) {
        if !self.tasks[at].started {
            return;
        }
        self.tasks[at].seal = match self.tasks[at].seal.clone() {
            Seal::Idle => {
                let told = self.regions.iter().map(|(id, region)| (*id, region.told)).collect();
                Seal::Barrier { barrier: self.timestamp(), told }
            }
            Seal::Barrier { barrier, told } => {
                let led = self.regions.iter().filter(|(_, region)| region.leading);
                let confirmed = led.map(|(id, region)| Confirmed {
                    region_id: *id,
                    term: region.term,
                    version: region.shape(u64::MAX).1,
                    applied_index: told.get(id).copied().filter(|_| pick.is_multiple_of(2)).unwrap_or(region.told),
                });
                Seal::Ready { barrier, confirmed: confirmed.collect() }
            }
            Seal::Ready { barrier, confirmed } => {
                self.send_marker(at, barrier, confirmed);
                Seal::Idle
            }
        };
    }

    fn send_marker(&mut self, at: usize, barrier: u64, confirmed: Vec<Confirmed>) {
        let of = &mut self.tasks[at];
        of.generation += 1;
        let confirmed = confirmed.into_iter().map(|c| (c.region_id, c)).collect();
        let (task, generation) = (of.task.name.clone(), of.generation);
        let marker = SealMarker { task, generation, barrier: Ts::new(barrier), confirmed };
        self.queue.push_back(ShardMessage::Seal(Arc::new(marker)));
    }

    /// Generations are published in order, each as a whole.
    fn publish(&mut self, at: usize) {
        let of = &mut self.tasks[at];
        for fact in of.unpublished.pop_front().into_iter().flatten() {
            of.cover.insert(&fact.range, fact.checkpoint);
            if let Some(index) = fact.log_index() {
                let known = of.indexes.entry(fact.region_id).or_default();
                *known = (fact.version, index).max(*known);
            }
        }
    }

    fn process(&mut self) {
        let Some(message) = self.queue.pop_front() else { return };
        self.fixture.send(message);
        let requests = self.fixture.scans.drain(..);
        self.scans.extend(requests.map(|request| Scan { request, cleared: false, steps: None }));
        while let Some(part) = self.fixture.sealed.pop() {
            self.sealed(&part);
        }
    }

    fn sealed(&mut self, part: &SealedShard) {
        let at = TASKS.iter().position(|name| *name == part.task.as_str()).unwrap();
        let of = &mut self.tasks[at];
        self.outcome.totals.seals += 1;
        self.outcome.totals.lost += usize::from(part.lost);
        assert!(!part.lost || (part.facts.is_empty() && part.spool.files.is_empty()));
        for (_, cf, _, key, bytes) in records(part) {
            let (user, ts) = split_ts(&key).unwrap();
            let key = user[0] - b'a';
            match cf {
                Cf::Write => drop(of.writes.entry(ts.get()).or_insert(part.generation)),
                _ => {
                    assert_eq!(bytes, format!("{}@{ts}", letter(key)).into_bytes());
                    of.values.entry((key, ts.get())).or_insert(part.generation);
                }
            }
        }
        self.outcome.totals.facts += part.facts.len();
        for fact in &part.facts {
            let what = format!("{fact:?} in generation {} of {}", part.generation, part.task);
            let (range, checkpoint) = (fact.range.clone(), fact.checkpoint.get());
            self.facts.push(Fact { task: at, generation: part.generation, range, checkpoint, what });
        }
        of.unpublished.push_back(part.facts.clone());
    }

    /// No more faults: everything ends, and every region has to find its way to the barrier.
    fn come_to_rest(&mut self) -> bool {
        if self.disk_broken {
            self.toggle_disk();
        }
        self.fixture.mend_spool();
        self.start_task(1);
        while !self.txns.is_empty() {
            self.finish_txn(0, false);
            self.finish_txn(0, true);
        }
        for _ in 0..4 {
            for id in self.regions.keys().copied().collect::<Vec<_>>() {
                match &self.regions[&id] {
                    region if region.gone || !region.here => {}
                    region if region.leading => self.apply_all(id),
                    _ => self.lead(id),
                }
            }
        }
        // Locks that were forgotten are read anew after 16 markers at the latest.
        (0..24).any(|_| self.round())
    }

    fn round(&mut self) -> bool {
        let mut steps = 0;
        while !self.queue.is_empty() || !self.scans.is_empty() {
            self.advance_scan(0, false);
            self.process();
            steps += 1;
            if steps > 10_000 {
                return false;
            }
        }
        let mut done = true;
        for at in 0..self.tasks.len() {
            self.tasks[at].seal = Seal::Idle;
            (0..2).for_each(|_| self.advance_seal(at, 1));
            let Seal::Ready { barrier, .. } = self.tasks[at].seal else { return false };
            self.advance_seal(at, 1);
            while !self.queue.is_empty() {
                self.process();
            }
            while !self.tasks[at].unpublished.is_empty() {
                self.publish(at);
            }
            let of = &self.tasks[at];
            done &= of.cover.min_over(&of.task.ranges, Ts::ZERO) == Ts::new(barrier);
        }
        done
    }

    fn judge(&mut self) {
        let commits: BTreeSet<(u64, u8, u64)> =
            self.regions.values().flat_map(|region| &region.log).filter_map(commit_of).collect();
        for fact in &self.facts {
            let of = &self.tasks[fact.task];
            for (commit, key, start) in &commits {
                let late = |generation: Option<&u64>| generation.is_none_or(|generation| *generation > fact.generation);
                let missing = late(of.writes.get(commit)) || late(of.values.get(&(*key, *start)));
                let claimed = *commit <= fact.checkpoint && contains(&fact.range, *key);
                if claimed && *commit > of.task.start_ts.get() && missing {
                    self.outcome.lies.push(format!(
                        "{}@{start} committed at {commit} is missing: {}",
                        letter(*key),
                        fact.what
                    ));
                }
            }
        }
    }
}
