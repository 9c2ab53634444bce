//! Several processes in one directory. This test has its own `main`: run with an argument it is one of the workers.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests fail by panicking")]

use std::env;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use logtide_coordinator::store::{Condition, Event, Txn};
use logtide_coordinator::{DirectoryStore, Store};
use tempfile::TempDir;

/// Increments per worker.
const TIMES: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let args: Vec<String> = env::args().collect();
    if let [_, role, dir, name] = &args[..]
        && role == "worker"
    {
        work(&DirectoryStore::open(dir).unwrap(), name);
        return ExitCode::SUCCESS;
    }
    for (name, test) in [
        ("counting_from_four_processes_loses_nothing", counting as fn()),
        ("a_killed_writer_leaves_whole_transactions", killing as fn()),
    ] {
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

/// Counts up; a transaction sets two keys that must always be equal. `forever` does not stop.
fn work(store: &dyn Store, name: &str) {
    let mut done = 0;
    while name == "forever" || done < TIMES {
        let there = store.get(b"n/a").unwrap();
        let n = there.as_ref().map_or(0, |kv| u64::from_be_bytes(kv.value[..].try_into().unwrap())) + 1;
        let condition = match there {
            Some(kv) => Condition::ModRevision(kv.key, kv.mod_revision),
            None => Condition::Absent("n/a".into()),
        };
        let value = || n.to_be_bytes().to_vec();
        let filler = vec![0; if name == "forever" { 100_000 } else { 10 }];
        let txn = Txn::new().when(condition).put("n/a", value()).put("filler", filler).put("n/b", value());
        done += u64::from(store.commit(txn).unwrap().succeeded);
    }
}

fn spawn(dir: &Path, name: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args([Path::new("worker"), dir, Path::new(name)])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// The two keys, as numbers, at one revision.
fn pair(store: &dyn Store) -> (u64, u64) {
    let (found, _) = store.list(b"n/").unwrap();
    let n = |i: usize| found.get(i).map_or(0, |kv| u64::from_be_bytes(kv.value[..].try_into().unwrap()));
    (n(0), n(1))
}

fn counting() {
    let dir = TempDir::new().unwrap();
    let store = DirectoryStore::open(dir.path()).unwrap();
    let mut watch = store.watch(b"n/a", 1).unwrap();
    let mut workers: Vec<Child> = (0..4).map(|i| spawn(dir.path(), &i.to_string())).collect();
    let mut told = Vec::new();
    while (told.len() as u64) < 4 * TIMES {
        let events = watch.next(PATIENCE).unwrap();
        assert!(!events.is_empty(), "the workers fell silent after {}", told.len());
        for event in events {
            let Event::Put(kv) = event else { panic!("{event:?}") };
            told.push(u64::from_be_bytes(kv.value[..].try_into().unwrap()));
        }
        let (a, b) = pair(&store);
        assert_eq!(a, b);
    }
    assert!(workers.iter_mut().all(|worker| worker.wait().unwrap().success()));
    assert_eq!(told, (1..=4 * TIMES).collect::<Vec<_>>());
    assert_eq!(pair(&store), (4 * TIMES, 4 * TIMES));
}

fn killing() {
    let dir = TempDir::new().unwrap();
    let store = DirectoryStore::open(dir.path()).unwrap();
    for round in 0..10 {
        let (before, _) = pair(&store);
        let mut watch = store.watch(b"n/a", store.list(b"n/").unwrap().1 + 1).unwrap();
        let mut worker = spawn(dir.path(), "forever");
        // So many transactions, then the end, at whatever point that comes.
        let mut seen = 0;
        while seen < 3 + round {
            seen += watch.next(PATIENCE).unwrap().len();
            assert!(seen > 0, "the worker does nothing");
        }
        worker.kill().unwrap();
        worker.wait().unwrap();
        let (a, b) = pair(&store);
        assert_eq!(a, b);
        assert!(a > before);
        let fresh = DirectoryStore::open(dir.path()).unwrap();
        assert_eq!(fresh.list(b"").unwrap(), store.list(b"").unwrap());
        // The lock has ended with the process, and what it cut off is replaced.
        fresh.commit(Txn::new().put("round", vec![round as u8])).unwrap();
        assert_eq!(store.get(b"round").unwrap().unwrap().value, vec![round as u8]);
    }
}
