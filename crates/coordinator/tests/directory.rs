//! What only a directory can suffer: crashes between any two bytes, damage, leftovers, other processes' files.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests fail by panicking")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use logtide_coordinator::store::{Condition, KeyValue, MAX_VALUE_BYTES, ManualClock, Txn};
use logtide_coordinator::{DirectoryStore, Store, StoreError};
use tempfile::TempDir;

struct Setup {
    dir: TempDir,
}

impl Setup {
    fn new() -> Self {
        Setup { dir: TempDir::new().unwrap() }
    }

    fn open(&self) -> DirectoryStore {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<DirectoryStore, StoreError> {
        DirectoryStore::open_with_clock(self.dir.path(), Arc::new(ManualClock::default()))
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.journal()).unwrap()
    }
}

fn put(store: &dyn Store, key: &str, value: &str) -> u64 {
    store.commit(Txn::new().put(key.to_owned(), value.to_owned())).unwrap().revision
}

fn all(store: &dyn Store) -> (Vec<KeyValue>, u64) {
    store.list(b"").unwrap()
}

#[test]
fn everything_is_there_after_a_restart() {
    let setup = Setup::new();
    let before = {
        let store = setup.open();
        put(&store, "a", "1");
        put(&store, "a", "2");
        let lease = store.grant(std::time::Duration::from_secs(1)).unwrap();
        store.commit(Txn::new().put_leased("leased", "", lease)).unwrap();
        all(&store)
    };
    let store = setup.open();
    assert_eq!(all(&store), before);
    assert!(store.keep_alive(before.0[1].lease.unwrap()).is_ok());
}

#[test]
fn a_crash_within_a_write_leaves_the_old_or_the_new_state() {
    let setup = Setup::new();
    let store = setup.open();
    put(&store, "a", "old");
    put(&store, "b", "old");
    let (old, old_len) = (all(&store), setup.bytes().len());
    store.commit(Txn::new().put("a", "new").put("c", "new").delete("b")).unwrap();
    let (new, whole) = (all(&store), setup.bytes());
    drop(store);
    for len in old_len..=whole.len() {
        fs::write(setup.journal(), &whole[..len]).unwrap();
        let expected = if len == whole.len() { &new } else { &old };
        let store = setup.open();
        assert_eq!(all(&store), *expected, "cut at {len} of {}", whole.len());
        // The next write takes the place of what was cut off.
        let revision = put(&store, "d", "next");
        assert_eq!(revision, expected.1 + 1);
        assert_eq!(all(&setup.open()), all(&store));
    }
}

#[test]
fn a_page_of_zeros_is_the_end() {
    let setup = Setup::new();
    let store = setup.open();
    put(&store, "a", "1");
    let before = all(&store);
    let len = setup.bytes().len() as u64;
    let file = OpenOptions::new().write(true).open(setup.journal()).unwrap();
    file.set_len(len + 4096).unwrap();
    assert_eq!(all(&store), before);
    put(&setup.open(), "b", "2");
    assert_eq!(all(&store), all(&setup.open()));
    assert!(setup.bytes().len() < 4096);
}

#[test]
fn damage_in_the_middle_is_told_with_its_place_and_not_cut_off() {
    let setup = Setup::new();
    let store = setup.open();
    let snapshot = setup.bytes().len();
    put(&store, "a", "value");
    let first = setup.bytes().len();
    put(&store, "b", "value");
    let whole = setup.bytes();
    drop(store);
    for at in 0..first {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(setup.journal(), &bytes).unwrap();
        let Err(error) = setup.try_open() else { panic!("a flipped bit at {at} was not seen") };
        let StoreError::Corrupt { offset, ref path, .. } = error else { panic!("{error}") };
        assert_eq!(offset, if at < snapshot { 0 } else { snapshot as u64 }, "flipped at {at}");
        assert_eq!(*path, setup.journal());
        assert_eq!(setup.bytes(), bytes, "the damaged journal was changed");
    }
    for nonsense in [&b""[..], b"x", &[0; 100], b"LTJ1\xff\xff\xff\xff\xff\xff\xff\xff________"] {
        fs::write(setup.journal(), nonsense).unwrap();
        assert!(matches!(setup.try_open(), Err(StoreError::Corrupt { offset: 0, .. })));
    }
}

#[test]
fn a_running_instance_sees_damage_too() {
    let setup = Setup::new();
    let (reader, writer) = (setup.open(), setup.open());
    let at = setup.bytes().len() as u64;
    put(&writer, "a", "value");
    put(&writer, "b", "value");
    OpenOptions::new().write(true).open(setup.journal()).unwrap().write_all_at(b"?", at + 21).unwrap();
    assert!(matches!(reader.get(b"a"), Err(StoreError::Corrupt { offset, .. }) if offset == at));
}

#[test]
fn a_long_history_is_shortened_and_others_follow() {
    let setup = Setup::new();
    let (one, two) = (setup.open(), setup.open());
    let big = "x".repeat(MAX_VALUE_BYTES);
    put(&one, "kept", "1");
    for _ in 0..40 {
        put(&one, "big", &big);
    }
    assert!(setup.bytes().len() < 12 * MAX_VALUE_BYTES, "the journal has {} bytes", setup.bytes().len());
    assert_eq!(all(&two), all(&one));
    assert_eq!(all(&one).0[1].version, 1);
    assert_eq!(all(&one).0[0].version, 40);
    // The one that had the old file open writes into the new one.
    let revision = put(&two, "big", "small");
    assert_eq!(revision, 42);
    assert_eq!(all(&setup.open()), all(&one));
}

#[test]
fn a_crash_while_shortening_leaves_a_file_that_is_not_read() {
    let setup = Setup::new();
    let store = setup.open();
    put(&store, "a", "1");
    fs::write(setup.dir.path().join("journal.new"), b"half a snapsh").unwrap();
    let again = setup.open();
    assert_eq!(all(&again), all(&store));
    for _ in 0..20 {
        put(&again, "big", &"x".repeat(MAX_VALUE_BYTES));
    }
    assert_eq!(all(&store), all(&again));
    assert!(!setup.dir.path().join("journal.new").exists());
}

#[test]
fn a_directory_that_goes_away_is_told() {
    let setup = Setup::new();
    let store = setup.open();
    put(&store, "a", "1");
    fs::remove_file(setup.journal()).unwrap();
    let error = store.get(b"a").unwrap_err().to_string();
    assert!(error.contains("journal"), "{error}");
    assert!(store.commit(Txn::new().put("a", "2")).is_err());
    put(&setup.open(), "fresh", "1");
    assert_eq!(all(&store).0.len(), 1);
}

#[test]
fn a_file_in_the_place_of_the_directory_is_told() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, b"").unwrap();
    let Err(StoreError::Io { path: told, .. }) = DirectoryStore::open(&path) else { panic!("it was opened") };
    assert_eq!(told, path);
}

#[test]
fn ten_thousand_keys_and_what_a_change_costs() {
    let setup = Setup::new();
    let store = setup.open();
    let value = "v".repeat(100);
    for batch in 0..100 {
        let key = |i: usize| format!("key/{:08}", batch * 100 + i);
        store.commit((0..100).fold(Txn::new(), |txn, i| txn.put(key(i), value.clone()))).unwrap();
    }
    let timed = |what: &str, times: u32, f: &dyn Fn(u32)| {
        let start = std::time::Instant::now();
        (0..times).for_each(f);
        println!("{what}: {:?}", start.elapsed() / times);
    };
    timed("a conditional put beside 10,000 keys", 200, &|i| {
        let txn = Txn::new().when(Condition::Absent(format!("new/{i}").into())).put(format!("new/{i}"), value.clone());
        assert!(store.commit(txn).unwrap().succeeded);
    });
    timed("a get", 1000, &|i| assert!(store.get(format!("key/{:08}", i % 10_000).as_bytes()).unwrap().is_some()));
    timed("a listing of 10,000 keys", 10, &|_| assert_eq!(store.list(b"key/").unwrap().0.len(), 10_000));
    timed("opening", 5, &|_| assert_eq!(all(&setup.open()).0.len(), 10_200));
    println!("the journal has {} bytes", setup.bytes().len());
}
