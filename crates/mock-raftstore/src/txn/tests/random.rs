//! Random interleavings of transactions of all kinds on one store, against what snapshot isolation promises.
//!
//! Transactions move money between accounts, in small steps that interleave at random. Their plans stay in flight for
//! a while, requests come twice and late, clients die at any step, transactions outlive their locks, and everybody
//! resolves the locks that they meet. In the end the write records are the history, and every read that was ever
//! answered must be the one of the history.

mod check;
mod machine;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use logtide_model::mvcc::Lock;
use logtide_model::{Cf, Ts, decode_raw_key};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::store::{Data, Store};
use crate::rpc::{CheckTxnStatus, Command, KeyError, KvResponse, LockInfo, Plan, Prewrite, SecondaryStatus, TxnStatus};
use crate::txn::Latches;
use check::{check, history};
use machine::{Machine, Phase, mutations};

const ACCOUNTS: u8 = 8;
const START: i64 = 100;
/// Locks live at most so long, in ms; a transaction needs 20 to 80.
const TTL: u64 = 40;

/// A read that was answered.
struct Read {
    key: Vec<u8>,
    ts: Ts,
    value: i64,
}

struct World {
    rng: SmallRng,
    store: Store,
    latches: Latches,
    in_flight: BTreeMap<u64, Plan>,
    /// Commands that wait for latches.
    queued: BTreeMap<u64, Command>,
    answers: BTreeMap<u64, KvResponse>,
    next_id: u64,
    /// Requests that come a second time, some time.
    late: Vec<Command>,
    clock: (u64, u64),
    reads: Vec<Read>,
    /// Barriers, with what was applied then.
    barriers: Vec<(Ts, Data)>,
    /// All that ever began, by start ts.
    begun: BTreeMap<Ts, Begun>,
}

/// What is known of a transaction without looking at the records.
#[derive(Clone, Debug)]
struct Begun {
    /// What it means to write.
    writes: BTreeMap<Vec<u8>, i64>,
    /// What its client knows: committed there, not committed, or nothing.
    outcome: Option<Option<Ts>>,
    /// As of when it read what it writes.
    read_ts: Ts,
}

fn account(n: u8) -> Vec<u8> {
    vec![b'a', n]
}

fn money(value: &Bytes) -> i64 {
    std::str::from_utf8(value).unwrap().trim().parse().unwrap()
}

/// Every second account has values that do not fit into a record.
fn as_value(key: &[u8], money: i64) -> Bytes {
    let width = if key[1].is_multiple_of(2) { 100 } else { 1 };
    format!("{money:width$}").into()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = World {
            rng: SmallRng::seed_from_u64(seed),
            store: Store::new(),
            latches: Latches::default(),
            in_flight: BTreeMap::new(),
            queued: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_id: 1,
            late: Vec::new(),
            clock: (1000, 0),
            reads: Vec::new(),
            barriers: Vec::new(),
            begun: BTreeMap::new(),
        };
        let writes: BTreeMap<_, _> = (0..ACCOUNTS).map(|n| (account(n), START)).collect();
        let start_ts = world.tso();
        let primary = account(0);
        let mutations = mutations(&writes, false);
        let request = Prewrite { mutations, primary, start_ts, ttl: TTL, one_pc: true, ..Prewrite::default() };
        let KvResponse::Prewrite { one_pc_commit_ts, .. } = world.store.run(Command::Prewrite(request)) else {
            panic!("the first transaction failed")
        };
        let outcome = Some(Some(one_pc_commit_ts));
        world.begun.insert(start_ts, Begun { writes, outcome, read_ts: start_ts });
        world
    }

    fn tso(&mut self) -> Ts {
        if self.rng.random_bool(0.3) {
            self.clock = (self.clock.0 + self.rng.random_range(1..4), 0);
        }
        self.clock.1 += 1;
        Ts::compose(self.clock.0, self.clock.1)
    }

    /// Sends a command; its answer comes some time.
    fn send(&mut self, command: Command) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if self.latches.acquire(id, command.latches()) {
            self.start(id, &command);
        } else {
            self.queued.insert(id, command);
        }
        id
    }

    fn start(&mut self, id: u64, command: &Command) {
        let plan = self.store.plan(command);
        if plan.ops.is_empty() {
            self.answers.insert(id, plan.response);
            self.release(id);
        } else {
            self.in_flight.insert(id, plan);
        }
    }

    fn release(&mut self, id: u64) {
        for next in self.latches.release(id) {
            let command = self.queued.remove(&next).unwrap();
            self.start(next, &command);
        }
    }

    /// Applies something that is in flight; commands on different keys may overtake each other.
    fn apply_some(&mut self) {
        let n = self.rng.random_range(0..self.in_flight.len().max(1));
        let Some(id) = self.in_flight.keys().nth(n).copied() else { return };
        let plan = self.in_flight.remove(&id).unwrap();
        let response = self.store.apply(plan);
        self.answers.insert(id, response);
        self.release(id);
    }

    /// Sends a command and lets the world go on until it is answered.
    fn call(&mut self, command: Command) -> KvResponse {
        let id = self.send(command);
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return answer;
            }
            self.apply_some();
        }
    }

    /// The steps of [`crate::client`] against a lock; true if it is worth trying again at once.
    fn resolve(&mut self, lock: &LockInfo, reader_ts: Ts, bypass: &mut Vec<Ts>) {
        let current_ts = self.tso();
        let expired = |lock: &LockInfo| lock.start_ts.physical_ms() + lock.ttl < current_ts.physical_ms();
        let mut ask = CheckTxnStatus {
            primary: lock.primary.clone(),
            start_ts: lock.start_ts,
            caller_start_ts: reader_ts,
            current_ts,
            rollback_if_missing: expired(lock),
            force_sync_commit: false,
        };
        let mut status = self.call(Command::CheckTxnStatus(ask.clone()));
        if let KvResponse::TxnStatus(TxnStatus::Locked { lock: primary, pushed: false }) = &status
            && primary.async_commit
            && expired(primary)
        {
            let primary = primary.clone();
            let keys = primary.secondaries.clone();
            let commit_ts = match self.call(Command::CheckSecondaryLocks { keys, start_ts: lock.start_ts }) {
                KvResponse::SecondaryLocks(SecondaryStatus::Committed { commit_ts }) => Some(commit_ts),
                KvResponse::SecondaryLocks(SecondaryStatus::RolledBack) => None,
                KvResponse::SecondaryLocks(SecondaryStatus::Locked(locks)) if locks.iter().all(|l| l.async_commit) => {
                    locks.iter().map(|l| l.min_commit_ts).chain([primary.min_commit_ts]).max()
                }
                KvResponse::SecondaryLocks(_) => {
                    ask.force_sync_commit = true;
                    status = self.call(Command::CheckTxnStatus(ask));
                    return self.follow(lock, &status, bypass);
                }
                other => panic!("{other:?}"),
            };
            let mut keys = vec![primary.primary];
            keys.extend(primary.secondaries);
            let done = self.call(Command::ResolveLock { start_ts: lock.start_ts, commit_ts, keys });
            assert_eq!(done, KvResponse::Done);
            return;
        }
        self.follow(lock, &status, bypass);
    }

    fn follow(&mut self, lock: &LockInfo, status: &KvResponse, bypass: &mut Vec<Ts>) {
        let commit_ts = match status {
            KvResponse::TxnStatus(TxnStatus::Committed { commit_ts }) => Some(*commit_ts),
            KvResponse::TxnStatus(TxnStatus::RolledBack) => None,
            KvResponse::TxnStatus(TxnStatus::Locked { pushed: true, .. }) => return bypass.push(lock.start_ts),
            KvResponse::TxnStatus(TxnStatus::Locked { .. }) => return,
            KvResponse::Errors(errors) if matches!(errors[..], [KeyError::TxnNotFound { .. }]) => return,
            other => panic!("{other:?}"),
        };
        let keys = vec![lock.key.clone()];
        let done = self.call(Command::ResolveLock { start_ts: lock.start_ts, commit_ts, keys });
        assert_eq!(done, KvResponse::Done);
    }

    /// Reads all accounts at a fresh ts.
    fn audit(&mut self) {
        let ts = self.tso();
        let mut bypass = Vec::new();
        for _ in 0..200 {
            let (start, end, limit) = (Vec::new(), Vec::new(), 99);
            match self.call(Command::Scan { start, end, limit, ts, bypass: bypass.clone() }) {
                KvResponse::Scan { pairs, .. } => {
                    assert_eq!(
                        pairs.iter().map(|(_, v)| money(v)).sum::<i64>(),
                        i64::from(ACCOUNTS) * START,
                        "at {ts}"
                    );
                    self.reads.extend(pairs.into_iter().map(|(key, v)| Read { key, ts, value: money(&v) }));
                    return;
                }
                KvResponse::Errors(errors) => {
                    let [KeyError::Locked(lock)] = &errors[..] else { panic!("{errors:?}") };
                    self.resolve(lock, ts, &mut bypass);
                    self.apply_some();
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn barrier(&mut self) {
        let fresh = self.tso();
        let barrier = self.store.concurrency.barrier(fresh);
        self.barriers.push((barrier, self.store.data.clone()));
    }

    /// Lets everything come to its end, with the clients of undecided transactions gone.
    fn settle(&mut self) {
        while !self.in_flight.is_empty() {
            self.apply_some();
        }
        self.clock = (self.clock.0 + 10 * TTL, 0);
        loop {
            let Some((key, bytes)) = self.store.data.cf(Cf::Lock).iter().next() else { return };
            let lock = Lock::parse(bytes).unwrap();
            let info = LockInfo {
                key: decode_raw_key(key).unwrap(),
                primary: lock.primary,
                start_ts: lock.start_ts,
                ttl: lock.ttl,
                min_commit_ts: lock.min_commit_ts,
                async_commit: lock.secondaries.is_some(),
                secondaries: Vec::new(),
                pessimistic: false,
            };
            self.resolve(&info, Ts::ZERO, &mut Vec::new());
        }
    }
}

/// Runs a world to its end and checks it.
fn run(seed: u64, steps: usize) -> World {
    let mut world = World::new(seed);
    let mut machines: Vec<Machine> = Vec::new();
    for _ in 0..steps {
        while machines.len() < 6 {
            let machine = world.begin();
            machines.push(machine);
        }
        match world.rng.random_range(0..100) {
            0..2 => world.audit(),
            2..4 => world.barrier(),
            4..25 => world.apply_some(),
            25..28 if !world.late.is_empty() => {
                let n = world.rng.random_range(0..world.late.len());
                let command = world.late.swap_remove(n);
                world.send(command);
            }
            // A client dies; what it sent goes on.
            28 => drop(machines.swap_remove(0)),
            _ => {
                let n = world.rng.random_range(0..machines.len());
                world.step(&mut machines[n]);
                if machines[n].phase == Phase::Over {
                    machines.swap_remove(n);
                }
            }
        }
    }
    world.settle();
    world.audit();
    check(&world);
    world
}

/// How many transactions committed.
fn committed(world: &World) -> usize {
    let starts = history(&world.store.data).into_values().flat_map(|v| v.into_values().map(|(start_ts, _)| start_ts));
    starts.collect::<BTreeSet<_>>().len()
}

#[test]
fn snapshot_isolation_holds_in_random_interleavings() {
    let committed: usize = (0..60).map(|seed| committed(&run(seed, 1500))).sum();
    // The test is worth something only if transactions do get through.
    assert!(committed > 60 * 15, "{committed} committed");
}

#[test]
fn a_seed_gives_one_history() {
    let (a, b) = (run(7, 800).store.data, run(7, 800).store.data);
    assert!(committed(&run(7, 800)) > 5);
    for cf in [Cf::Default, Cf::Lock, Cf::Write] {
        assert_eq!(a.cf(cf), b.cf(cf));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn bank_transfers_keep_the_sum(seed: u64, steps in 100usize..1500) {
        run(seed, steps);
    }
}
