//! Tasks that encrypt, from the first write to a restore.

use std::path::Path;

use logtide_format::Keys;
use logtide_model::{Cipher, Diagnose, ErrorCode, MasterKeyRef, SecretKey, TaskEncryption};

use crate::world::{World, pair};

/// True if a file below has those bytes.
fn holds(dir: &Path, text: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).any(|path| match path.is_dir() {
        true => holds(&path, text),
        false => std::fs::read(&path).unwrap().windows(text.len()).any(|found| found == text),
    })
}

#[test]
fn an_encrypted_task_stores_no_plaintext_and_is_restored_with_its_key_alone() {
    let world = World::new();
    let storage = world.storage();
    let key = SecretKey::new([0x6b; 16]);
    world.put("before", "plaintext-of-the-scan");
    let backup = world.start(&world.registry, "spool");
    let encryption = TaskEncryption::DataKey { cipher: Cipher::Aes128Ctr, key: key.clone() };
    let task = world.begin_with(&storage, Some(encryption));
    let committed = world.put("during", "plaintext-of-the-observer");
    world.wait_for_checkpoint(&task, committed);
    backup.shutdown();
    assert!(!holds(&storage, b"plaintext-of-the-"));
    let error = world.restored_with(&storage, Some(committed), Keys::NONE).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Encryption);
    let all = [pair("before", "plaintext-of-the-scan"), pair("during", "plaintext-of-the-observer")];
    assert_eq!(world.restored_with(&storage, Some(committed), Keys::NONE.with_data_key(key)).unwrap(), all);
    world.cluster.shutdown();
}

#[test]
fn a_task_whose_master_key_is_missing_says_so_and_begins_when_it_is_there() {
    let world = World::new();
    let (storage, file) = (world.dir.path().join("storage"), world.dir.path().join("master.key"));
    std::fs::create_dir(&storage).unwrap();
    let backup = world.start(&world.registry, "spool");
    let master = MasterKeyRef::File { path: file.display().to_string() };
    let encryption = TaskEncryption::MasterKeys { cipher: Cipher::Aes256Ctr, keys: vec![master] };
    let task = world.begin_with(&storage, Some(encryption.clone()));
    let committed = world.put("key", "value");
    world.wait("the error", |tasks| {
        let errors = tasks.last_errors(&task).unwrap();
        errors.get(&1).is_some_and(|error| {
            error.error_code == ErrorCode::Encryption.as_str() && error.error_message.contains("master.key")
        })
    });
    assert!(std::fs::read_dir(&storage).unwrap().next().is_none(), "nothing is claimed without the keys");
    std::fs::write(&file, "2a".repeat(32) + "\n").unwrap();
    world.wait_for_checkpoint(&task, committed);
    backup.shutdown();
    let keys = logtide_storage::open_keys(&encryption, &logtide_storage::no_kms).unwrap();
    assert_eq!(world.restored_with(&storage, Some(committed), keys).unwrap(), [pair("key", "value")]);
    world.cluster.shutdown();
}
