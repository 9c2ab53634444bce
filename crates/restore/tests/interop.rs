//! Backups that TiKV's own code wrote, restored and compared with what was fed to it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod lab;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lab::{State, chain, difference, restore_in_memory};
use logtide_format::{Keys, MasterKey};
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{Class, Diagnose, ErrorCode, SecretKey, Ts};
use logtide_restore::{RestoreError, RestoreOptions};
use logtide_storage::Storage;
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

fn storage(variant: &str) -> Storage {
    logtide_storage::open(data().join(variant).join("backup").to_str().unwrap()).unwrap()
}

/// The data key of README.txt.
fn data_key(length: u8) -> SecretKey {
    SecretKey::new((0..length).map(|i| i.wrapping_mul(7).wrapping_add(1)).collect::<Vec<_>>())
}

fn master_key() -> MasterKey {
    let text = std::fs::read_to_string(data().join("master_key.hex")).unwrap();
    MasterKey::new(SecretKey::from_hex(&text).unwrap()).unwrap()
}

#[test]
fn tikvs_backups_are_restored_exactly_at_any_ts() {
    let fed = fed();
    let mut all: Vec<u64> = fed.writes.values().flat_map(|v| v.keys().copied()).collect();
    all.sort_unstable();
    for (variant, keys) in [
        ("zstd", Keys::NONE),
        ("zstd_split", Keys::NONE),
        ("uncompressed", Keys::NONE),
        ("zstd_aes256ctr", Keys::NONE.with_data_key(data_key(32))),
        ("uncompressed_aes128ctr", Keys::NONE.with_data_key(data_key(16))),
        ("zstd_masterkey_file", Keys::NONE.with_master_key(master_key())),
    ] {
        let (storage, keys) = (storage(variant), Arc::new(keys));
        for (i, at) in [all[0], all[all.len() / 3], all[all.len() * 2 / 3], all[all.len() - 1]].into_iter().enumerate()
        {
            let restored = restore_in_memory(&storage, Some(at), |options| options.keys = keys.clone());
            let (summary, state) = restored.unwrap_or_else(|e| panic!("{variant}: {}", chain(&e)));
            let got = state.state_at(Ts::new(at)).unwrap();
            assert_eq!(difference(&fed.at(at), &got), lab::NOTHING, "{variant} at {at}");
            assert!(i < 3 || (summary.records.dropped.delete_entries == 12 && got.len() > 100), "{summary:?}");
        }
    }
}

#[test]
fn without_the_right_key_an_encrypted_backup_is_refused_and_says_what_is_needed() {
    for (variant, keys, word) in [
        ("zstd_aes256ctr", Keys::NONE, "encrypted"),
        ("zstd_masterkey_file", Keys::NONE, "encrypted"),
        ("zstd_aes256ctr", Keys::NONE.with_data_key(SecretKey::new([9; 32])), "key"),
        ("zstd_aes256ctr", Keys::NONE.with_master_key(master_key()), "data key"),
        ("zstd_masterkey_file", Keys::NONE.with_data_key(data_key(32)), "master key"),
    ] {
        let keys = Arc::new(keys);
        let error = restore_in_memory(&storage(variant), None, |options| options.keys = keys.clone()).unwrap_err();
        let text = chain(&error);
        assert!(matches!(error, RestoreError::Encrypted { .. }) && text.contains(word), "{variant}: {text}");
        assert!(text.contains("v1/") && !text.contains("is damaged"), "the object, and no damage: {text}");
        assert!(error.class() == Class::Fatal && !error.remedy().is_empty());
        assert_eq!(error.code(), ErrorCode::Encryption);
    }
}

#[test]
fn damage_of_an_encrypted_object_is_damage() {
    let from = storage("zstd_masterkey_file");
    let storage = lab::backup::copy(&from);
    let object = lab::backup::paths(&storage, ".log").pop().unwrap();
    let mut bytes = lab::backup::get(&storage, &object);
    let at = bytes.len() / 2;
    bytes[at] ^= 4;
    lab::backup::put(&storage, &object, bytes);
    let keys = Arc::new(Keys::NONE.with_master_key(master_key()));
    let error = restore_in_memory(&storage, None, |options| options.keys = keys.clone()).unwrap_err();
    assert!(matches!(error, RestoreError::Damaged { .. }) && error.class() == Class::Corrupt, "{}", chain(&error));
}

#[test]
fn no_key_is_in_the_options_debug() {
    let mut options = RestoreOptions::for_sink();
    options.keys =
        Arc::new(Keys::NONE.with_data_key(SecretKey::new(*b"a secret of 16 b")).with_master_key(master_key()));
    let text = format!("{options:?}");
    let hex = std::fs::read_to_string(data().join("master_key.hex")).unwrap();
    let numbers = b"a secret of 16 b".map(|byte| byte.to_string()).join(", ");
    for secret in ["a secret of", &numbers, hex.trim()] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(text.contains("SecretKey(16 bytes)"), "{text}");
}
