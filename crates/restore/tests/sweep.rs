//! A sweep finds what crashes leave, by rule, and never what metadata refers to or what may still be committed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use lab::backup::{copy, get, memory_storage, paths, put};
use lab::history::{Cluster, History};
use lab::merging::{boots, merge_some, steps};
use lab::{Random, State, block_on, chain, restore_in_memory};
use logtide_format::{
    DataName, MetaLink, MetaName, ObjectTag, checkpoint_path, data_path, decode_metadata, encode_checkpoint,
    encode_marks, marks_path, parse_head_path,
};
use logtide_model::{Diagnose, Ts};
use logtide_restore::{Kept, RestoreError, SweepOptions, SweepReason, SweepReport, sweep};
use logtide_storage::{LockOwner, Storage, WriteLock};
use object_store::ObjectStoreExt;
use object_store::path::Path;

const DAY: u64 = 24 * 3_600_000;

/// Histories whose metadata objects tell of one another.
fn histories(steps: u64) -> impl Iterator<Item = History> {
    (0..).map(move |n| Cluster::run(2 * n, steps)).filter(|history| {
        let all = paths(&history.storage, ".meta");
        all.iter().all(|path| MetaLink::parse(path).unwrap().is_some()) && !all.is_empty()
    })
}

/// In two days from now.
fn options(delete: bool) -> SweepOptions {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    SweepOptions { delete, ..SweepOptions::at(now + 2 * DAY) }
}

fn look(storage: &Storage) -> SweepReport {
    block_on(sweep(storage, &options(false))).unwrap_or_else(|e| panic!("{}", chain(&e)))
}

fn found(report: &SweepReport) -> BTreeMap<SweepReason, u64> {
    report.found.iter().map(|row| (row.reason, row.objects)).collect()
}

fn kept(report: &SweepReport) -> BTreeMap<Kept, u64> {
    report.kept.iter().map(|row| (row.reason, row.objects)).collect()
}

fn state(history: &History, storage: &Storage) -> State {
    let at = history.checkpoint;
    let (_, state) = restore_in_memory(storage, Some(at), |options| options.threads = Some(0)).unwrap();
    state.state_at(Ts::new(at)).unwrap()
}

fn referred_to(storage: &Storage) -> BTreeSet<String> {
    let metas = paths(storage, ".meta").into_iter().map(|path| decode_metadata(&path, &get(storage, &path)).unwrap());
    metas.flat_map(|meta| meta.file_groups).map(|group| group.path).collect()
}

#[test]
fn a_log_without_leftovers_is_left_alone() {
    let mut random = Random(2);
    for history in histories(150).take(4) {
        assert_eq!((found(&look(&history.storage)), kept(&look(&history.storage))), Default::default());
        let merged = copy(&history.storage);
        merge_some(&merged, &mut random);
        let report = look(&merged);
        let heads = found(&report).get(&SweepReason::MergedHead).copied().unwrap_or(0);
        assert_eq!(found(&report).values().sum::<u64>(), heads, "the heads of what was merged again: {report:?}");
    }
}

#[test]
fn what_a_crash_in_a_merge_leaves_is_found_and_removed() {
    let mut removed = 0;
    for history in histories(150).take(3) {
        for boot in boots(&history.storage, 2) {
            let storage = copy(&history.storage);
            let all = steps(&storage, &boot);
            for (done, step) in all.iter().enumerate() {
                step.apply(&storage);
                let left = (boot.len() - done.saturating_sub(1)) as u64;
                let (before, report) = (paths(&storage, ""), look(&storage));
                let expected = BTreeMap::from([(SweepReason::MergedMetadata, left)]);
                assert_eq!(found(&report), if left > 0 { expected } else { BTreeMap::new() }, "{done}");
                assert_eq!(paths(&storage, ""), before, "it only looks");
                let swept = copy(&storage);
                let report = block_on(sweep(&swept, &options(true))).unwrap();
                assert_eq!((report.deleted, found(&look(&swept)).len()), (left, 0));
                assert!(state(&history, &swept) == history.at(history.checkpoint));
                assert_eq!(referred_to(&swept), referred_to(&history.storage));
                removed += report.deleted;
            }
        }
    }
    assert!(removed > 50, "{removed}");
}

/// A name of a data object.
fn data(store: u64, boot: u64, generation: u64) -> String {
    data_path(store, Ts::new(7 << 40), Ts::new(7 << 40), false, ObjectTag { boot, generation }, 77)
}

/// Store and boot of a metadata object, and its generation.
fn place(path: &str) -> (u64, u64, u64) {
    let name = MetaName::parse(path).unwrap();
    (name.store_id, name.tag.unwrap().boot, name.tag.unwrap().generation)
}

#[test]
fn data_is_judged_by_its_generation() {
    let mut seen = BTreeMap::new();
    for history in histories(300).take(4) {
        let newest =
            |store| boots(&history.storage, 1).iter().map(|b| place(&b[0])).filter(|p| p.0 == store).map(|p| p.1).max();
        for boot in boots(&history.storage, 2) {
            let storage = copy(&history.storage);
            let (store, number, last) = place(boot.last().unwrap());
            let is_newest = newest(store) == Some(number);
            let first = place(&boot[0]).2;
            for (generation, gone) in [(last + 1, false), (last, false), (first, false), (first, true)] {
                let (object, storage) = (data(store, number, generation), copy(&storage));
                put(&storage, &object, vec![1; 10]);
                if gone {
                    block_on(storage.store.delete(&Path::from(boot[0].as_str()))).unwrap();
                }
                let report = look(&storage);
                let reason = report.found.iter().find(|row| row.examples.contains(&object)).map(|row| row.reason);
                let why = report.kept.iter().find(|row| row.examples.contains(&object)).map(|row| row.reason);
                let expected = match (generation > last, is_newest, gone) {
                    (true, true, _) => (None, Some(Kept::InFlight)),
                    (true, false, _) => (Some(SweepReason::Uncommitted), None),
                    (false, _, false) => (Some(SweepReason::Unreferenced), None),
                    (false, _, true) => (None, Some(Kept::MetadataGone)),
                };
                if !gone {
                    assert_eq!((reason, why), expected);
                } else {
                    assert_eq!(reason, None, "what is left of a flush whose metadata is gone");
                }
                *seen.entry(expected).or_insert(0) += 1;
                let swept = block_on(sweep(&storage, &options(true))).unwrap();
                assert_eq!(swept.deleted, u64::from(reason.is_some()));
                assert_eq!(paths(&storage, ".log").contains(&object), reason.is_none());
                assert!(gone || state(&history, &storage) == history.at(history.checkpoint));
            }
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn each_sort_of_leftovers_is_found_and_what_is_unknown_is_named() {
    let history = histories(150).next().unwrap();
    let storage = copy(&history.storage);
    let checkpoint = |ts: u64| encode_checkpoint(Ts::new(ts)).to_vec();
    put(&storage, "v1/20251009/08/2/4613-f47ac10b-58cc-4372-a567-0e02b2c3d479.log", vec![1; 5]);
    put(&storage, "v1/logtide/probe/00000000000000ff-put", vec![1]);
    put(&storage, &checkpoint_path(99), checkpoint(history.checkpoint - 1));
    put(&storage, &checkpoint_path(98), checkpoint(history.checkpoint + 1));
    put(&storage, &marks_path(1, ObjectTag { boot: 9, generation: 9 }), encode_marks(1, &[]));
    put(&storage, "v1/somebody/elses", vec![1; 9]);
    block_on(WriteLock::new(storage.clone(), LockOwner { store_id: 1, boot: 1 }).acquire(0)).unwrap();
    let report = look(&storage);
    let expected =
        [(SweepReason::Lock, 2), (SweepReason::Probe, 1), (SweepReason::StrayCheckpoint, 1), (SweepReason::Foreign, 1)];
    assert_eq!(found(&report), BTreeMap::from(expected));
    assert_eq!(kept(&report), BTreeMap::from([(Kept::Unknown, 1)]));
    assert_eq!(report.kept[0].examples, ["v1/somebody/elses"]);
    assert!(serde_json::to_string(&report).unwrap().contains("\"stray-checkpoint\""));
    let young = SweepOptions { min_age_ms: 3 * DAY, ..options(true) };
    let report = block_on(sweep(&storage, &young)).unwrap();
    assert_eq!((report.deleted, kept(&report)[&Kept::Young]), (0, 5));
    let report = block_on(sweep(&storage, &options(true))).unwrap();
    assert_eq!((report.deleted, found(&look(&storage)).len()), (5, 0));
    assert!(paths(&storage, "").contains(&"v1/somebody/elses".to_owned()));
    assert!(state(&history, &storage) == history.at(history.checkpoint));
    assert_eq!(paths(&storage, "LOCK.WRIT"), [""; 0], "it leaves no lock either");
}

#[test]
fn others_are_not_disturbed_and_what_is_no_log_is_refused() {
    let error = block_on(sweep(&memory_storage(), &options(false))).unwrap_err();
    assert!(matches!(error, RestoreError::NotALog { .. }) && !error.remedy().is_empty(), "{error}");
    let history = histories(150).next().unwrap();
    let storage = copy(&history.storage);
    let boot = boots(&storage, 2).remove(0);
    steps(&storage, &boot)[..2].iter().for_each(|step| step.apply(&storage));
    put(&storage, "v1/LOCK.READ.00000000000000ff", b"{}".to_vec());
    let report = look(&storage);
    assert_eq!(kept(&report), BTreeMap::from([(Kept::LockOfOthers, 1)]));
    let before = paths(&storage, "");
    let error = block_on(sweep(&storage, &options(true))).unwrap_err();
    assert!(matches!(&error, RestoreError::Locked { cause, .. } if cause.contains("v1/LOCK.READ")), "{error}");
    assert_eq!(paths(&storage, ""), before);
    let damaged = copy(&history.storage);
    let has_data = |path: &String| MetaName::parse(path).unwrap().max_ts > Ts::ZERO;
    let object = paths(&damaged, ".meta").into_iter().find(has_data).unwrap();
    put(&damaged, &object, vec![1, 2, 3]);
    let error = block_on(sweep(&damaged, &options(true))).unwrap_err();
    assert!(chain(&error).contains(&object), "what it refers to is not known");
}

#[test]
fn whatever_is_lost_no_data_that_was_committed_is_removed() {
    let (mut random, mut removed) = (Random(11), 0);
    for history in histories(200).take(5) {
        for _ in 0..6 {
            let storage = copy(&history.storage);
            merge_some(&storage, &mut random);
            // What was committed up to where, the heads of boots tell.
            for path in paths(&storage, "") {
                let is_merged_head = parse_head_path(&path).is_some_and(|(.., generation)| generation.is_some());
                if (path.ends_with(".meta") || is_merged_head) && random.chance(20) {
                    block_on(storage.store.delete(&Path::from(path.as_str()))).unwrap();
                }
            }
            let committed = referred_to(&history.storage);
            let tags = committed.iter().filter_map(|path| DataName::parse(path)?.origin);
            let newest = tags.map(|(tag, _)| tag.boot).max().unwrap();
            (1..4).for_each(|store| {
                put(&storage, &data(store, newest + 1, 5), vec![1]);
                put(&storage, &data(store, newest + 2, 5), vec![1]);
            });
            let report = block_on(sweep(&storage, &options(true))).unwrap_or_else(|e| panic!("{}", chain(&e)));
            let uncommitted = report.found.iter().find(|row| row.reason == SweepReason::Uncommitted);
            assert_eq!(uncommitted.map(|row| row.objects), Some(3), "{report:?}");
            removed += report.deleted;
            let left: BTreeSet<_> = paths(&storage, ".log").into_iter().collect();
            assert_eq!(committed.difference(&left).collect::<Vec<_>>(), Vec::<&String>::new());
        }
    }
    assert!(removed > 0, "{removed}");
}
