//! The spool of an encrypted task: nothing plain on the disk, and what comes out can be read with the key alone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use logtide_format::{
    DataKeys, EntryKind, FormatError, Keys, LogicalFile, MasterKey, Records, data_file_info, open_file_with, proto,
};
use logtide_model::{
    Cf, Cipher, Class, Compression, Diagnose, Incarnation, KeyRange, MemoryBudget, Random, RandomError, SecretKey,
    Task, TaskEncryption, TaskName, Ts, append_ts, encode_raw_key,
};
use logtide_temp_file::{SealedSpool, Spool, SpoolConfig, SpoolEncryption, SpoolError, SpoolRoom, TaskKeys};

/// In every value, so that it can be looked for.
const PLAIN: &[u8] = b"PLAINTEXT-OF-A-VALUE";

/// Bytes that a seed determines, as the simulator's do.
#[derive(Debug, Default)]
struct Seeded {
    state: AtomicU64,
    exhausted: AtomicBool,
}

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        if self.exhausted.load(Ordering::Relaxed) {
            return Err(RandomError("exhausted".to_owned()));
        }
        for byte in bytes {
            let n = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            *byte = ((n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8;
        }
        Ok(())
    }
}

fn data_key() -> SecretKey {
    SecretKey::new([5; 32])
}

fn fixed() -> DataKeys {
    DataKeys::fixed(Cipher::Aes256Ctr, data_key()).unwrap()
}

fn master() -> MasterKey {
    MasterKey::new(SecretKey::new([6; 32])).unwrap()
}

fn wrapped() -> DataKeys {
    DataKeys::wrapped(Cipher::Aes128Ctr, vec![master()]).unwrap()
}

fn config(dir: &Path, limit: usize, keys: DataKeys, random: Arc<Seeded>) -> SpoolConfig {
    SpoolConfig {
        room: SpoolRoom::new(dir, MemoryBudget::new(limit), u64::MAX),
        block_size: 16 << 10,
        compression: Compression::None,
        encryption: Some(SpoolEncryption { keys: Arc::new(keys), random }),
    }
}

/// A record of one of many regions, so that with little memory there are blocks and runs in the file.
fn append(spool: &mut Spool, n: u64) -> Result<(), SpoolError> {
    let mut key = encode_raw_key(&[PLAIN, &n.to_be_bytes()].concat());
    append_ts(&mut key, Ts::new(n + 1));
    spool.append(n % 300, Cf::Default, EntryKind::Put, &key, &PLAIN.repeat(1 + n as usize % 40))
}

/// All records, with the data files' metadata.
fn read(sealed: &SealedSpool, keys: &Keys) -> Result<(u64, Vec<proto::FileEncryptionInfo>), FormatError> {
    let mut entries = 0;
    let mut infos = Vec::new();
    for file in &sealed.files {
        let stored = file.read().unwrap();
        assert_eq!(stored, file.read().unwrap(), "reading again, as a repeated upload does, gives the same (I5)");
        assert!(!contains(&stored), "an upload would be plain");
        let logical = LogicalFile {
            key: file.key,
            summary: file.summary.clone(),
            resolved_ts: Ts::new(1),
            stored_length: file.stored_length(),
            compression: file.compression,
            encryption: file.encryption.clone(),
            region: None,
        };
        let info = data_file_info(&logical, 0);
        let plain = open_file_with("test", &info, &stored, keys)?;
        assert!(contains(&plain));
        entries += Records::new(&plain).map(Result::unwrap).count() as u64;
        infos.extend(info.file_encryption_info);
    }
    Ok((entries, infos))
}

fn contains(bytes: &[u8]) -> bool {
    bytes.windows(PLAIN.len()).any(|window| window == PLAIN)
}

/// All that lies in the directory.
fn on_disk(dir: &Path) -> Vec<u8> {
    std::fs::read_dir(dir).unwrap().flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn nothing_plain_is_on_the_disk() {
    const RECORDS: u64 = 20_000;
    type Case = (fn() -> DataKeys, fn() -> Keys);
    let cases: [Case; 2] =
        [(fixed, || Keys::NONE.with_data_key(data_key())), (wrapped, || Keys::NONE.with_master_key(master()))];
    for (writer, reader) in cases {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(config(dir.path(), 2 << 20, writer(), Arc::default()), "t").unwrap();
        (0..RECORDS).for_each(|n| append(&mut spool, n).unwrap());
        assert!(on_disk(dir.path()).len() > 1 << 20, "runs are on the disk");
        assert!(!contains(&on_disk(dir.path())), "before the seal");
        let sealed = spool.seal().unwrap();
        assert!(sealed.files.iter().any(|file| file.is_on_disk()));
        assert!(!contains(&on_disk(dir.path())), "after the seal");

        let (entries, infos) = read(&sealed, &reader()).unwrap();
        assert_eq!(entries, RECORDS);
        let ivs: BTreeSet<_> = infos.iter().map(|info| &info.file_iv).collect();
        assert_eq!(ivs.len(), infos.len(), "no IV comes twice");
        assert!(matches!(read(&sealed, &Keys::NONE), Err(FormatError::Encrypted { .. })));
    }
}

#[test]
fn a_plain_spool_would_be_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig { encryption: None, ..config(dir.path(), 2 << 20, fixed(), Arc::default()) };
    let mut spool = Spool::new(config, "t").unwrap();
    (0..20_000).for_each(|n| append(&mut spool, n).unwrap());
    assert!(contains(&on_disk(dir.path())));
}

#[test]
fn a_seed_makes_the_same_bytes_and_every_generation_another_data_key() {
    let generations = || {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(config(dir.path(), 16 << 20, wrapped(), Arc::default()), "t").unwrap();
        let mut seal = |from| {
            (from..from + 500).for_each(|n| append(&mut spool, n).unwrap());
            let sealed = spool.seal().unwrap();
            let stored: Vec<_> = sealed.files.iter().map(|file| file.read().unwrap()).collect();
            (stored, read(&sealed, &Keys::NONE.with_master_key(master())).unwrap().1)
        };
        [seal(0), seal(500)]
    };
    let [first, second] = generations();
    assert_eq!([first.clone(), second.clone()], generations(), "randomness comes from outside alone");
    let keys = |infos: &[proto::FileEncryptionInfo]| {
        infos.iter().map(|info| format!("{:?}", info.mode)).collect::<BTreeSet<_>>()
    };
    assert_eq!((keys(&first.1).len(), keys(&second.1).len()), (1, 1));
    assert_ne!(keys(&first.1), keys(&second.1));
}

#[test]
fn without_randomness_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let random = Arc::<Seeded>::default();
    let mut spool = Spool::new(config(dir.path(), 0, fixed(), random.clone()), "t").unwrap();
    random.exhausted.store(true, Ordering::Relaxed);
    let error = (0..10_000).find_map(|n| append(&mut spool, n).err()).expect("it needs an IV");
    assert!(matches!(error, SpoolError::Key(_)) && error.class() == Class::Retry, "{error}");
    assert_eq!(on_disk(dir.path()), b"");
    random.exhausted.store(false, Ordering::Relaxed);
    spool.discard();
    append(&mut spool, 1).unwrap();
    assert_eq!(read(&spool.seal().unwrap(), &Keys::NONE.with_data_key(data_key())).unwrap().0, 1);
}

#[test]
fn an_encrypted_task_without_keys_has_no_spool() {
    let task = |encryption| Task {
        name: TaskName::new("t").unwrap(),
        incarnation: Incarnation(4),
        storage: "memory://".to_owned(),
        start_ts: Ts::ZERO,
        ranges: vec![KeyRange::ALL],
        compression: Compression::Zstd,
        encryption,
    };
    let plain = task(None);
    let encrypted = task(Some(TaskEncryption::DataKey { cipher: Cipher::Aes256Ctr, key: data_key() }));
    let keys = TaskKeys::default();
    assert!(keys.of(&plain).unwrap().is_none());
    assert!(matches!(keys.of(&encrypted), Err(SpoolError::NoKeys { .. })));
    keys.insert(&encrypted, SpoolEncryption { keys: Arc::new(fixed()), random: Arc::<Seeded>::default() });
    assert!(keys.of(&encrypted).unwrap().is_some());
    let text = format!("{keys:?}");
    assert!(text.contains("32 bytes") && !text.contains("5, 5"), "{text}");
    let next_life = Task { incarnation: Incarnation(5), ..encrypted.clone() };
    assert!(matches!(keys.of(&next_life), Err(SpoolError::NoKeys { .. })));
    keys.remove(&encrypted);
    assert!(keys.of(&encrypted).is_err());
}
