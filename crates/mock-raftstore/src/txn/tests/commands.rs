//! Prewrite, commit, pessimistic locks and status checks, each against its rules.

use logtide_model::mvcc::{Lock, LockKind, Write, WriteKind};
use logtide_model::{Cf, Ts, encode_raw_key};

use super::store::{Store, commit, keys, prewrite, request, rollback, value};
use crate::rpc::{CheckTxnStatus, Command, KeyError, KvResponse, TxnStatus};
use crate::txn::changes::UserKey;

fn lock_of(store: &Store, key: &str) -> Option<Lock> {
    store.data.cf(Cf::Lock).get(&encode_raw_key(key.as_bytes())).map(|bytes| Lock::parse(bytes).unwrap())
}

fn acquire(names: &[&str], primary: &str, start_ts: u64, for_update_ts: u64) -> Command {
    let (start_ts, for_update_ts) = (Ts::new(start_ts), Ts::new(for_update_ts));
    Command::PessimisticLock { keys: keys(names), primary: primary.into(), start_ts, for_update_ts, ttl: 1 }
}

fn pessimistic(primary: &str, writes: &[(&str, Option<&str>)], start_ts: u64, for_update_ts: u64) -> Command {
    let mut request = request(primary, writes, start_ts);
    request.for_update_ts = Ts::new(for_update_ts);
    request.mutations.iter_mut().for_each(|m| m.pessimistic = true);
    Command::Prewrite(request)
}

fn ask(primary: &str, start_ts: u64) -> CheckTxnStatus {
    CheckTxnStatus {
        primary: primary.into(),
        start_ts: Ts::new(start_ts),
        caller_start_ts: Ts::ZERO,
        current_ts: Ts::new(start_ts),
        rollback_if_missing: false,
        force_sync_commit: false,
    }
}

/// Long after the time to live of every lock here.
const LATER: Ts = Ts::compose(10, 0);

#[test]
fn records_are_those_of_tikv() {
    let long = "x".repeat(65);
    let mut store = Store::new();
    store.run(prewrite("a", &[("a", Some("short")), ("b", Some(&long)), ("c", None)], 5)).ok();
    let a = lock_of(&store, "a").unwrap();
    assert_eq!((a.kind, a.primary, a.start_ts, a.txn_size), (LockKind::Put, b"a".to_vec(), Ts::new(5), 3));
    assert_eq!(a.short_value, Some(b"short".to_vec()));
    assert_eq!(lock_of(&store, "b").unwrap().short_value, None);
    assert_eq!(lock_of(&store, "c").unwrap().kind, LockKind::Delete);
    let default: Vec<_> = store.data.cf(Cf::Default).iter().collect();
    assert_eq!(default, [(&UserKey::new(b"b").at(Ts::new(5)), &long.clone().into())]);

    store.run(commit(&["a", "b", "c"], 5, 9)).ok();
    assert!(store.data.cf(Cf::Lock).is_empty());
    let records: Vec<_> = store.data.cf(Cf::Write).iter().collect();
    let record = |key: &str, write: Write<'_>| (UserKey::new(key.as_bytes()).at(Ts::new(9)), write.to_bytes().into());
    let expected = [
        record("a", Write::new(WriteKind::Put, Ts::new(5), Some(b"short"))),
        record("b", Write::new(WriteKind::Put, Ts::new(5), None)),
        record("c", Write::new(WriteKind::Delete, Ts::new(5), None)),
    ];
    assert_eq!(records, expected.iter().map(|(k, v)| (k, v)).collect::<Vec<_>>());
    assert_eq!(store.get("b", 9), value(Some(&long)));
    assert_eq!(store.get("b", 8), value(None));
}

#[test]
fn a_prewrite_conflicts_with_newer_commits_and_with_locks() {
    let mut store = Store::new();
    store.put("a", "1", 5, 9);
    let error = store.run(prewrite("a", &[("a", Some("2"))], 8)).error();
    let (start_ts, conflict_start_ts, conflict_commit_ts) = (Ts::new(8), Ts::new(5), Ts::new(9));
    assert_eq!(error, KeyError::WriteConflict { key: b"a".to_vec(), start_ts, conflict_start_ts, conflict_commit_ts });
    assert!(store.data.cf(Cf::Lock).is_empty());

    store.run(prewrite("a", &[("a", Some("2")), ("b", None)], 9)).ok();
    match store.run(prewrite("a", &[("a", None), ("b", None), ("c", None)], 12)) {
        KvResponse::Errors(errors) => {
            let locked = |e: &KeyError| matches!(e, KeyError::Locked(lock) if lock.start_ts == Ts::new(9));
            assert!(errors.len() == 2 && errors.iter().all(locked), "{errors:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(lock_of(&store, "c"), None, "nothing of a failed prewrite stays");
}

#[test]
fn commands_can_be_repeated() {
    let mut store = Store::new();
    let first = prewrite("a", &[("a", Some("1"))], 5);
    store.run(first.clone()).ok();
    let again = store.plan(&first);
    assert!(again.ops.is_empty() && matches!(again.response, KvResponse::Prewrite { .. }));
    store.run(commit(&["a"], 5, 9)).ok();
    let again = store.plan(&commit(&["a"], 5, 9));
    assert!(again.ops.is_empty());
    assert_eq!(again.response, KvResponse::Commit { commit_ts: Ts::new(9) });
    let (key, start_ts, commit_ts) = (b"a".to_vec(), Ts::new(5), Ts::new(9));
    assert_eq!(store.run(first).error(), KeyError::Committed { key: key.clone(), start_ts, commit_ts });
    assert_eq!(store.run(rollback(&["a"], 5)).error(), KeyError::Committed { key, start_ts, commit_ts });
}

#[test]
fn a_commit_needs_its_lock_and_a_large_enough_ts() {
    let mut store = Store::new();
    let error = store.run(commit(&["a"], 5, 9)).error();
    assert_eq!(error, KeyError::LockNotFound { key: b"a".to_vec(), start_ts: Ts::new(5) });
    store.run(rollback(&["a"], 5)).ok();
    let error = store.run(commit(&["a"], 5, 9)).error();
    assert_eq!(error, KeyError::RolledBack { key: b"a".to_vec(), start_ts: Ts::new(5) });

    let mut request = request("b", &[("b", None)], 6);
    request.min_commit_ts = Ts::new(20);
    store.run(Command::Prewrite(request)).ok();
    assert!(matches!(store.run(commit(&["b"], 6, 19)).error(), KeyError::CommitTsExpired { min_commit_ts, .. }
        if min_commit_ts == Ts::new(20)));
    store.run(commit(&["b"], 6, 20)).ok();
}

#[test]
fn a_pessimistic_transaction_locks_then_writes() {
    let mut store = Store::new();
    store.put("a", "1", 5, 9);
    let conflict = store.run(acquire(&["a", "b"], "a", 6, 8)).error();
    assert!(matches!(conflict, KeyError::WriteConflict { .. }));
    let values = vec![Some("1".into()), None];
    assert_eq!(store.run(acquire(&["a", "b"], "a", 6, 10)), KvResponse::PessimisticLock { values: values.clone() });
    let lock = lock_of(&store, "a").unwrap();
    assert_eq!((lock.kind, lock.for_update_ts), (LockKind::Pessimistic, Ts::new(10)));
    // A late, older request changes nothing; a newer one moves the lock.
    assert!(store.plan(&acquire(&["a", "b"], "a", 6, 9)).ops.is_empty());
    assert_eq!(store.run(acquire(&["a", "b"], "a", 6, 11)), KvResponse::PessimisticLock { values });
    // Readers pass, writers do not.
    assert_eq!(store.get("a", 30), value(Some("1")));
    assert!(matches!(store.run(prewrite("a", &[("a", None)], 12)).error(), KeyError::Locked(_)));
    assert!(matches!(store.run(acquire(&["b"], "b", 12, 12)).error(), KeyError::Locked(lock) if lock.pessimistic));

    store.run(pessimistic("a", &[("a", Some("2")), ("b", None)], 6, 11)).ok();
    assert_eq!(lock_of(&store, "a").unwrap().kind, LockKind::Put);
    let mismatch = store.run(acquire(&["a"], "a", 6, 15)).error();
    assert!(matches!(mismatch, KeyError::LockMismatch { .. }));
    store.run(commit(&["a", "b"], 6, 13)).ok();
    assert_eq!(store.get("a", 13), value(Some("2")));
}

#[test]
fn a_lost_pessimistic_lock_is_not_taken_for_granted() {
    let mut store = Store::new();
    let lost = store.run(pessimistic("a", &[("a", None)], 6, 10)).error();
    assert!(matches!(lost, KeyError::PessimisticLockNotFound { .. }));
    store.run(prewrite("a", &[("a", None)], 8)).ok();
    let lost = store.run(pessimistic("a", &[("a", None)], 6, 10)).error();
    assert!(matches!(lost, KeyError::PessimisticLockNotFound { .. }));
    let wrong = store.run(pessimistic("a", &[("a", None)], 8, 10));
    assert!(matches!(wrong, KvResponse::Prewrite { .. }), "its own prewritten lock is there");
    store.run(acquire(&["b"], "b", 6, 6)).ok();
    let optimistic = store.run(prewrite("b", &[("b", None)], 6)).error();
    assert!(matches!(optimistic, KeyError::LockMismatch { .. }));
    let other_primary = store.run(pessimistic("c", &[("b", None)], 6, 6)).error();
    assert!(matches!(other_primary, KeyError::LockMismatch { .. }));
}

#[test]
fn pessimistic_locks_are_given_back() {
    let mut store = Store::new();
    let release = |for_update_ts| Command::PessimisticRollback {
        keys: keys(&["a", "b"]),
        start_ts: Ts::new(6),
        for_update_ts: Ts::new(for_update_ts),
    };
    store.run(acquire(&["a"], "a", 6, 10)).ok();
    store.run(release(9)).ok();
    assert!(lock_of(&store, "a").is_some(), "the lock was taken for a later ts");
    store.run(release(10)).ok();
    assert_eq!(lock_of(&store, "a"), None);
    assert!(store.data.cf(Cf::Write).is_empty(), "it leaves no record");
    store.run(prewrite("b", &[("b", None)], 6)).ok();
    store.run(release(99)).ok();
    assert!(lock_of(&store, "b").is_some(), "prewritten locks stay");
    // A commit that meets a pessimistic lock only takes it away.
    store.run(acquire(&["c"], "c", 6, 10)).ok();
    store.run(commit(&["c"], 6, 20)).ok();
    assert!(lock_of(&store, "c").is_none() && store.data.cf(Cf::Write).is_empty());
}

#[test]
fn a_late_pessimistic_lock_of_a_rolled_back_transaction_fails() {
    let mut store = Store::new();
    store.run(acquire(&["a"], "a", 6, 6)).ok();
    store.run(rollback(&["a"], 6)).ok();
    let late = KeyError::RolledBack { key: b"a".to_vec(), start_ts: Ts::new(6) };
    assert_eq!(store.run(acquire(&["a"], "a", 6, 7)).error(), late);
    // Newer versions above the rollback record do not hide it.
    store.put("a", "1", 8, 9);
    assert_eq!(store.run(acquire(&["a"], "a", 6, 12)).error(), late);
}

#[test]
fn the_status_of_a_transaction() {
    let mut store = Store::new();
    let status = |store: &mut Store, ask: CheckTxnStatus| store.run(Command::CheckTxnStatus(ask));
    assert!(matches!(status(&mut store, ask("a", 5)).error(), KeyError::TxnNotFound { .. }));
    store.run(prewrite("a", &[("a", None), ("b", None)], 5)).ok();
    match status(&mut store, ask("a", 5)) {
        KvResponse::TxnStatus(TxnStatus::Locked { lock, pushed: false }) => assert_eq!(lock.primary, b"a"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(status(&mut store, ask("b", 5)).error(), KeyError::LockMismatch { .. }));
    store.run(commit(&["a"], 5, 9)).ok();
    let committed = KvResponse::TxnStatus(TxnStatus::Committed { commit_ts: Ts::new(9) });
    assert_eq!(status(&mut store, CheckTxnStatus { current_ts: LATER, ..ask("a", 5) }), committed);
}

#[test]
fn a_reader_pushes_the_commit_ts_above_its_own() {
    let mut store = Store::new();
    store.run(prewrite("a", &[("a", Some("1"))], 5)).ok();
    let push = CheckTxnStatus { caller_start_ts: Ts::new(30), current_ts: Ts::new(40), ..ask("a", 5) };
    let response = store.run(Command::CheckTxnStatus(push));
    assert!(matches!(response, KvResponse::TxnStatus(TxnStatus::Locked { pushed: true, .. })), "{response:?}");
    assert_eq!(lock_of(&store, "a").unwrap().min_commit_ts, Ts::new(40));
    assert_eq!(store.get("a", 30), value(None), "the lock does not block who pushed it");
    assert!(matches!(store.run(commit(&["a"], 5, 39)).error(), KeyError::CommitTsExpired { .. }));
    store.run(commit(&["a"], 5, 40)).ok();
}

#[test]
fn the_time_to_live_ends_a_transaction() {
    let mut store = Store::new();
    let long = "x".repeat(65);
    store.run(prewrite("a", &[("a", Some(&long))], 5)).ok();
    let in_time = CheckTxnStatus { current_ts: Ts::compose(1, 9), ..ask("a", 5) };
    assert!(matches!(store.run(Command::CheckTxnStatus(in_time)), KvResponse::TxnStatus(TxnStatus::Locked { .. })));
    let late = CheckTxnStatus { current_ts: Ts::compose(2, 0), ..ask("a", 5) };
    assert_eq!(store.run(Command::CheckTxnStatus(late)), KvResponse::TxnStatus(TxnStatus::RolledBack));
    assert!(store.data.cf(Cf::Default).is_empty() && store.data.cf(Cf::Lock).is_empty());
    assert!(matches!(store.run(commit(&["a"], 5, 9)).error(), KeyError::RolledBack { .. }));
    assert!(matches!(store.run(prewrite("a", &[("a", None)], 5)).error(), KeyError::RolledBack { .. }));
}

#[test]
fn a_transaction_that_is_missing_is_kept_away() {
    let mut store = Store::new();
    let missing = CheckTxnStatus { rollback_if_missing: true, ..ask("a", 5) };
    assert_eq!(store.run(Command::CheckTxnStatus(missing)), KvResponse::TxnStatus(TxnStatus::RolledBack));
    let (_, record) = store.data.cf(Cf::Write).iter().next().unwrap();
    assert!(Write::parse(record).unwrap().is_protected());
    assert!(matches!(store.run(prewrite("a", &[("a", None)], 5)).error(), KeyError::RolledBack { .. }));
    assert!(matches!(store.run(acquire(&["a"], "a", 5, 8)).error(), KeyError::RolledBack { .. }));
}

#[test]
fn locks_are_resolved_by_their_transaction() {
    let resolve = |start_ts, commit_ts: Option<u64>, names: &[&str]| Command::ResolveLock {
        start_ts: Ts::new(start_ts),
        commit_ts: commit_ts.map(Ts::new),
        keys: keys(names),
    };
    let mut store = Store::new();
    store.run(prewrite("a", &[("a", Some("1")), ("b", Some("1"))], 5)).ok();
    store.run(prewrite("c", &[("c", Some("1"))], 6)).ok();
    store.run(acquire(&["d"], "a", 5, 5)).ok();
    store.run(resolve(5, Some(9), &[])).ok();
    assert_eq!(store.get("a", 9), value(Some("1")));
    assert_eq!(store.get("b", 9), value(Some("1")));
    assert_eq!((lock_of(&store, "d"), store.get("d", 9)), (None, value(None)), "a pessimistic lock commits nothing");
    assert!(lock_of(&store, "c").is_some());
    assert!(store.plan(&resolve(5, Some(9), &["a", "z"])).ops.is_empty(), "what is resolved stays");
    store.run(resolve(6, None, &["c", "e"])).ok();
    assert_eq!(store.get("c", 9), value(None));
    assert!(matches!(store.run(prewrite("e", &[("e", None)], 6)).error(), KeyError::RolledBack { .. }));
}
