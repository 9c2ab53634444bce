//! The demo on a small folder, and an independent reader of the backup that it leaves behind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests, also in what tests share")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use logtide_mock_raftstore::engine::{EngineSnapshot, KvEngine, RocksEngine, data_end_key, data_key};
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{Cf, append_ts, split_ts};
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

#[test]
fn the_demo_proves_itself_and_an_independent_reader_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let demo = || {
        let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
        demo.arg("--quick").env("DEMO_DATA", repository().join("crates")).env("DEMO_DIR", dir.path());
        demo.output().unwrap()
    };
    let output = demo();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("PROVEN"), "{said}");

    let summary: Value = serde_json::from_slice(&std::fs::read(dir.path().join("summary.json")).unwrap()).unwrap();
    let checkpoint = summary["restore"]["checkpoint"].as_u64().unwrap();
    let expected = dir.path().join("expected.tsv");
    std::fs::write(&expected, committed(&dir.path().join("cluster/store-1"), checkpoint)).unwrap();
    let reader = repository().join("crates/format/tests/read_backup.py");
    let read =
        Command::new("python3").arg(reader).arg(dir.path().join("storage")).arg("--expect").arg(expected).output();
    let read = read.unwrap();
    let found = String::from_utf8_lossy(&read.stdout).into_owned() + &String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success(), "{found}");

    // A second demo on the same directory is refused, and touches nothing.
    let second = demo();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("is not empty"));
    assert!(dir.path().join("summary.json").exists());
}

/// On the real S3 server that `make test` starts.
#[test]
fn the_demo_proves_itself_with_an_s3_server_and_shows_no_credentials() {
    let url = std::env::var("LOGTIDE_TEST_STORAGE")
        .unwrap_or_else(|_| panic!("LOGTIDE_TEST_STORAGE names no server; run this test by `make unit`"));
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.arg("--quick").env("DEMO_DATA", repository().join("crates")).env("DEMO_STORAGE", &url);
    let output = demo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("PROVEN"), "{said}");
    assert!(said.contains("--storage s3://"), "{said}");
    let (_, secret) = url.split_once("secret-access-key=").unwrap();
    assert!(!said.contains(secret.split('&').next().unwrap()), "the secret is shown: {said}");
}

/// What a store has committed up to `checkpoint`, as lines `cf TAB key TAB value`: puts and deletes, and the values that
/// the puts refer to. The garbage collector did not run, so all of it has to be in the backup.
fn committed(store: &Path, checkpoint: u64) -> String {
    let engine = RocksEngine::open(store).unwrap();
    let snapshot = engine.snapshot();
    let mut lines = String::new();
    let mut values = BTreeSet::new();
    each(&*snapshot, Cf::Write, &mut |key, value| {
        let (user, commit_ts) = split_ts(key).unwrap();
        let write = Write::parse(value).unwrap();
        if commit_ts.get() <= checkpoint && matches!(write.kind, WriteKind::Put | WriteKind::Delete) {
            line(&mut lines, "write", key, value);
            if write.needs_default() {
                let mut key = user.to_vec();
                append_ts(&mut key, write.start_ts);
                values.insert(key);
            }
        }
    });
    let mut found = 0;
    each(&*snapshot, Cf::Default, &mut |key, value| {
        if values.contains(key) {
            found += 1;
            line(&mut lines, "default", key, value);
        }
    });
    assert_eq!(found, values.len(), "every put has its value");
    assert!(found > 100, "{found} values are no proof");
    lines
}

fn each(snapshot: &dyn EngineSnapshot, cf: Cf, with: &mut dyn FnMut(&[u8], &[u8])) {
    let mut entries = snapshot.iter(cf.into(), data_key(b""), data_end_key(b"")).unwrap();
    while entries.next().unwrap() {
        with(&entries.key()[1..], entries.value());
    }
}

fn line(lines: &mut String, cf: &str, key: &[u8], value: &[u8]) {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    writeln!(lines, "{cf}\t{}\t{}", hex(key), hex(value)).unwrap();
}
