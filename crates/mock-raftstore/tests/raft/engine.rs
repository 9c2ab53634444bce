//! What every engine has to do, tried on each.

use bytes::Bytes;
use logtide_mock_raftstore::engine::{EngineCf, EngineSnapshot, KvEngine, MemoryEngine, RegionSnapshot, WriteBatch};
use logtide_model::{Cf, KeyRange, KvSnapshot, Region, RegionEpoch};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn on_every_engine(test: impl Fn(&dyn KvEngine)) {
    test(&MemoryEngine::new());
    #[cfg(feature = "rocksdb")]
    {
        let dir = tempfile::tempdir().unwrap();
        test(&logtide_mock_raftstore::engine::RocksEngine::open(dir.path()).unwrap());
    }
}

fn put(batch: &mut WriteBatch, cf: EngineCf, key: &str, value: &str) {
    batch.put(cf, key.to_owned(), value.to_owned());
}

fn pairs(
    snapshot: &dyn EngineSnapshot,
    cf: EngineCf,
    lower: &'static str,
    upper: &'static str,
) -> Vec<(String, String)> {
    let mut iter = snapshot.iter(cf, lower.into(), upper.into()).unwrap();
    let mut all = Vec::new();
    let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
    while iter.next().unwrap() {
        all.push((text(iter.key()), text(iter.value())));
    }
    assert!(!iter.next().unwrap(), "the end stays the end");
    all
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn batches_span_column_families_in_order() {
    on_every_engine(|engine| {
        let mut batch = WriteBatch::default();
        for cf in EngineCf::ALL {
            put(&mut batch, cf, "k", cf.name());
        }
        put(&mut batch, EngineCf::Default, "k", "later");
        batch.delete(EngineCf::Lock, "k");
        engine.write(&batch, false).unwrap();
        assert_eq!(engine.get(EngineCf::Default, b"k").unwrap(), Some(Bytes::from("later")));
        assert_eq!(engine.get(EngineCf::Lock, b"k").unwrap(), None);
        assert_eq!(engine.get(EngineCf::Write, b"k").unwrap(), Some(Bytes::from("write")));
        assert_eq!(engine.get(EngineCf::Raft, b"k").unwrap(), Some(Bytes::from("raft")));
    });
}

#[test]
fn snapshots_stand_still() {
    on_every_engine(|engine| {
        let mut batch = WriteBatch::default();
        ["a", "b", "c"].iter().for_each(|k| put(&mut batch, EngineCf::Write, k, "1"));
        engine.write(&batch, false).unwrap();
        let old = engine.snapshot();
        let mut batch = WriteBatch::default();
        put(&mut batch, EngineCf::Write, "b", "2");
        batch.delete_range(EngineCf::Write, "c", "d");
        put(&mut batch, EngineCf::Write, "aa", "2");
        engine.write(&batch, false).unwrap();
        let new = engine.snapshot();
        assert_eq!(pairs(&*old, EngineCf::Write, "a", "z"), [pair("a", "1"), pair("b", "1"), pair("c", "1")]);
        assert_eq!(pairs(&*new, EngineCf::Write, "a", "z"), [pair("a", "1"), pair("aa", "2"), pair("b", "2")]);
        assert_eq!(old.get(EngineCf::Write, b"c").unwrap(), Some(Bytes::from("1")));
        assert_eq!(new.get(EngineCf::Write, b"c").unwrap(), None);
    });
}

#[test]
fn iterators_keep_to_their_bounds() {
    on_every_engine(|engine| {
        let mut batch = WriteBatch::default();
        ["a", "b", "c", "d"].iter().for_each(|k| put(&mut batch, EngineCf::Default, k, k));
        engine.write(&batch, false).unwrap();
        let snapshot = engine.snapshot();
        let mut iter = snapshot.iter(EngineCf::Default, "b".into(), "d".into()).unwrap();
        assert!(iter.seek(b"a").unwrap());
        assert_eq!(iter.key(), b"b");
        assert!(iter.seek(b"bb").unwrap());
        assert_eq!((iter.key(), iter.value()), (&b"c"[..], &b"c"[..]));
        assert!(!iter.next().unwrap());
        assert!(!iter.seek(b"d").unwrap());
        assert!(iter.seek(b"c").unwrap(), "an iterator that ended can be moved back");
    });
}

#[test]
fn a_region_sees_itself_only() {
    on_every_engine(|engine| {
        let mut batch = WriteBatch::default();
        ["za", "zb", "zc", "y", "{"].iter().for_each(|k| put(&mut batch, EngineCf::Default, k, k));
        engine.write(&batch, false).unwrap();
        let region = |start: &'static str, end: &'static str| Region {
            id: 1,
            epoch: RegionEpoch::default(),
            range: KeyRange::new(start, end),
        };
        let keys = |region: Region, range: KeyRange| {
            let snapshot = RegionSnapshot::new(engine.snapshot(), region, 7);
            let mut iter = snapshot.iter(Cf::Default, &range).unwrap();
            let mut keys = String::new();
            while iter.next().unwrap() {
                keys.push_str(std::str::from_utf8(iter.key()).unwrap());
            }
            keys
        };
        assert_eq!(keys(region("", ""), KeyRange::ALL), "abc");
        assert_eq!(keys(region("b", ""), KeyRange::ALL), "bc");
        assert_eq!(keys(region("a", "c"), KeyRange::new("b", "")), "b");
        assert_eq!(keys(region("a", "b"), KeyRange::new("c", "")), "");
        let snapshot = RegionSnapshot::new(engine.snapshot(), region("b", "c"), 7);
        assert_eq!(snapshot.get(Cf::Default, b"b").unwrap(), Some(Bytes::from("zb")));
        assert_eq!(snapshot.get(Cf::Default, b"c").unwrap(), None, "the key of another region");
        let mut iter = snapshot.iter(Cf::Default, &KeyRange::ALL).unwrap();
        assert!(iter.seek(b"a").unwrap() && iter.key() == b"b");
    });
}

#[test]
#[cfg(feature = "rocksdb")]
fn rocksdb_counts_what_it_reads_from_files_and_not_what_it_has_in_its_cache() {
    use logtide_mock_raftstore::engine::RocksEngine;
    let dir = tempfile::tempdir().unwrap();
    let engine = RocksEngine::open(dir.path()).unwrap();
    let mut batch = WriteBatch::default();
    for n in 0..1000 {
        put(&mut batch, EngineCf::Default, &format!("zkey-{n:04}"), &format!("{n}").repeat(300));
    }
    engine.write(&batch, false).unwrap();
    drop(engine);
    // What was only logged becomes a file when it is opened anew.
    let engine = RocksEngine::open(dir.path()).unwrap();
    let region = Region { id: 1, epoch: RegionEpoch::default(), range: KeyRange::ALL };
    let snapshot = RegionSnapshot::new(engine.snapshot(), region, 1);
    let read = || {
        let before = snapshot.read_bytes().unwrap();
        let mut iter = snapshot.iter(Cf::Default, &KeyRange::ALL).unwrap();
        let mut found = 0;
        while iter.next().unwrap() {
            found += 1;
        }
        (found, snapshot.read_bytes().unwrap() - before)
    };
    let (found, bytes) = read();
    assert!(found == 1000 && bytes > 20_000, "{found} keys, {bytes} bytes");
    let (found, again) = read();
    assert!(found == 1000 && again < bytes / 10, "{again} bytes were read again after {bytes}");
    assert_eq!(RegionSnapshot::new(MemoryEngine::new().snapshot(), snapshot.region().clone(), 1).read_bytes(), None);
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_keeps_what_was_written_and_refuses_to_open_twice() {
    use logtide_mock_raftstore::engine::RocksEngine;
    let dir = tempfile::tempdir().unwrap();
    let engine = RocksEngine::open(dir.path()).unwrap();
    let mut batch = WriteBatch::default();
    put(&mut batch, EngineCf::Raft, "k", "v");
    engine.write(&batch, true).unwrap();
    let error = RocksEngine::open(dir.path()).err().unwrap();
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    drop(engine);
    let engine = RocksEngine::open(dir.path()).unwrap();
    assert_eq!(engine.get(EngineCf::Raft, b"k").unwrap(), Some(Bytes::from("v")));
}

#[derive(Clone, Debug)]
enum Action {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
    Snapshot,
    Forget,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..12u8, any::<u8>()).prop_map(|(k, v)| Action::Put(k, v)),
        2 => (0..12u8).prop_map(Action::Delete),
        1 => (0..12u8, 0..12u8).prop_map(|(a, b)| Action::DeleteRange(a, b)),
        1 => Just(Action::Snapshot),
        1 => Just(Action::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_engine_is_a_map(actions in prop::collection::vec(action(), 1..60)) {
        on_every_engine(|engine| {
            let mut model = BTreeMap::new();
            let mut snapshots = Vec::new();
            for action in &actions {
                let mut batch = WriteBatch::default();
                match *action {
                    Action::Put(k, v) => {
                        batch.put(EngineCf::Lock, vec![k], vec![v]);
                        model.insert(k, v);
                    }
                    Action::Delete(k) => {
                        batch.delete(EngineCf::Lock, vec![k]);
                        model.remove(&k);
                    }
                    Action::DeleteRange(a, b) if a <= b => {
                        batch.delete_range(EngineCf::Lock, vec![a], vec![b]);
                        model.retain(|k, _| *k < a || *k >= b);
                    }
                    Action::DeleteRange(..) => {}
                    Action::Snapshot => snapshots.push((engine.snapshot(), model.clone())),
                    Action::Forget => drop(snapshots.pop()),
                }
                engine.write(&batch, false).unwrap();
            }
            snapshots.push((engine.snapshot(), model));
            for (snapshot, model) in snapshots {
                let mut iter = snapshot.iter(EngineCf::Lock, vec![0].into(), vec![255].into()).unwrap();
                let mut seen = BTreeMap::new();
                while iter.next().unwrap() {
                    seen.insert(iter.key()[0], iter.value()[0]);
                }
                assert_eq!(seen, model);
            }
        });
    }
}
