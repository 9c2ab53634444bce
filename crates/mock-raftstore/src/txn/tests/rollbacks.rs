//! Rollback records: collapsed, protected, and meeting commit records of the same ts.

use logtide_model::mvcc::{Lock, Write, WriteKind};
use logtide_model::{Cf, Ts, encode_raw_key, split_ts};

use super::store::{Store, commit, keys, prewrite, request, rollback, value};
use crate::rpc::{Command, KeyError};

/// The write records of the store: commit ts, kind, protected, overlapped rollback, gc fence.
fn records(store: &Store) -> Vec<(u64, WriteKind, bool, bool, Option<u64>)> {
    let record = |(key, bytes): (&Vec<u8>, &bytes::Bytes)| {
        let write = Write::parse(bytes).unwrap();
        let fence = write.gc_fence.map(Ts::get);
        (split_ts(key).unwrap().1.get(), write.kind, write.is_protected(), write.overlapped_rollback, fence)
    };
    store.data.cf(Cf::Write).iter().map(record).collect()
}

fn pessimistic_lock(key: &str, start_ts: u64) -> Command {
    let start_ts = Ts::new(start_ts);
    Command::PessimisticLock { keys: keys(&[key]), primary: key.into(), start_ts, for_update_ts: start_ts, ttl: 1 }
}

#[test]
fn many_rollbacks_leave_one_record() {
    let mut store = Store::new();
    for ts in 5..50 {
        store.run(prewrite("a", &[("a", Some("x"))], ts)).ok();
        store.run(rollback(&["a"], ts)).ok();
    }
    assert_eq!(records(&store), [(49, WriteKind::Rollback, false, false, None)]);
    // Those whose record is gone are kept away by the newer one.
    assert!(matches!(store.run(prewrite("a", &[("a", None)], 7)).error(), KeyError::WriteConflict { .. }));
}

#[test]
fn the_rollback_of_a_pessimistic_primary_is_protected() {
    let mut store = Store::new();
    store.run(pessimistic_lock("a", 5)).ok();
    store.run(rollback(&["a"], 5)).ok();
    store.run(rollback(&["a"], 6)).ok();
    store.run(rollback(&["a"], 7)).ok();
    assert_eq!(
        records(&store),
        [(7, WriteKind::Rollback, false, false, None), (5, WriteKind::Rollback, true, false, None)]
    );
    assert!(matches!(store.run(pessimistic_lock("a", 5)).error(), KeyError::WriteConflict { .. }));
}

#[test]
fn a_rollback_marks_the_commit_record_of_its_ts() {
    let mut store = Store::new();
    store.put("a", "old", 5, 9);
    store.put("a", "new", 12, 15);
    store.run(rollback(&["a"], 9)).ok();
    assert_eq!(records(&store), [(15, WriteKind::Put, false, false, None), (9, WriteKind::Put, false, true, Some(15))]);
    // The value stays; the fence says that it is not the newest version.
    assert_eq!(store.get("a", 9), value(Some("old")));
    assert_eq!(store.get("a", 15), value(Some("new")));
    assert!(store.plan(&rollback(&["a"], 9)).ops.is_empty(), "again changes nothing");

    let mut store = Store::new();
    store.put("a", "old", 5, 9);
    store.run(prewrite("a", &[("a", Some("x"))], 9)).ok();
    store.run(rollback(&["a"], 9)).ok();
    assert_eq!(records(&store), [(9, WriteKind::Put, false, true, Some(0))]);
    assert_eq!(store.get("a", 100), value(Some("old")));
    let late = store.run(prewrite("a", &[("a", Some("x"))], 9)).error();
    assert_eq!(late, KeyError::RolledBack { key: b"a".to_vec(), start_ts: Ts::new(9) });
    let late = store.run(pessimistic_lock("a", 9)).error();
    assert_eq!(late, KeyError::RolledBack { key: b"a".to_vec(), start_ts: Ts::new(9) });
}

#[test]
fn a_version_that_gc_removed_does_not_come_back_with_a_mark() {
    let mut store = Store::new();
    store.put("a", "old", 5, 9);
    store.run(prewrite("a", &[("a", None)], 12)).ok();
    store.run(commit(&["a"], 12, 15)).ok();
    store.run(rollback(&["a"], 9)).ok();
    // GC at 20 removes the delete, and would have removed the version that was rewritten.
    let newest = store.data.cf(Cf::Write).keys().next().unwrap().clone();
    assert_eq!(split_ts(&newest).unwrap().1, Ts::new(15));
    let mut plan = store.plan(&rollback(&["zzz"], 1));
    plan.ops = vec![logtide_model::Op::Delete { cf: Cf::Write, key: newest.into() }];
    store.apply(plan);
    assert_eq!(store.get("a", 30), value(None));
}

#[test]
fn a_commit_over_a_rollback_of_its_ts_remembers_it() {
    let mut store = Store::new();
    let mut prewrite = request("a", &[("a", Some("x"))], 5);
    prewrite.async_commit = true;
    store.run(Command::Prewrite(prewrite)).ok();
    let lock = |store: &Store| Lock::parse(&store.data.cf(Cf::Lock)[&encode_raw_key(b"a")]).unwrap();
    assert_eq!(lock(&store).min_commit_ts, Ts::new(6));
    store.run(rollback(&["a"], 8)).ok();
    assert_eq!(lock(&store).rollback_ts, [Ts::new(8)]);
    store.run(commit(&["a"], 5, 8)).ok();
    assert_eq!(records(&store), [(8, WriteKind::Put, false, true, None)]);
    let late = store.run(super::store::prewrite("a", &[("a", Some("y"))], 8)).error();
    assert_eq!(late, KeyError::RolledBack { key: b"a".to_vec(), start_ts: Ts::new(8) });
}
