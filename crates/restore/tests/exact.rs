//! Invariant I10: for every T that the log covers, restore(T) is the MVCC state at T; never more, never less.

#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod lab;

use std::collections::BTreeMap;

use lab::backup::{Entry, Style, begin, checkpoint, flush, memory_storage};
use lab::history::{Cluster, History, versioned};
use lab::{Random, State, chain, difference, restore, state_at};
use logtide_format::{EntryKind, ObjectTag};
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{Cf, Compression, KeyRange, Ts, encode_raw_key};
use logtide_restore::RestoreError;
use proptest::prelude::*;

fn assert_exact(history: &History, at: u64, seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("node");
    let summary =
        restore(&history.storage, &target, Some(at), |_| ()).unwrap_or_else(|e| panic!("{seed}: {}", chain(&e)));
    assert_eq!(summary.restored_ts, at);
    // No garbage: a value is there if a commit refers to it, and only then.
    let upto = history.versions.values().flat_map(|versions| versions.range(..=at));
    let long = upto.filter(|(_, value)| value.as_ref().is_some_and(|v| v.len() > 255)).count();
    assert_eq!(summary.records.values, long as u64, "seed {seed}, T {at}");
    // A restored node answers reads at any earlier ts as well, back to the start of the log.
    for ts in [at, at - (at - history.start) / 3, at - (at - history.start) / 2, history.start] {
        let (want, (got, dumped)) = (history.at(ts), state_at(&target, ts));
        assert_eq!(
            difference(&want, &got),
            lab::NOTHING,
            "missing, extra, different; seed {seed}, T {at}, read at {ts}"
        );
        assert_eq!((dumped.locks, dumped.keys), (0, want.len() as u64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn restore_is_the_state_at_t(seed: u64, steps in 20u64..400, fraction in 0.0f64..=1.0) {
        let history = Cluster::run(seed, steps);
        let span = history.checkpoint - history.start;
        for at in [history.start + (span as f64 * fraction) as u64, history.checkpoint] {
            assert_exact(&history, at, seed);
        }
    }
}

/// Found by the property: a store that had seen an early value marked a commit of another store.
#[test]
fn histories_that_once_failed() {
    let history = Cluster::run(17_597_066_242_498_979_858, 320);
    let span = history.checkpoint - history.start;
    assert_exact(&history, history.start + (span as f64 * 0.199_783_888_803_232_5) as u64, 0);
    assert_exact(&history, history.checkpoint, 0);
}

/// The property means something only if the histories hold what is hard.
#[test]
fn the_histories_hold_what_is_hard() {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let mut dropped = logtide_restore::Dropped::default();
    for seed in 0..12 {
        let history = Cluster::run(seed, 300);
        history.seen.iter().for_each(|(what, n)| *seen.entry(what).or_default() += n);
        let dir = tempfile::tempdir().unwrap();
        let at = history.start + (history.checkpoint - history.start) * 3 / 4;
        let summary = restore(&history.storage, &dir.path().join("node"), Some(at), |_| ()).unwrap();
        let d = summary.records.dropped;
        dropped.after_restored_ts += d.after_restored_ts;
        dropped.before_start += d.before_start;
        dropped.delete_entries += d.delete_entries;
        dropped.duplicates += d.duplicates;
        dropped.unreferenced_values += d.unreferenced_values;
    }
    for what in [
        "rewritten values",
        "overwritten rollbacks",
        "undone values",
        "overlapped rollbacks",
        "collapsed rollbacks",
        "collected versions",
        "scans",
        "repeated commits",
        "generations",
    ] {
        assert!(seen.get(what).is_some_and(|n| *n > 10), "{what}: {seen:?}");
    }
    let logtide_restore::Dropped {
        after_restored_ts,
        before_start,
        delete_entries,
        duplicates,
        unreferenced_values,
        ..
    } = dropped;
    for n in [after_restored_ts, before_start, delete_entries, duplicates, unreferenced_values] {
        assert!(n > 10, "{dropped:?}");
    }
}

#[test]
fn a_key_range_is_restored_exactly() {
    for seed in 100..106 {
        let history = Cluster::run(seed, 200);
        let keys: Vec<_> = history.versions.keys().cloned().collect();
        let (from, to) = (keys[keys.len() / 3].clone(), keys[keys.len() * 2 / 3].clone());
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("node");
        let range = KeyRange::new(encode_raw_key(&from), encode_raw_key(&to));
        restore(&history.storage, &target, None, |options| options.range = Some(range)).unwrap();
        let mut want = history.at(history.checkpoint);
        want.retain(|key, _| *key >= from && *key < to);
        let (got, _) = state_at(&target, history.checkpoint);
        assert_eq!(difference(&want, &got), lab::NOTHING);
    }
}

/// One store, no tags, plain blocks of any size.
const PLAIN: Style = Style { compression: Compression::None, block: 100, object: 100, tags: true, links: true };

fn entry(cf: Cf, kind: EntryKind, raw: &[u8], ts: u64, value: Vec<u8>) -> Entry {
    Entry { region: 1, version: 1, cf, kind, key: versioned(raw, ts), value }
}

fn commit(raw: &[u8], start: u64, commit: u64) -> Entry {
    let write = Write::new(WriteKind::Put, Ts::new(start), None).to_bytes();
    entry(Cf::Write, EntryKind::Put, raw, commit, write)
}

fn value(raw: &[u8], start: u64, value: &[u8]) -> Entry {
    entry(Cf::Default, EntryKind::Put, raw, start, value.to_vec())
}

/// Restores generations of stores 1, 2, …: `(store, generation, flush_ts, entries)`.
fn restored(generations: &[(u64, u64, u64, Vec<Entry>)], at: u64) -> Result<State, RestoreError> {
    let storage = memory_storage();
    begin(&storage, 5);
    checkpoint(&storage, 1, 1000);
    for (store, generation, flush_ts, entries) in generations {
        let tag = ObjectTag { boot: 1, generation: *generation };
        flush(&storage, &mut Random(1), PLAIN, *store, *flush_ts, tag, entries);
    }
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("node");
    restore(&storage, &target, Some(at), |_| ())?;
    Ok(state_at(&target, at).0)
}

#[test]
fn a_delete_entry_hides_nothing_that_t_sees() {
    let gone = |cf, ts| entry(cf, EntryKind::Delete, b"k", ts, Vec::new());
    let all = vec![
        (1, 1, 30, vec![value(b"k", 10, b"old"), commit(b"k", 10, 11)]),
        (1, 2, 60, vec![value(b"k", 20, b"new"), commit(b"k", 20, 21)]),
        (1, 3, 90, vec![gone(Cf::Write, 11), gone(Cf::Default, 10)]),
    ];
    for (at, want) in [(10, None), (11, Some("old")), (20, Some("old")), (21, Some("new")), (1000, Some("new"))] {
        let state = restored(&all, at).unwrap();
        assert_eq!(state.get(&b"k"[..]).map(|v| v.as_slice()), want.map(str::as_bytes), "at {at}");
    }
}

#[test]
fn a_deposed_store_that_flushes_late_does_not_win() {
    let all = vec![
        (2, 1, 40, vec![value(b"k", 10, b"committed"), commit(b"k", 10, 20)]),
        (1, 1, 90, vec![value(b"k", 10, b"first draft")]),
    ];
    assert_eq!(restored(&all, 100).unwrap()[&b"k"[..]], b"committed");
}

#[test]
fn a_store_that_only_marked_the_commit_does_not_know_its_value() {
    let mut write = Write::new(WriteKind::Put, Ts::new(10), None);
    write.overlapped_rollback = true;
    write.gc_fence = Some(Ts::ZERO);
    let marked = entry(Cf::Write, EntryKind::Put, b"k", 20, write.to_bytes());
    let all = vec![
        (1, 1, 30, vec![value(b"k", 10, b"first draft")]),
        (2, 1, 40, vec![value(b"k", 10, b"committed"), commit(b"k", 10, 20)]),
        (1, 2, 90, vec![marked]),
    ];
    assert_eq!(restored(&all, 100).unwrap()[&b"k"[..]], b"committed");
}

#[test]
fn a_value_that_nobody_can_vouch_for_is_an_error() {
    let all = vec![
        (1, 1, 30, vec![value(b"key", 10, b"a")]),
        (2, 1, 40, vec![value(b"key", 10, b"b")]),
        (3, 1, 50, vec![commit(b"key", 10, 20)]),
    ];
    let error = restored(&all, 100).unwrap_err();
    assert!(matches!(error, RestoreError::AmbiguousValue { .. }) && error.to_string().contains("6b6579"), "{error}");
}

#[test]
fn within_a_store_generations_count_not_flush_ts() {
    let all = vec![
        (1, 2, 40, vec![value(b"k", 10, b"committed"), commit(b"k", 10, 20)]),
        (1, 1, 90, vec![value(b"k", 10, b"first draft")]),
    ];
    assert_eq!(restored(&all, 100).unwrap()[&b"k"[..]], b"committed");
}

#[test]
fn a_committed_value_that_is_missing_is_an_error() {
    let error = restored(&[(1, 1, 40, vec![commit(b"key", 10, 20)])], 100).unwrap_err();
    let text = chain(&error);
    for part in ["6b6579", "start ts 10", "20"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(restored(&[(1, 1, 40, vec![commit(b"key", 10, 20)])], 19).unwrap().is_empty(), "it is not needed before");
}

#[test]
fn two_commits_at_one_ts_are_an_error() {
    let all = vec![
        (1, 1, 40, vec![value(b"key", 10, b"a"), commit(b"key", 10, 20)]),
        (2, 1, 40, vec![value(b"key", 11, b"b"), commit(b"key", 11, 20)]),
    ];
    let text = chain(&restored(&all, 100).unwrap_err());
    assert!(text.contains("6b6579") && text.contains("20") && text.contains("contradicts"), "{text}");
}

#[test]
fn values_are_found_below_the_start_of_the_log() {
    let all = vec![
        (1, 1, 30, vec![value(b"k", 2, b"begun before")]),
        (1, 2, 60, vec![commit(b"k", 2, 50), value(b"l", 3, b"x"), commit(b"l", 3, 5)]),
    ];
    assert_eq!(restored(&all, 100).unwrap(), State::from([(b"k".to_vec(), b"begun before".to_vec())]));
}
