//! Random interleavings of transactions of all kinds on one store, against what snapshot isolation promises.
//!
//! Transactions move money between accounts, in small steps that interleave at random. Their plans stay in flight for a
//! while, requests come twice and late, clients die at any step, transactions outlive their locks, and everybody resolves the locks that they meet.
//! In the end the write records are the history, and every read that was ever answered must be the one of the history.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use logtide_model::mvcc::{Lock, Write, WriteKind};
use logtide_model::{Cf, Ts, decode_raw_key, split_ts};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::store::{Data, Store};
use crate::rpc::{
    CheckTxnStatus, Command, KeyError, KvResponse, LockInfo, Mutation, MutationKind, Plan, Prewrite, SecondaryStatus,
    TxnStatus,
};
use crate::txn::Latches;

const ACCOUNTS: u8 = 8;
const START: i64 = 100;
/// Locks live at most so long, in ms; a transaction needs 20 to 80.
const TTL: u64 = 40;

/// How a transaction commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mode {
    pessimistic: bool,
    async_commit: bool,
    one_pc: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Lock,
    Read,
    Prewrite(usize),
    Commit(usize),
    Rollback,
    Over,
}

/// A transaction and where it is.
#[derive(Debug)]
struct Machine {
    mode: Mode,
    start_ts: Ts,
    ttl: u64,
    /// The accounts, the primary first.
    keys: Vec<Vec<u8>>,
    for_update_ts: Ts,
    read: BTreeMap<Vec<u8>, i64>,
    writes: BTreeMap<Vec<u8>, i64>,
    phase: Phase,
    commit_ts: Ts,
    /// The command that is in flight.
    waits_for: Option<u64>,
    answer: Option<KvResponse>,
    bypass: Vec<Ts>,
    /// What its client knows in the end.
    outcome: Option<Option<Ts>>,
}

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
    /// All that ever began: start ts to intended writes and what the client knows.
    begun: BTreeMap<Ts, (BTreeMap<Vec<u8>, i64>, Option<Option<Ts>>, Ts)>,
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
        world.begun.insert(start_ts, (writes, Some(Some(one_pc_commit_ts)), start_ts));
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

    fn begin(&mut self) -> Machine {
        let start_ts = self.tso();
        let mut keys: Vec<Vec<u8>> = Vec::new();
        while keys.len() < 2 + usize::from(start_ts.get() % 2 == 0) {
            let key = account(self.rng.random_range(0..ACCOUNTS));
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mode = Mode {
            pessimistic: self.rng.random_bool(0.3),
            async_commit: self.rng.random_bool(0.5),
            one_pc: self.rng.random_bool(0.3),
        };
        let phase = if mode.pessimistic { Phase::Lock } else { Phase::Read };
        self.begun.insert(start_ts, (BTreeMap::new(), None, start_ts));
        Machine {
            mode,
            start_ts,
            ttl: self.rng.random_range(1..=TTL),
            keys,
            for_update_ts: Ts::ZERO,
            read: BTreeMap::new(),
            writes: BTreeMap::new(),
            phase,
            commit_ts: Ts::ZERO,
            waits_for: None,
            answer: None,
            bypass: Vec::new(),
            outcome: None,
        }
    }

    /// One step of a machine: send its command, or take its answer.
    fn step(&mut self, m: &mut Machine) {
        if let Some(id) = m.waits_for {
            match self.answers.remove(&id) {
                Some(answer) => (m.waits_for, m.answer) = (None, Some(answer)),
                None => return self.apply_some(),
            }
        }
        match m.answer.take() {
            Some(answer) => self.take(m, answer),
            // Time passes between asking for a timestamp and using it.
            None if m.phase == Phase::Lock && m.for_update_ts.is_zero() => m.for_update_ts = self.tso(),
            None if m.phase == Phase::Commit(0) && m.commit_ts.is_zero() => m.commit_ts = self.tso(),
            None if m.phase != Phase::Over => {
                let command = self.command(m);
                if matches!(m.phase, Phase::Lock | Phase::Prewrite(_)) && self.rng.random_bool(0.2) {
                    self.late.push(command.clone());
                }
                m.waits_for = Some(self.send(command));
            }
            None => {}
        }
        self.begun.insert(m.start_ts, (m.writes.clone(), m.outcome, m.for_update_ts.max(m.start_ts)));
    }

    fn command(&mut self, m: &mut Machine) -> Command {
        let start_ts = m.start_ts;
        match m.phase {
            Phase::Lock => {
                let (keys, primary) = (m.keys.clone(), m.keys[0].clone());
                Command::PessimisticLock { keys, primary, start_ts, for_update_ts: m.for_update_ts, ttl: m.ttl }
            }
            Phase::Read => {
                let key = m.keys[m.read.len()].clone();
                Command::Get { key, ts: start_ts, bypass: m.bypass.clone() }
            }
            Phase::Prewrite(n) => {
                let all = mutations(&m.writes, m.mode.pessimistic);
                let one_pc = m.mode.one_pc;
                let part = if one_pc { all } else { all.into_iter().filter(|x| x.key == m.keys[n]).collect() };
                let first = one_pc || n == 0;
                let async_commit = m.mode.async_commit;
                Command::Prewrite(Prewrite {
                    mutations: part,
                    primary: m.keys[0].clone(),
                    start_ts,
                    ttl: m.ttl,
                    txn_size: m.keys.len() as u64,
                    for_update_ts: m.for_update_ts,
                    min_commit_ts: if one_pc || async_commit { self.tso().next() } else { Ts::ZERO },
                    // Now and then a limit that is too low already.
                    max_commit_ts: if self.rng.random_bool(0.1) { start_ts } else { Ts::ZERO },
                    async_commit,
                    secondaries: if async_commit && first { m.keys[1..].to_vec() } else { Vec::new() },
                    one_pc,
                })
            }
            Phase::Commit(n) => Command::Commit { keys: vec![m.keys[n].clone()], start_ts, commit_ts: m.commit_ts },
            Phase::Rollback | Phase::Over => Command::Rollback { keys: m.keys.clone(), start_ts },
        }
    }

    fn take(&mut self, m: &mut Machine, answer: KvResponse) {
        match answer {
            KvResponse::PessimisticLock { values } => {
                m.read = m.keys.iter().cloned().zip(values.iter().map(|v| money(v.as_ref().unwrap()))).collect();
                m.phase = Phase::Prewrite(0);
                self.choose(m);
            }
            KvResponse::Get { value } => {
                let (key, value) = (m.keys[m.read.len()].clone(), money(&value.unwrap()));
                self.reads.push(Read { key: key.clone(), ts: m.start_ts, value });
                m.read.insert(key, value);
                if m.read.len() == m.keys.len() {
                    m.phase = Phase::Prewrite(0);
                    self.choose(m);
                }
            }
            KvResponse::Prewrite { min_commit_ts, one_pc_commit_ts } => {
                self.prewritten(m, min_commit_ts, one_pc_commit_ts)
            }
            KvResponse::Commit { commit_ts } => {
                m.outcome = Some(Some(commit_ts));
                let Phase::Commit(n) = m.phase else { panic!("{m:?}") };
                m.phase = if n + 1 < m.keys.len() { Phase::Commit(n + 1) } else { Phase::Over };
            }
            KvResponse::Done => (m.phase, m.outcome) = (Phase::Over, Some(None)),
            KvResponse::Errors(errors) => errors.into_iter().for_each(|error| self.fail(m, error)),
            other => panic!("{other:?}"),
        }
    }

    /// Moves money from the primary to the others.
    fn choose(&mut self, m: &mut Machine) {
        let amount = self.rng.random_range(1..10);
        m.writes = m.read.iter().map(|(key, money)| (key.clone(), money + amount)).collect();
        let primary = m.writes.get_mut(&m.keys[0]).unwrap();
        *primary -= amount * m.keys.len() as i64;
    }

    fn prewritten(&mut self, m: &mut Machine, min_commit_ts: Ts, one_pc_commit_ts: Ts) {
        let Phase::Prewrite(n) = m.phase else { panic!("{m:?}") };
        if !one_pc_commit_ts.is_zero() {
            (m.outcome, m.phase) = (Some(Some(one_pc_commit_ts)), Phase::Over);
            return;
        }
        m.mode.async_commit &= !min_commit_ts.is_zero();
        m.commit_ts = m.commit_ts.max(min_commit_ts);
        if !m.mode.one_pc && n + 1 < m.keys.len() {
            m.phase = Phase::Prewrite(n + 1);
            return;
        }
        m.phase = Phase::Commit(0);
        if m.mode.async_commit {
            m.outcome = Some(Some(m.commit_ts));
        } else {
            m.commit_ts = Ts::ZERO;
        }
    }

    fn fail(&mut self, m: &mut Machine, error: KeyError) {
        match error {
            KeyError::Locked(lock) => {
                let reader_ts = if m.phase == Phase::Read { m.start_ts } else { Ts::ZERO };
                let mut bypass = std::mem::take(&mut m.bypass);
                self.resolve(&lock, reader_ts, &mut bypass);
                m.bypass = bypass;
            }
            KeyError::WriteConflict { .. } if m.phase == Phase::Lock => m.for_update_ts = Ts::ZERO,
            KeyError::CommitTsExpired { .. } => m.commit_ts = Ts::ZERO,
            KeyError::Committed { commit_ts, .. } => {
                (m.outcome, m.commit_ts, m.phase) = (Some(Some(commit_ts)), commit_ts, Phase::Commit(0));
            }
            // Somebody finished the commit, or took the transaction for dead.
            KeyError::RolledBack { .. } | KeyError::LockNotFound { .. } if matches!(m.phase, Phase::Commit(_)) => {
                assert_eq!(m.phase, Phase::Commit(0), "a secondary of a committed transaction is rolled back");
                assert!(!m.mode.async_commit, "an async commit that was decided is rolled back");
                m.phase = Phase::Rollback;
            }
            _ => m.phase = Phase::Rollback,
        }
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

fn mutations(writes: &BTreeMap<Vec<u8>, i64>, pessimistic: bool) -> Vec<Mutation> {
    let put = |(key, money): (&Vec<u8>, &i64)| Mutation {
        key: key.clone(),
        kind: MutationKind::Put(as_value(key, *money)),
        pessimistic,
    };
    writes.iter().map(put).collect()
}

/// Key to commit ts to (start ts, money).
type History = BTreeMap<Vec<u8>, BTreeMap<Ts, (Ts, i64)>>;

fn history(data: &Data) -> History {
    let mut history = History::new();
    for (key, bytes) in data.cf(Cf::Write) {
        let (user, commit_ts) = split_ts(key).unwrap();
        let write = Write::parse(bytes).unwrap();
        if write.kind != WriteKind::Put {
            assert_eq!(write.kind, WriteKind::Rollback, "nobody deletes or only locks here");
            continue;
        }
        let mut long_key = user.to_vec();
        logtide_model::append_ts(&mut long_key, write.start_ts);
        let value = match write.short_value {
            Some(value) => Bytes::copy_from_slice(value),
            None => data.cf(Cf::Default)[&long_key].clone(),
        };
        let versions: &mut BTreeMap<_, _> = history.entry(decode_raw_key(user).unwrap()).or_default();
        versions.insert(commit_ts, (write.start_ts, money(&value)));
    }
    history
}

/// Checks what the world left behind.
fn check(world: &World) {
    let history = history(&world.store.data);
    let mut committed: BTreeMap<Ts, BTreeMap<Vec<u8>, (Ts, i64)>> = BTreeMap::new();
    for (key, versions) in &history {
        for (commit_ts, (start_ts, money)) in versions {
            committed.entry(*start_ts).or_default().insert(key.clone(), (*commit_ts, *money));
        }
    }
    check_atomic(world, &committed);
    for read in &world.reads {
        let (_, (_, value)) = history[&read.key].range(..=read.ts).next_back().unwrap();
        assert_eq!(read.value, *value, "{:?} at {}", read.key, read.ts);
    }
    // No lost updates: nobody committed to a key between a transaction's reading and its own commit.
    for versions in history.values() {
        let mut before = Ts::ZERO;
        for (commit_ts, (start_ts, _)) in versions {
            assert!(
                before <= world.begun[start_ts].2,
                "{start_ts} overwrote a version of {before} that it had not read"
            );
            before = *commit_ts;
        }
    }
    for (barrier, applied) in &world.barriers {
        check_barrier(*barrier, applied, &history);
    }
}

/// A transaction is on all its keys, at one ts, with its values, or on none; and its client was told the truth.
fn check_atomic(world: &World, committed: &BTreeMap<Ts, BTreeMap<Vec<u8>, (Ts, i64)>>) {
    for (start_ts, (writes, outcome, _)) in &world.begun {
        match committed.get(start_ts) {
            Some(records) => {
                let values: BTreeMap<_, _> = records.iter().map(|(key, (_, money))| (key.clone(), *money)).collect();
                assert_eq!(&values, writes, "{start_ts}");
                let at: BTreeSet<_> = records.values().map(|(ts, _)| *ts).collect();
                assert_eq!(at.len(), 1, "{start_ts} committed at {at:?}");
                assert!(at.first() > Some(start_ts));
                assert!(outcome.is_none_or(|known| known.as_ref() == at.first()), "{start_ts}: {outcome:?}, {at:?}");
            }
            None => assert!(!matches!(outcome, Some(Some(_))), "{start_ts} was told to be committed"),
        }
    }
}

/// H2: what is committed at or below a barrier had its lock or its record applied then.
fn check_barrier(barrier: Ts, applied: &Data, history: &History) {
    let lock = |(key, bytes): (&Vec<u8>, &Bytes)| (decode_raw_key(key).unwrap(), Lock::peek(bytes).unwrap().1);
    let locks: BTreeSet<_> = applied.cf(Cf::Lock).iter().map(lock).collect();
    let before = super::random::history(applied);
    for (key, versions) in history {
        for (commit_ts, (start_ts, _)) in versions.range(..=barrier) {
            let there = before.get(key).is_some_and(|v| v.contains_key(commit_ts));
            assert!(there || locks.contains(&(key.clone(), *start_ts)), "{start_ts} came below the barrier {barrier}");
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
