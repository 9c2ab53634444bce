//! Random transactions under random faults, by seed: what the outcomes say is what the write records say.

use std::collections::BTreeSet;

use logtide_mock_raftstore::transport::Faults;
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{Cf, KeyRange, decode_raw_key, split_ts};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::client::Patience;

const TXNS: u64 = 200;
const ACCOUNTS: u32 = 24;
/// Transactions at one time.
const AT_ONCE: usize = 8;

/// A write record that is not a rollback.
type Record = (Vec<u8>, Ts);

struct Random {
    world: World,
    rng: SmallRng,
    plans: BTreeMap<u64, TxnPlan>,
    /// Start timestamps of transactions whose clients were killed.
    killed: BTreeSet<Ts>,
    stopped: Option<StoreId>,
}

impl Random {
    fn new(seed: u64) -> Random {
        let world = World::new(seed, &["k08", "k16"]);
        world.client.set_patience(Patience { answer: 200, pause: 5, attempts: 12 });
        world.cluster.network().set_faults(Faults { drop: 0.02, duplicate: 0.05, delay: 0.1, max_delay: 4 });
        let rng = SmallRng::seed_from_u64(seed);
        Random { world, rng, plans: BTreeMap::new(), killed: BTreeSet::new(), stopped: None }
    }

    fn plan(&mut self) -> TxnPlan {
        let rng = &mut self.rng;
        let first = rng.random_range(0..ACCOUNTS);
        let keys: BTreeSet<u32> =
            (0..rng.random_range(1..7)).map(|_| (first + rng.random_range(0..8)) % ACCOUNTS).collect();
        let mut keys: Vec<Vec<u8>> = keys.into_iter().map(|k| format!("k{k:02}").into_bytes()).collect();
        let primary = rng.random_range(0..keys.len());
        keys.swap(0, primary);
        let locks_only = if rng.random_bool(0.2) { keys.split_off(1) } else { Vec::new() };
        // Short and long values, told apart by the number of the plan.
        let value = format!("{}-{}", self.plans.len(), "x".repeat(rng.random_range(0..400))).into_bytes();
        let writes = keys.into_iter().map(|key| (key, rng.random_bool(0.85).then(|| value.clone()))).collect();
        let ending = match rng.random_range(0..20) {
            0..10 => Ending::Commit,
            10..12 => Ending::CommitPrimaryOnly,
            12..14 => Ending::Abandon,
            14 | 15 => Ending::AbandonHalf,
            16 | 17 => Ending::Rollback,
            _ => Ending::CommitLater(rng.random_range(0..300)),
        };
        let kind = KINDS[rng.random_range(0..4)];
        TxnPlan {
            kind,
            writes,
            locks_only,
            think: 0,
            ttl_ms: rng.random_range(20..200),
            ending,
            batch: rng.random_range(1..4),
        }
    }

    fn turn(&mut self) {
        let store = self.rng.random_range(1..=3);
        let steps = self.world.steps();
        match self.rng.random_range(0..1000) {
            0..350 => drop(steps.step(store)),
            350..650 => drop(steps.deliver_all()),
            650..720 => {
                self.world.clock.advance(1);
                steps.tick_all();
            }
            720..920 => self.poll(),
            920..960 if self.world.scripts.len() < AT_ONCE && self.plans.len() < TXNS as usize => {
                let plan = self.plan();
                let id = self.world.start(plan.clone());
                self.plans.insert(id, plan);
            }
            960..968 => {
                let key = format!("k{:02}", self.rng.random_range(0..ACCOUNTS));
                let (region, _) = self.world.leader_of(&key);
                drop(self.world.cluster.transfer_leader(region, store));
            }
            968..972 if self.world.cluster.pd().regions().len() < 8 => {
                let key = format!("k{:02}", self.rng.random_range(0..ACCOUNTS));
                drop(self.world.cluster.submit_split(key.as_bytes()));
            }
            972..974 => {
                let others = (1..=3).filter(|s| *s != store).collect();
                self.world.cluster.partition(&[[store].into(), others]);
            }
            974..980 => self.world.cluster.partition(&[]),
            980..983 => self.crash_or_restart(store),
            983..985 => self.world.cluster.pd().set_tso_available(false),
            985..995 => self.world.cluster.pd().set_tso_available(true),
            995 if self.rng.random_bool(0.1) => self.kill(),
            _ => {}
        }
    }

    fn poll(&mut self) {
        if self.rng.random_bool(0.5) {
            self.world.over.extend(self.world.scripts.poll_all());
        } else {
            let n = self.rng.random_range(0..AT_ONCE);
            self.world.over.extend(self.world.scripts.poll(n));
        }
    }

    fn kill(&mut self) {
        self.killed.extend(self.world.client.unfinished());
        self.world.scripts.kill_all();
    }

    fn crash_or_restart(&mut self, store: StoreId) {
        match self.stopped.take() {
            Some(stopped) => self.world.cluster.restart_store(stopped, Vec::new()).unwrap(),
            None => {
                self.world.cluster.stop_store(store);
                self.stopped = Some(store);
            }
        }
    }

    /// Ends all faults, all transactions, and all locks.
    fn end(&mut self) {
        if self.stopped.is_some() {
            self.crash_or_restart(0);
        }
        self.world.cluster.pd().set_tso_available(true);
        self.world.cluster.heal();
        for _ in 0..120 {
            self.world.steps().settle();
            self.world.steps().tick_all();
        }
        self.world.run_until(|w| w.scripts.is_empty());
        self.world.client.set_patience(Patience::default());
        self.world.resolve_all();
        self.world.steps().settle();
    }

    /// By start ts, what every transaction that committed anything wrote.
    fn records(&self) -> BTreeMap<Ts, BTreeSet<Record>> {
        let mut found: BTreeMap<Ts, BTreeSet<Record>> = BTreeMap::new();
        for (region, leader, _) in self.world.cluster.pd().regions() {
            let snapshot = self.world.cluster.host(leader).snapshot(region.id, region.epoch).unwrap();
            assert!(!snapshot.iter(Cf::Lock, &KeyRange::ALL).unwrap().next().unwrap(), "a lock is left");
            let mut iter = snapshot.iter(Cf::Write, &KeyRange::ALL).unwrap();
            while iter.next().unwrap() {
                let (user, commit_ts) = split_ts(iter.key()).unwrap();
                let write = Write::parse(iter.value()).unwrap();
                if write.kind != WriteKind::Rollback {
                    let raw = decode_raw_key(user).unwrap();
                    found.entry(write.start_ts).or_default().insert((raw, commit_ts));
                }
            }
        }
        found
    }
}

/// The records that a transaction leaves that commits there.
fn wanted(plan: &TxnPlan, commit_ts: Ts) -> BTreeSet<Record> {
    plan.mutations().into_iter().map(|m| (m.key, commit_ts)).collect()
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    committed: usize,
    rolled_back: usize,
    undetermined: usize,
    left: usize,
    gave_up: usize,
}

/// One history: its outcomes, and all its records.
#[derive(Debug, PartialEq, Eq)]
struct History {
    over: BTreeMap<u64, Outcome>,
    records: BTreeMap<Ts, BTreeSet<Record>>,
    last_ts: Ts,
}

fn run(seed: u64) -> (Random, History) {
    let mut random = Random::new(seed);
    while random.plans.len() < TXNS as usize || !random.world.scripts.is_empty() {
        random.turn();
    }
    random.end();
    let (records, over) = (random.records(), random.world.over.clone());
    let last_ts = random.world.cluster.pd().tso().unwrap();
    (random, History { over, records, last_ts })
}

/// Checks outcomes against records; records that nobody told of belong to killed clients.
fn check(seed: u64, random: &mut Random, history: &History) -> Counts {
    let mut records = history.records.clone();
    let mut counts = Counts::default();
    for (id, outcome) in &history.over {
        let plan = &random.plans[id];
        let what = format!("seed {seed}, transaction {id} {plan:?}: {outcome:?}");
        match outcome {
            Outcome::Committed { start_ts, commit_ts } => {
                counts.committed += 1;
                assert_eq!(records.remove(start_ts), Some(wanted(plan, *commit_ts)), "{what}");
                check_reads(&mut random.world, plan, *commit_ts, &what);
            }
            Outcome::Undetermined { start_ts } => {
                counts.undetermined += 1;
                check_all_or_nothing(records.remove(start_ts), plan, &what);
            }
            Outcome::RolledBack { start_ts } => {
                counts.rolled_back += 1;
                assert_eq!(records.get(start_ts), None, "{what}");
            }
            Outcome::Left { start_ts } => {
                counts.left += 1;
                assert_eq!(records.get(start_ts), None, "{what}");
            }
            Outcome::GaveUp { .. } => counts.gave_up += 1,
        }
    }
    let strangers: Vec<_> = records.keys().filter(|ts| !random.killed.contains(ts)).collect();
    assert!(strangers.is_empty(), "seed {seed}: {strangers:?} committed, and nobody said so");
    for (start_ts, found) in &records {
        let commits: BTreeSet<_> = found.iter().map(|(_, commit_ts)| commit_ts).collect();
        assert_eq!(commits.len(), 1, "seed {seed}: the killed {start_ts} is torn");
    }
    counts
}

fn check_all_or_nothing(found: Option<BTreeSet<Record>>, plan: &TxnPlan, what: &str) {
    if let Some(found) = found {
        let commit_ts = found.first().map_or(Ts::ZERO, |(_, ts)| *ts);
        assert_eq!(found, wanted(plan, commit_ts), "{what}: torn");
    }
}

fn check_reads(world: &mut World, plan: &TxnPlan, commit_ts: Ts, what: &str) {
    for (key, value) in &plan.writes {
        let key = String::from_utf8(key.clone()).unwrap();
        let seen = world.get_at(&key, commit_ts);
        assert_eq!(seen.as_deref(), value.as_deref(), "{what}: {key}");
    }
}

#[test]
fn outcomes_say_what_the_records_say() {
    let mut sum = Counts::default();
    for seed in 0..12 {
        let (mut random, history) = run(seed);
        let counts = check(seed, &mut random, &history);
        sum.committed += counts.committed;
        sum.rolled_back += counts.rolled_back;
        sum.undetermined += counts.undetermined;
        sum.left += counts.left;
        sum.gave_up += counts.gave_up;
    }
    let tame = sum.committed < 600 || sum.rolled_back < 200 || sum.undetermined < 10 || sum.left < 100;
    assert!(!tame, "{sum:?}: too tame");
}

#[test]
fn a_seed_has_one_history() {
    for seed in [5, 6] {
        assert_eq!(run(seed).1, run(seed).1);
    }
    assert_ne!(run(5).1, run(6).1);
}
