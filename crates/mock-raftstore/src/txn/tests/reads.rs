//! Get and scan at a timestamp.

use logtide_model::{Cf, KeyRange, Region, RegionEpoch, Ts};

use super::store::{Store, commit, prewrite, rollback, value};
use crate::concurrency::ConcurrencyManager;
use crate::rpc::{Command, KeyError, KvResponse, Mutation, MutationKind, Prewrite, TxnExecutor};
use crate::txn::Percolator;

fn scan(start: &str, end: &str, limit: usize, ts: u64) -> Command {
    Command::Scan { start: start.into(), end: end.into(), limit, ts: Ts::new(ts), bypass: Vec::new() }
}

fn found(response: KvResponse) -> (Vec<(String, String)>, bool) {
    match response {
        KvResponse::Scan { pairs, more } => {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (pairs.iter().map(|(k, v)| (text(k), text(v))).collect(), more)
        }
        other => panic!("{other:?}"),
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

#[test]
fn a_read_sees_the_newest_version_at_its_ts() {
    let mut store = Store::new();
    store.put("a", "1", 5, 9);
    store.put("a", "2", 10, 12);
    store.run(rollback(&["a"], 20)).ok();
    store.run(prewrite("a", &[("a", None)], 25)).ok();
    store.run(commit(&["a"], 25, 26)).ok();
    for (ts, expected) in [(8, None), (9, Some("1")), (11, Some("1")), (12, Some("2")), (25, Some("2")), (26, None)] {
        assert_eq!(store.get("a", ts), value(expected), "at {ts}");
    }
}

#[test]
fn locks_block_readers_above_them() {
    let mut store = Store::new();
    store.put("a", "1", 5, 9);
    store.run(prewrite("a", &[("a", Some("2"))], 15)).ok();
    assert_eq!(store.get("a", 14), value(Some("1")));
    assert!(matches!(store.get("a", 20).error(), KeyError::Locked(lock) if lock.start_ts == Ts::new(15)));
    let bypass = Command::Get { key: b"a".to_vec(), ts: Ts::new(20), bypass: vec![Ts::new(15)] };
    assert_eq!(store.run(bypass), value(Some("1")));
    // A lock that will change nothing blocks nobody.
    let mutations = vec![Mutation { key: b"b".to_vec(), kind: MutationKind::Lock, pessimistic: false }];
    let request = Prewrite { mutations, primary: b"b".to_vec(), start_ts: Ts::new(15), ..Prewrite::default() };
    store.run(Command::Prewrite(request)).ok();
    assert_eq!(store.get("b", 20), value(None));
}

#[test]
fn a_scan_merges_versions_and_locks() {
    let mut store = Store::new();
    let long = "x".repeat(100);
    for (key, text) in [("a", "1"), ("b", "2"), ("c", &long), ("e", "5")] {
        store.put(key, text, 5, 9);
    }
    store.put("b", "newer", 20, 21);
    store.run(prewrite("a", &[("a", None)], 10)).ok();
    store.run(commit(&["a"], 10, 11)).ok();
    assert_eq!(found(store.run(scan("", "", 9, 8))), (pairs(&[]), false));
    let all = pairs(&[("a", "1"), ("b", "2"), ("c", &long), ("e", "5")]);
    assert_eq!(found(store.run(scan("", "", 9, 9))), (all.clone(), false));
    assert_eq!(found(store.run(scan("", "", 9, 15))), (all[1..].to_vec(), false));
    assert_eq!(found(store.run(scan("b", "e", 9, 15))), (all[1..3].to_vec(), false));
    assert_eq!(found(store.run(scan("a", "", 2, 9))), (all[..2].to_vec(), true));

    store.run(prewrite("d", &[("d", Some("4"))], 30)).ok();
    assert_eq!(found(store.run(scan("", "", 3, 9))).0, all[..3]);
    assert_eq!(found(store.run(scan("", "", 9, 29))).0.len(), 3);
    assert!(matches!(store.run(scan("", "", 9, 31)).error(), KeyError::Locked(_)));
    assert_eq!(found(store.run(scan("", "", 2, 31))), (pairs(&[("b", "newer"), ("c", &long)]), true));
    // A lock behind the last record of the range is seen as well.
    assert!(matches!(store.run(scan("c", "d\0", 9, 31)).error(), KeyError::Locked(_)));
    assert_eq!(found(store.run(scan("c", "d", 9, 31))).0.len(), 1);
}

#[test]
fn a_scan_ends_with_its_region() {
    let mut store = Store::new();
    for key in ["a", "b", "c"] {
        store.put(key, "1", 5, 9);
    }
    let region = Region { id: 1, epoch: RegionEpoch::default(), range: KeyRange::from_raw(b"", b"b") };
    let part = store.data.in_region(region);
    let plan = Percolator.execute(&scan("", "", 9, 9), &part, &ConcurrencyManager::default()).unwrap();
    assert_eq!(found(plan.response), (pairs(&[("a", "1")]), false));
}

#[test]
fn a_missing_value_is_told_with_its_key() {
    let mut store = Store::new();
    let long = "x".repeat(100);
    store.put("a", &long, 5, 9);
    let key = store.data.cf(Cf::Default).keys().next().unwrap().clone();
    let mut plan = store.plan(&rollback(&["zzz"], 1));
    plan.ops = vec![logtide_model::Op::Delete { cf: Cf::Default, key: key.clone().into() }];
    store.apply(plan);
    assert!(matches!(store.get("a", 9).error(), KeyError::Corrupt { key: at, .. } if at == key));
}
