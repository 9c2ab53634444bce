//! What snapshot isolation promises, checked on what a world left behind.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use logtide_model::mvcc::{Lock, Write, WriteKind};
use logtide_model::{Cf, Ts, decode_raw_key, split_ts};

use super::{Begun, World, money};
use crate::txn::tests::store::Data;

/// Key to commit ts to (start ts, money).
pub(super) type History = BTreeMap<Vec<u8>, BTreeMap<Ts, (Ts, i64)>>;

pub(super) fn history(data: &Data) -> History {
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
pub(super) fn check(world: &World) {
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
                before <= world.begun[start_ts].read_ts,
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
    for (start_ts, Begun { writes, outcome, .. }) in &world.begun {
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
    let before = self::history(applied);
    for (key, versions) in history {
        for (commit_ts, (start_ts, _)) in versions.range(..=barrier) {
            let there = before.get(key).is_some_and(|v| v.contains_key(commit_ts));
            assert!(there || locks.contains(&(key.clone(), *start_ts)), "{start_ts} came below the barrier {barrier}");
        }
    }
}
