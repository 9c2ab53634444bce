//! A client of the random test, as a machine of small steps.

use std::collections::BTreeMap;

use logtide_model::Ts;
use rand::Rng;

use super::{ACCOUNTS, Begun, Read, TTL, World, account, as_value, money};
use crate::rpc::{Command, KeyError, KvResponse, Mutation, MutationKind, Prewrite};

/// How a transaction commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mode {
    pessimistic: bool,
    async_commit: bool,
    one_pc: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Lock,
    Read,
    Prewrite(usize),
    Commit(usize),
    Rollback,
    Over,
}

/// A transaction and where it is.
#[derive(Debug)]
pub(super) struct Machine {
    mode: Mode,
    start_ts: Ts,
    ttl: u64,
    /// The accounts, the primary first.
    keys: Vec<Vec<u8>>,
    for_update_ts: Ts,
    read: BTreeMap<Vec<u8>, i64>,
    writes: BTreeMap<Vec<u8>, i64>,
    pub(super) phase: Phase,
    commit_ts: Ts,
    /// The command that is in flight.
    waits_for: Option<u64>,
    answer: Option<KvResponse>,
    bypass: Vec<Ts>,
    /// What its client knows in the end.
    outcome: Option<Option<Ts>>,
}

impl World {
    pub(super) fn begin(&mut self) -> Machine {
        let start_ts = self.tso();
        let mut keys: Vec<Vec<u8>> = Vec::new();
        while keys.len() < 2 + usize::from(start_ts.get().is_multiple_of(2)) {
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
        self.begun.insert(start_ts, Begun { writes: BTreeMap::new(), outcome: None, read_ts: start_ts });
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
    pub(super) fn step(&mut self, m: &mut Machine) {
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
        let read_ts = m.for_update_ts.max(m.start_ts);
        self.begun.insert(m.start_ts, Begun { writes: m.writes.clone(), outcome: m.outcome, read_ts });
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
}

pub(super) fn mutations(writes: &BTreeMap<Vec<u8>, i64>, pessimistic: bool) -> Vec<Mutation> {
    let put = |(key, money): (&Vec<u8>, &i64)| Mutation {
        key: key.clone(),
        kind: MutationKind::Put(as_value(key, *money)),
        pessimistic,
    };
    writes.iter().map(put).collect()
}
