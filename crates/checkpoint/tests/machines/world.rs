//! A region whose true log is known: transactions, a host that applies and tells, an observer that drops batches, a
//! scanner, a sealer, leaders and splits, all driven by a list of numbers. It knows of every statement whether it lies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use logtide_checkpoint::{Cover, LockOp, Silence, Statement, Subscription};
use logtide_model::message::GapFlag;
use logtide_model::{Confirmed, KeyRange, Region, RegionEpoch, Ts};

/// Keys are single letters; the region begins with all of them.
const KEYS: u8 = 8;

/// What came of a history.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) lies: Vec<String>,
    pub(crate) caught_up: bool,
    pub(crate) totals: Totals,
}

/// How often things happened, to know that a test reaches them.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) resolved: usize,
    pub(crate) held_by_a_lock: usize,
    pub(crate) scanning: usize,
    pub(crate) gaps: usize,
    pub(crate) shrunk: usize,
    pub(crate) silences: BTreeSet<&'static str>,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.resolved += other.resolved;
        self.held_by_a_lock += other.held_by_a_lock;
        self.scanning += other.scanning;
        self.gaps += other.gaps;
        self.shrunk += other.shrunk;
        self.silences.extend(other.silences);
    }
}

/// SplitMix64, 16 bits of it.
pub(crate) fn next_random(seed: &mut u64) -> u16 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z >> 40) as u16
}

/// Runs a history to its end, lets the world come to rest, and judges every statement.
pub(crate) fn run(actions: &[u16]) -> Outcome {
    let mut world = World::new();
    for action in actions {
        world.act(*action);
    }
    world.outcome.caught_up = world.come_to_rest();
    world.judge();
    world.outcome
}

#[derive(Clone, Copy, Debug)]
enum Entry {
    Noop,
    Lock { key: u8, start: u64 },
    Commit { key: u8, commit: u64 },
    Rollback { key: u8 },
    Split { end: u8 },
}

#[derive(Debug)]
struct Txn {
    start: u64,
    /// Where its lock is in the log.
    index: u64,
    /// Its commit ts, once it has one; the commit itself comes later.
    commit: Option<u64>,
}

enum Message {
    Batch { first: u64, last: u64 },
    Split(Region),
    Lead { term: u64, flag: GapFlag, region: Region },
    Unlead,
    Scan { attempt: u64, step: Step },
    Marker { barrier: u64, confirmed: Option<Confirmed> },
}

enum Step {
    Started { start_ts: Ts, index: u64 },
    Lock { key: u8, start: u64 },
    LocksDone,
    Data(Vec<u64>),
    Finished,
    Failed,
}

struct Scan {
    attempt: u64,
    version: u64,
    flag: GapFlag,
    cleared: bool,
    steps: Option<VecDeque<Step>>,
}

enum Seal {
    Idle,
    Barrier { barrier: u64, told: u64 },
    Ready { barrier: u64, confirmed: Option<Confirmed> },
}

struct Fact {
    step: u64,
    checkpoint: u64,
    end: u8,
    what: String,
}

struct World {
    now: u64,
    step: u64,
    log: Vec<Entry>,
    locks: BTreeMap<u8, Txn>,
    /// Commits to keys that a split gave to a child, in the child's log.
    elsewhere: Vec<(u8, u64)>,
    applied: u64,
    told: u64,
    term: u64,
    leading: bool,
    flag: GapFlag,
    queue: VecDeque<Message>,
    subscription: Option<Subscription>,
    attempts: u64,
    scans: Vec<Scan>,
    seal: Seal,
    /// When a commit was given to the backup, by index.
    seen: BTreeMap<u64, u64>,
    facts: Vec<Fact>,
    unpublished: VecDeque<(KeyRange, Ts)>,
    cover: Cover,
    outcome: Outcome,
}

fn name(key: u8) -> [u8; 1] {
    [b'a' + key]
}

impl World {
    fn new() -> Self {
        let mut world = World {
            now: 10,
            step: 0,
            log: vec![Entry::Noop],
            locks: BTreeMap::new(),
            elsewhere: Vec::new(),
            applied: 1,
            told: 1,
            term: 5,
            leading: false,
            flag: GapFlag::default(),
            queue: VecDeque::new(),
            subscription: None,
            attempts: 0,
            scans: Vec::new(),
            seal: Seal::Idle,
            seen: BTreeMap::new(),
            facts: Vec::new(),
            unpublished: VecDeque::new(),
            cover: Cover::new(),
            outcome: Outcome::default(),
        };
        world.lead();
        world
    }

    fn act(&mut self, action: u16) {
        let pick = usize::from(action >> 6);
        match action % 64 {
            0..=7 => self.prewrite(pick as u8 % KEYS),
            8..=11 => self.take_commit_ts(pick),
            12..=17 => self.finish_txn(pick, pick % 7 == 0),
            18..=24 => self.applied = (self.applied + 1 + pick as u64 % 3).min(self.log.len() as u64),
            25..=32 => self.tell(1 + pick as u64 % 4, pick % 13 == 0),
            33..=43 => self.advance_scan(pick, pick % 41 == 0),
            44..=47 => self.advance_seal(pick),
            48..=57 => self.process(),
            58..=59 => self.publish(),
            60 if pick % 6 == 0 => self.split(pick as u8),
            61 if pick % 5 == 0 => self.change_leader(pick),
            62 if pick % 2 == 0 => {
                let relieved = self.subscription.as_mut().is_some_and(Subscription::relieve);
                if relieved {
                    self.request_scan();
                }
            }
            // The scan of another task takes the region's flag down.
            63 if pick % 3 == 0 => self.flag.clear(),
            63 => self.log.push(Entry::Noop),
            _ => {}
        }
    }

    fn timestamp(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// The end of the range, and the version, after the first `index` entries.
    fn shape(&self, index: u64) -> (u8, u64) {
        let entries = self.log.iter().take(index as usize);
        entries.fold((KEYS, 1), |(end, version), entry| match entry {
            Entry::Split { end } => (*end, version + 1),
            _ => (end, version),
        })
    }

    fn region(&self, index: u64) -> Region {
        let (end, version) = self.shape(index);
        let range = KeyRange::new(Vec::new(), name(end).to_vec());
        Region { id: 1, epoch: RegionEpoch { conf_ver: 1, version }, range }
    }

    fn prewrite(&mut self, key: u8) {
        let start = self.timestamp();
        let index = self.log.len() as u64 + 1;
        if key < self.shape(u64::MAX).0 && !self.locks.contains_key(&key) {
            self.log.push(Entry::Lock { key, start });
            self.locks.insert(key, Txn { start, index, commit: None });
        } else {
            // The child locks and commits it.
            self.locks.entry(key).or_insert(Txn { start, index: 0, commit: None });
        }
    }

    /// A client takes a commit ts once its lock is acknowledged: H1 says that it was told before.
    fn take_commit_ts(&mut self, pick: usize) {
        let commit = self.timestamp();
        let acknowledged = if self.leading { self.told } else { u64::MAX };
        let mut ready = self.locks.values_mut().filter(|txn| txn.index <= acknowledged && txn.commit.is_none());
        let n = ready.by_ref().count();
        let mut ready = self.locks.values_mut().filter(|txn| txn.index <= acknowledged && txn.commit.is_none());
        if let Some(txn) = ready.nth(pick % n.max(1)) {
            txn.commit = Some(commit);
        }
    }

    /// Commits a transaction that has a commit ts, or rolls another one back.
    fn finish_txn(&mut self, pick: usize, rollback: bool) {
        let ready: Vec<u8> =
            self.locks.iter().filter(|(_, t)| t.commit.is_some() != rollback).map(|(k, _)| *k).collect();
        let Some(key) = ready.get(pick % ready.len().max(1)).copied() else { return };
        let Some(txn) = self.locks.remove(&key) else { return };
        let here = key < self.shape(u64::MAX).0;
        match (txn.commit, here) {
            (Some(commit), true) => self.log.push(Entry::Commit { key, commit }),
            (Some(commit), false) => self.elsewhere.push((key, commit)),
            (None, true) => self.log.push(Entry::Rollback { key }),
            (None, false) => {}
        }
        assert!(txn.commit.is_none_or(|commit| commit > txn.start));
    }

    fn split(&mut self, pick: u8) {
        let (end, _) = self.shape(u64::MAX);
        if end > 2 {
            self.log.push(Entry::Split { end: 1 + pick % (end - 1) });
        }
    }

    /// Tells up to `n` applied entries; a split ends a batch and is told after it.
    fn tell(&mut self, n: u64, drop: bool) {
        let first = self.told + 1;
        let mut last = self.told;
        let mut split = false;
        while last < self.applied && last < self.told + n && !split {
            last += 1;
            split = matches!(self.log[last as usize - 1], Entry::Split { .. });
        }
        if last < first {
            return;
        }
        self.told = last;
        if !self.leading {
            return;
        }
        match drop {
            true => self.flag.raise(),
            false => self.queue.push_back(Message::Batch { first, last }),
        }
        if split {
            self.queue.push_back(Message::Split(self.region(last)));
        }
    }

    fn lead(&mut self) {
        self.term += 1;
        self.log.push(Entry::Noop);
        self.applied = self.log.len() as u64;
        self.told = self.applied;
        self.announce();
    }

    fn announce(&mut self) {
        self.leading = true;
        self.flag = GapFlag::default();
        let region = self.region(self.told);
        self.queue.push_back(Message::Lead { term: self.term, flag: self.flag.clone(), region });
    }

    fn change_leader(&mut self, pick: usize) {
        match (self.leading, pick % 4) {
            (true, 0) => {
                // Elected again before it noticed that it was not leader: what is applied goes on being told.
                self.term += 1;
                self.log.push(Entry::Noop);
                self.applied = self.log.len() as u64;
                while self.told < self.applied {
                    self.tell(u64::MAX >> 1, false);
                }
                self.announce();
            }
            (true, _) => {
                self.leading = false;
                self.term += 1;
                self.queue.push_back(Message::Unlead);
            }
            (false, _) => self.lead(),
        }
    }

    fn advance_scan(&mut self, pick: usize, fail: bool) {
        if self.scans.is_empty() {
            return;
        }
        let at = pick % self.scans.len();
        let (applied, leading, version) = (self.applied, self.leading, self.shape(self.applied).1);
        let attempt = self.scans[at].attempt;
        let scan = &mut self.scans[at];
        if fail || (scan.cleared && scan.steps.is_none() && (!leading || scan.version != version)) {
            self.scans.swap_remove(at);
            self.queue.push_back(Message::Scan { attempt, step: Step::Failed });
            return;
        }
        match &mut scan.steps {
            None if !scan.cleared => {
                scan.flag.clear();
                scan.cleared = true;
            }
            None => self.scans[at].steps = Some(self.snapshot(applied)),
            Some(steps) => {
                match steps.pop_front() {
                    Some(step) => self.queue.push_back(Message::Scan { attempt, step }),
                    None => drop(self.scans.swap_remove(at)),
                };
            }
        }
    }

    fn snapshot(&self, index: u64) -> VecDeque<Step> {
        let region = self.region(index);
        let start_ts = self.cover.start_ts(&region.range, Ts::ZERO);
        let (mut locks, mut data) = (BTreeMap::new(), Vec::new());
        for (at, entry) in self.log.iter().enumerate().take(index as usize) {
            match *entry {
                Entry::Lock { key, start } => drop(locks.insert(key, start)),
                Entry::Rollback { key } => drop(locks.remove(&key)),
                Entry::Commit { key, commit } => {
                    locks.remove(&key);
                    if region.range.contains(&name(key)) && commit > start_ts.get() {
                        data.push(at as u64 + 1);
                    }
                }
                Entry::Noop | Entry::Split { .. } => {}
            }
        }
        locks.retain(|key, _| region.range.contains(&name(*key)));
        let mut steps = VecDeque::from([Step::Started { start_ts, index }]);
        steps.extend(locks.into_iter().map(|(key, start)| Step::Lock { key, start }));
        steps.push_back(Step::LocksDone);
        steps.extend(data.chunks(3).map(|chunk| Step::Data(chunk.to_vec())));
        steps.push_back(Step::Finished);
        steps
    }

    /// The order of a seal: the barrier, then the confirmation, then the marker.
    fn advance_seal(&mut self, pick: usize) {
        self.seal = match self.seal {
            Seal::Idle => Seal::Barrier { told: self.told, barrier: self.timestamp() },
            Seal::Barrier { barrier, told } => {
                let applied_index = if pick.is_multiple_of(2) { told } else { self.told };
                let version = self.shape(u64::MAX).1;
                let confirmed = Confirmed { region_id: 1, term: self.term, version, applied_index };
                Seal::Ready { barrier, confirmed: (self.leading && !pick.is_multiple_of(19)).then_some(confirmed) }
            }
            Seal::Ready { barrier, confirmed } => {
                self.queue.push_back(Message::Marker { barrier, confirmed });
                Seal::Idle
            }
        };
    }

    fn publish(&mut self) {
        if let Some((range, ts)) = self.unpublished.pop_front() {
            self.cover.insert(&range, ts);
        }
    }

    fn process(&mut self) {
        let Some(message) = self.queue.pop_front() else { return };
        self.step += 1;
        match message {
            Message::Batch { first, last } => self.batch(first, last),
            Message::Split(region) => {
                if let Some(subscription) = &mut self.subscription {
                    subscription.shrink(region);
                    self.outcome.totals.shrunk += 1;
                }
            }
            Message::Lead { term, flag, region } => match &mut self.subscription {
                Some(subscription) => subscription.lead(term, flag),
                None => self.subscription = Some(Subscription::new(region, term, flag)),
            },
            Message::Unlead => drop(self.subscription.take()),
            Message::Scan { attempt, step } => self.scan_step(attempt, step),
            Message::Marker { barrier, confirmed } => drop(self.marker(barrier, confirmed)),
        }
        self.request_scan();
    }

    fn request_scan(&mut self) {
        let Some(subscription) = &mut self.subscription else { return };
        subscription.take_given_up();
        if subscription.wants_scan() {
            self.attempts += 1;
            subscription.request_scan(self.attempts);
            let version = subscription.region().epoch.version;
            let (attempt, flag) = (self.attempts, self.flag.clone());
            self.scans.push(Scan { attempt, version, flag, cleared: false, steps: None });
        }
    }

    fn batch(&mut self, first: u64, last: u64) {
        let Some(subscription) = &mut self.subscription else { return };
        let (mut keys, mut held) = (Vec::new(), Vec::new());
        for index in first..=last {
            match self.log[index as usize - 1] {
                Entry::Lock { key, start } => {
                    keys.push(name(key));
                    held.push(Some(Ts::new(start)));
                }
                Entry::Commit { key, .. } => {
                    self.seen.entry(index).or_insert(self.step);
                    keys.push(name(key));
                    held.push(None);
                }
                Entry::Rollback { key } => {
                    keys.push(name(key));
                    held.push(None);
                }
                Entry::Noop | Entry::Split { .. } => {}
            }
        }
        let ops: Vec<LockOp<'_>> = keys.iter().zip(held).map(|(key, held)| LockOp { key, held }).collect();
        if !subscription.applied(first, last, &ops) {
            self.outcome.totals.gaps += 1;
        }
    }

    fn scan_step(&mut self, attempt: u64, step: Step) {
        let Some(subscription) = &mut self.subscription else { return };
        match step {
            Step::Started { start_ts, index } => drop(subscription.scan_started(attempt, start_ts, index)),
            Step::Lock { key, start } => drop(subscription.scan_lock(attempt, &name(key), Ts::new(start))),
            Step::LocksDone => drop(subscription.scan_locks_done(attempt)),
            Step::Data(indexes) => {
                if subscription.wants_data(attempt) {
                    for index in indexes {
                        self.seen.entry(index).or_insert(self.step);
                    }
                }
            }
            Step::Finished => drop(subscription.scan_finished(attempt)),
            Step::Failed => drop(subscription.scan_failed(attempt)),
        }
    }

    fn marker(&mut self, barrier: u64, confirmed: Option<Confirmed>) -> Option<u64> {
        let subscription = self.subscription.as_mut()?;
        let statement = subscription.state_at(Ts::new(barrier), confirmed.as_ref());
        let range = subscription.region().range.clone();
        let what = format!("{statement:?} with barrier {barrier} and {confirmed:?} over {range:?}");
        let totals = &mut self.outcome.totals;
        let checkpoint = match statement {
            Statement::Nothing(why) => {
                totals.silences.insert(why.as_str());
                assert_ne!(why, Silence::UnreadableLock);
                return None;
            }
            Statement::Scanning(start_ts) => {
                totals.scanning += 1;
                start_ts
            }
            Statement::Resolved { checkpoint, index } => {
                totals.resolved += 1;
                totals.held_by_a_lock += usize::from(checkpoint.get() < barrier);
                self.check_index(index, &range, &what);
                checkpoint
            }
        };
        let end = range.end[0] - b'a';
        self.facts.push(Fact { step: self.step, checkpoint: checkpoint.get(), end, what });
        self.unpublished.push_back((range, checkpoint));
        Some(checkpoint.get())
    }

    /// A statement's index says that all entries up to it were given, or are durable since long.
    fn check_index(&mut self, index: u64, range: &KeyRange, what: &str) {
        let published = self.cover.start_ts(range, Ts::ZERO).get();
        for (at, entry) in (1..=index).zip(&self.log) {
            if let Entry::Commit { key, commit } = *entry
                && range.contains(&name(key))
                && commit > published
                && !self.seen.contains_key(&at)
            {
                self.outcome.lies.push(format!("entry {at} (commit {commit}) was not seen: {what}"));
            }
        }
    }

    /// No more faults: everything ends, and the subscription has to find its way.
    fn come_to_rest(&mut self) -> bool {
        for pick in 0..KEYS as usize {
            self.finish_txn(pick, false);
        }
        for pick in 0..KEYS as usize {
            self.finish_txn(pick, true);
        }
        if !self.leading {
            self.lead();
        }
        // Locks that were forgotten are read anew after 16 markers at the latest.
        for _ in 0..24 {
            self.applied = self.log.len() as u64;
            while self.told < self.applied {
                self.tell(4, false);
            }
            let mut steps = 0;
            while steps < 10_000 && !(self.queue.is_empty() && self.scans.is_empty()) {
                self.advance_scan(0, false);
                self.process();
                steps += 1;
            }
            self.seal = Seal::Idle;
            (0..2).for_each(|_| self.advance_seal(1));
            let Seal::Ready { barrier, confirmed } = self.seal else { return false };
            self.step += 1;
            if self.marker(barrier, confirmed) == Some(barrier) {
                return true;
            }
            self.request_scan();
        }
        false
    }

    fn judge(&mut self) {
        for fact in &self.facts {
            for (index, entry) in (1..).zip(&self.log) {
                let Entry::Commit { key, commit } = *entry else { continue };
                let unseen = self.seen.get(&index).is_none_or(|step| *step > fact.step);
                if key < fact.end && commit <= fact.checkpoint && unseen {
                    self.outcome.lies.push(format!("entry {index} has commit ts {commit}: {}", fact.what));
                }
            }
            for (key, commit) in &self.elsewhere {
                if *key < fact.end && *commit <= fact.checkpoint {
                    self.outcome.lies.push(format!("the child has commit ts {commit}: {}", fact.what));
                }
            }
        }
    }
}
