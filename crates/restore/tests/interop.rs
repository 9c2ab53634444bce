//! Backups that TiKV's own code wrote, restored and compared with what was fed to it.

#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod lab;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lab::{State, chain, difference, restore, state_at};
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{Class, Diagnose};
use serde_json::Value;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/tests/data/interop")
}

fn unhex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

/// Puts of both column families: raw key → ts → value.
struct Fed {
    writes: BTreeMap<Vec<u8>, BTreeMap<u64, Vec<u8>>>,
    values: BTreeMap<(Vec<u8>, u64), Vec<u8>>,
}

fn fed() -> Fed {
    let mut fed = Fed { writes: BTreeMap::new(), values: BTreeMap::new() };
    let text = std::fs::read_to_string(data().join("records.jsonl")).unwrap();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let (raw, ts, value) = (unhex(&record["raw_key"]), record["ts"].as_u64().unwrap(), unhex(&record["value"]));
        match (record["cf"].as_str().unwrap(), record["op"].as_str().unwrap()) {
            (_, "Delete") => {}
            ("write", _) => drop(fed.writes.entry(raw).or_default().insert(ts, value)),
            _ => drop(fed.values.insert((raw, ts), value)),
        }
    }
    fed
}

impl Fed {
    fn at(&self, ts: u64) -> State {
        let mut state = State::new();
        for (raw, versions) in &self.writes {
            let newest = versions.range(..=ts).rev().map(|(_, bytes)| Write::parse(bytes).unwrap());
            let mut newest = newest.filter(|w| matches!(w.kind, WriteKind::Put | WriteKind::Delete));
            if let Some(write) = newest.next().filter(|w| w.kind == WriteKind::Put) {
                let long = || self.values[&(raw.clone(), write.start_ts.get())].clone();
                state.insert(raw.clone(), write.short_value.map_or_else(long, <[u8]>::to_vec));
            }
        }
        state
    }
}

#[test]
fn tikvs_backups_are_restored_exactly_at_any_ts() {
    let fed = fed();
    let mut all: Vec<u64> = fed.writes.values().flat_map(|v| v.keys().copied()).collect();
    all.sort_unstable();
    let dir = tempfile::tempdir().unwrap();
    for variant in ["zstd", "zstd_split", "uncompressed"] {
        let storage = logtide_storage::open(data().join(variant).join("backup").to_str().unwrap()).unwrap();
        for (i, at) in [all[0], all[all.len() / 3], all[all.len() * 2 / 3], all[all.len() - 1]].into_iter().enumerate()
        {
            let target = dir.path().join(format!("{variant}-{i}"));
            let summary = restore(&storage, &target, Some(at), |_| ()).unwrap_or_else(|e| panic!("{}", chain(&e)));
            let (got, _) = state_at(&target, at);
            assert_eq!(difference(&fed.at(at), &got), lab::NOTHING, "{variant} at {at}");
            assert!(i < 3 || (summary.records.dropped.delete_entries == 12 && got.len() > 100), "{summary:?}");
        }
    }
}

#[test]
fn an_encrypted_backup_is_refused_and_says_so() {
    let storage = logtide_storage::open(data().join("zstd_aes256ctr/backup").to_str().unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let error = restore(&storage, &dir.path().join("n"), None, |_| ()).unwrap_err();
    assert!(chain(&error).contains("encrypted") && error.class() == Class::Fatal, "{}", chain(&error));
}
