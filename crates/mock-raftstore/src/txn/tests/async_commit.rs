//! Async commit and 1PC: commits that choose their own ts.

use logtide_model::mvcc::{Lock, Write};
use logtide_model::{Cf, Ts, encode_raw_key};

use super::store::{Store, commit, keys, request, rollback, value};
use crate::rpc::{CheckTxnStatus, Command, KeyError, KvResponse, Prewrite, SecondaryStatus, TxnStatus};

fn asynchronous(primary: &str, names: &[&str], secondaries: &[&str], start_ts: u64) -> Prewrite {
    let writes: Vec<_> = names.iter().map(|key| (*key, Some("new"))).collect();
    Prewrite { async_commit: true, secondaries: keys(secondaries), ..request(primary, &writes, start_ts) }
}

fn one_pc(names: &[&str], start_ts: u64) -> Prewrite {
    Prewrite { one_pc: true, ..asynchronous(names[0], names, &[], start_ts) }
}

fn check_secondaries(names: &[&str], start_ts: u64) -> Command {
    Command::CheckSecondaryLocks { keys: keys(names), start_ts: Ts::new(start_ts) }
}

fn min_commit_ts(response: KvResponse) -> (u64, u64) {
    match response {
        KvResponse::Prewrite { min_commit_ts, one_pc_commit_ts } => (min_commit_ts.get(), one_pc_commit_ts.get()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_commit_ts_is_above_every_reader() {
    let mut store = Store::new();
    assert_eq!(store.get("b", 20), value(None));
    assert_eq!(min_commit_ts(store.run(Command::Prewrite(asynchronous("a", &["a", "b"], &["b"], 5)))), (21, 0));
    let lock = Lock::parse(&store.data.cf(Cf::Lock)[&encode_raw_key(b"a")]).unwrap();
    assert_eq!((lock.min_commit_ts, lock.secondaries), (Ts::new(21), Some(keys(&["b"]))));
    let lock = Lock::parse(&store.data.cf(Cf::Lock)[&encode_raw_key(b"b")]).unwrap();
    assert_eq!(lock.secondaries, Some(Vec::new()), "only the primary knows the others");
    assert_eq!(store.get("a", 20), value(None), "it commits above: no need to wait");
    assert!(matches!(store.get("a", 21).error(), KeyError::Locked(lock) if lock.async_commit));
}

#[test]
fn a_commit_in_flight_blocks_readers_before_it_is_applied() {
    let mut store = Store::new();
    store.get("a", 10).ok();
    let in_flight = store.plan(&Command::Prewrite(one_pc(&["a", "b"], 5)));
    assert_eq!(min_commit_ts(in_flight.response.clone()), (0, 11));
    assert_eq!(store.get("a", 10), value(None));
    assert!(matches!(store.get("a", 11).error(), KeyError::Locked(_)));
    let scan = Command::Scan { start: Vec::new(), end: Vec::new(), limit: 9, ts: Ts::new(11), bypass: Vec::new() };
    assert!(matches!(store.run(scan.clone()).error(), KeyError::Locked(_)));
    // The barrier of H2 waits for it too.
    assert_eq!(store.concurrency.barrier(Ts::new(30)), Ts::new(10));
    store.apply(in_flight);
    assert_eq!(store.concurrency.barrier(Ts::new(31)), Ts::new(31));
    assert_eq!(store.get("a", 11), value(Some("new")));
    assert!(matches!(store.run(scan), KvResponse::Scan { pairs, more: false } if pairs.len() == 2));
    assert!(store.data.cf(Cf::Lock).is_empty());
}

#[test]
fn a_commit_that_was_lost_on_the_way_blocks_nobody() {
    let mut store = Store::new();
    drop(store.plan(&Command::Prewrite(one_pc(&["a"], 5))));
    assert_eq!(store.get("a", 100), value(None));
    assert_eq!(store.concurrency.min_in_flight(), None);
}

#[test]
fn above_the_limit_it_takes_two_phases() {
    for (one_pc, name) in [(true, "1PC"), (false, "async commit")] {
        let mut store = Store::new();
        store.get("a", 50).ok();
        let request = Prewrite { one_pc, max_commit_ts: Ts::new(50), ..asynchronous("a", &["a"], &[], 5) };
        let plan = store.plan(&Command::Prewrite(request.clone()));
        assert_eq!((min_commit_ts(plan.response.clone()), plan.guards.len()), ((0, 0), 0), "{name}");
        store.apply(plan);
        let lock = Lock::parse(&store.data.cf(Cf::Lock)[&encode_raw_key(b"a")]).unwrap();
        assert_eq!(lock.secondaries, None, "{name}");
        // A repeated request must not promise more than the locks that are there.
        let again = Prewrite { max_commit_ts: Ts::ZERO, ..request };
        assert_eq!(min_commit_ts(store.run(Command::Prewrite(again))), (0, 0), "{name}");
        store.run(commit(&["a"], 5, 60)).ok();
    }
}

#[test]
fn repeated_requests_get_the_same_answer() {
    let mut store = Store::new();
    let request = Command::Prewrite(asynchronous("a", &["a"], &[], 5));
    assert_eq!(min_commit_ts(store.run(request.clone())), (6, 0));
    store.get("b", 90).ok();
    let again = store.plan(&request);
    assert!(again.ops.is_empty());
    assert_eq!(min_commit_ts(again.response), (6, 0));
    assert_eq!(min_commit_ts(store.run(Command::Prewrite(one_pc(&["c"], 5)))), (0, 91));
    let again = store.run(Command::Prewrite(one_pc(&["c"], 5))).error();
    assert!(matches!(again, KeyError::Committed { commit_ts, .. } if commit_ts == Ts::new(91)));
}

#[test]
fn one_phase_turns_pessimistic_locks_into_records() {
    let mut store = Store::new();
    let (start_ts, for_update_ts) = (Ts::new(5), Ts::new(8));
    let lock = Command::PessimisticLock { keys: keys(&["a"]), primary: b"a".to_vec(), start_ts, for_update_ts, ttl: 1 };
    store.run(lock).ok();
    let mut request = Prewrite { for_update_ts, ..one_pc(&["a"], 5) };
    request.mutations[0].pessimistic = true;
    assert_eq!(min_commit_ts(store.run(Command::Prewrite(request))), (0, 9));
    assert!(store.data.cf(Cf::Lock).is_empty());
    assert_eq!(store.get("a", 9), value(Some("new")));
}

#[test]
fn the_status_check_leaves_an_async_commit_to_its_secondaries() {
    let mut store = Store::new();
    store.run(Command::Prewrite(asynchronous("a", &["a"], &["b"], 5))).ok();
    let late = Ts::compose(10, 0);
    let ask = CheckTxnStatus {
        primary: b"a".to_vec(),
        start_ts: Ts::new(5),
        caller_start_ts: Ts::new(70),
        current_ts: late,
        rollback_if_missing: true,
        force_sync_commit: false,
    };
    let plan = store.plan(&Command::CheckTxnStatus(ask.clone()));
    assert!(plan.ops.is_empty());
    assert!(matches!(plan.response, KvResponse::TxnStatus(TxnStatus::Locked { lock, pushed: false })
        if lock.secondaries == keys(&["b"])));
    let forced = CheckTxnStatus { force_sync_commit: true, ..ask };
    assert_eq!(store.run(Command::CheckTxnStatus(forced)), KvResponse::TxnStatus(TxnStatus::RolledBack));
}

#[test]
fn secondaries_decide() {
    let mut store = Store::new();
    store.run(Command::Prewrite(asynchronous("p", &["a", "b"], &[], 5))).ok();
    match store.run(check_secondaries(&["a", "b"], 5)) {
        KvResponse::SecondaryLocks(SecondaryStatus::Locked(locks)) => assert_eq!(locks.len(), 2),
        other => panic!("{other:?}"),
    }
    // One that is missing is rolled back for good, and so is the transaction.
    let status = store.run(check_secondaries(&["a", "b", "c"], 5));
    assert_eq!(status, KvResponse::SecondaryLocks(SecondaryStatus::RolledBack));
    let late = store.run(Command::Prewrite(asynchronous("p", &["c"], &[], 5))).error();
    assert!(matches!(late, KeyError::RolledBack { .. }));
    let (_, record) = store.data.cf(Cf::Write).iter().next().unwrap();
    assert!(Write::parse(record).unwrap().is_protected());
    // Asked again, it says so again.
    let again = store.plan(&check_secondaries(&["c"], 5));
    assert!(again.ops.is_empty());
    assert_eq!(again.response, KvResponse::SecondaryLocks(SecondaryStatus::RolledBack));
}

#[test]
fn a_committed_secondary_commits_the_transaction() {
    let mut store = Store::new();
    store.run(Command::Prewrite(asynchronous("p", &["a", "b"], &[], 5))).ok();
    store.run(commit(&["b"], 5, 8)).ok();
    let status = store.run(check_secondaries(&["a", "b"], 5));
    assert_eq!(status, KvResponse::SecondaryLocks(SecondaryStatus::Committed { commit_ts: Ts::new(8) }));
}

#[test]
fn a_pessimistic_secondary_is_not_yet_prewritten() {
    let mut store = Store::new();
    let (start_ts, for_update_ts) = (Ts::new(5), Ts::new(5));
    let lock = Command::PessimisticLock { keys: keys(&["a"]), primary: b"p".to_vec(), start_ts, for_update_ts, ttl: 1 };
    store.run(lock).ok();
    let status = store.run(check_secondaries(&["a"], 5));
    assert_eq!(status, KvResponse::SecondaryLocks(SecondaryStatus::RolledBack));
    assert!(store.data.cf(Cf::Lock).is_empty());
}

#[test]
fn no_commit_chooses_the_ts_of_a_rollback() {
    let mut store = Store::new();
    store.run(rollback(&["a"], 30)).ok();
    assert_eq!(min_commit_ts(store.run(Command::Prewrite(asynchronous("b", &["b"], &[], 5)))), (31, 0));
    store.run(check_secondaries(&["c"], 40)).ok();
    assert_eq!(min_commit_ts(store.run(Command::Prewrite(one_pc(&["d"], 6)))), (0, 41));
}
