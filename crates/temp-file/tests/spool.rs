//! What goes in comes out: order, equality, checksums, under any budget; memory stays bounded; files go away.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::Path;

use logtide_format::{EntryKind, FileKey, LogicalFile, Records, data_file_info, open_file, record_len};
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{Cf, Compression, MemoryBudget, Ts, append_ts, encode_raw_key};
use logtide_temp_file::{SealedSpool, Spool, SpoolConfig, SpoolError, SpoolRoom};
use proptest::prelude::*;

type Content = BTreeMap<FileKey, Vec<(Vec<u8>, Vec<u8>)>>;

fn config(dir: &Path, limit: usize, block_size: usize) -> SpoolConfig {
    let room = SpoolRoom::new(dir, MemoryBudget::new(limit), u64::MAX);
    SpoolConfig { room, block_size, compression: Compression::Zstd, encryption: None }
}

/// Every block, opened through its metadata as a restore does it.
fn content(sealed: &SealedSpool) -> Content {
    let mut all = Content::new();
    for file in &sealed.files {
        let stored = file.read().unwrap();
        assert_eq!(file.stored_length(), stored.len() as u64);
        let logical = LogicalFile {
            key: file.key,
            summary: file.summary.clone(),
            resolved_ts: Ts::new(1),
            stored_length: file.stored_length(),
            compression: file.compression,
            encryption: file.encryption.clone(),
            region: None,
        };
        let plain = open_file("test", &data_file_info(&logical, 0), &stored).unwrap();
        let records = Records::new(&plain).map(|record| record.unwrap());
        all.entry(file.key).or_default().extend(records.map(|r| (r.key.to_vec(), r.value.to_vec())));
    }
    all
}

fn sorted(sealed: &SealedSpool) -> bool {
    sealed.files.is_sorted_by_key(|f| (f.key.is_meta, f.key.table_id, f.key.region_id, f.key.cf, f.key.kind))
}

fn key(raw: &[u8], ts: u64) -> Vec<u8> {
    let mut key = encode_raw_key(raw);
    append_ts(&mut key, Ts::new(ts));
    key
}

#[derive(Clone, Debug)]
struct Event {
    region_id: u64,
    cf: Cf,
    kind: EntryKind,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// `n` is the ts, so that equal keys show their order.
fn event(n: u64, (region_id, table, write, delete, len): (u64, u8, bool, bool, usize)) -> Event {
    let table_key = [&b"t\x80\0\0\0\0\0\0"[..], &[table], b"_r1"].concat();
    let raw: &[u8] = if table == 0 { b"mDB:1" } else { &table_key };
    let value = match (delete, write) {
        (true, _) => Vec::new(),
        (_, true) => Write::new(WriteKind::Put, Ts::new(n), None).to_bytes(),
        (_, false) => (0..len).map(|i| (i * 7) as u8 ^ n as u8).collect(),
    };
    let kind = if delete { EntryKind::Delete } else { EntryKind::Put };
    Event { region_id, cf: if write { Cf::Write } else { Cf::Default }, kind, key: key(raw, n), value }
}

fn append(spool: &mut Spool, expected: &mut Content, event: &Event) {
    let Event { region_id, cf, kind, key, value } = event;
    spool.append(*region_id, *cf, *kind, key, value).unwrap();
    let file = FileKey::of(*region_id, *cf, *kind, key);
    expected.entry(file).or_default().push((key.clone(), value.clone()));
}

fn length_of_value() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0..200usize, 2 => 200..5_000usize, 1 => 5_000..40_000usize]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn sealed_content_is_what_was_appended(
        events in prop::collection::vec((0..6u64, 0..3u8, any::<bool>(), prop::bool::weighted(0.2), length_of_value()), 0..800),
        limit in prop_oneof![Just(0), (1usize << 20)..(4 << 20), Just(1usize << 30)], block_size in 1..20_000usize,
        seal_at in prop::collection::vec(0..800usize, 0..3), narrow_at in 0..1600usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), limit, block_size);
        let memory = config.room.memory.clone();
        let mut spool = Spool::new(config, "property").unwrap();
        let mut generations = Vec::new();
        let mut expected = Content::new();
        for (n, event_of) in events.into_iter().enumerate() {
            if n == narrow_at { memory.set_limit(10_000); }
            append(&mut spool, &mut expected, &event(n as u64 + 1, event_of));
            if seal_at.contains(&n) {
                generations.push((spool.seal().unwrap(), std::mem::take(&mut expected)));
            }
        }
        generations.push((spool.seal().unwrap(), expected));
        for (sealed, expected) in &generations {
            prop_assert!(sorted(sealed));
            prop_assert_eq!(&content(sealed), expected);
        }
        drop((spool, generations));
        prop_assert_eq!(memory.used(), 0, "all memory is given back");
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "all files are removed");
    }
}

#[test]
fn an_empty_generation_has_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::new(config(dir.path(), 1 << 20, 1 << 18), "empty").unwrap();
    assert!(spool.seal().unwrap().files.is_empty());
    assert!(spool.seal().unwrap().files.is_empty());
    assert_eq!(spool.open_bytes(), 0);
}

#[test]
fn what_no_backup_can_hold_is_refused_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::new(config(dir.path(), 1 << 20, 1 << 18), "refuse").unwrap();
    let good = key(b"k", 1);
    spool.append(1, Cf::Default, EntryKind::Put, &good, b"v").unwrap();
    for (cf, key, value) in [(Cf::Default, &b"short"[..], &b"v"[..]), (Cf::Write, &good, b"?"), (Cf::Lock, &good, b"v")]
    {
        let error = spool.append(9, cf, EntryKind::Put, key, value).unwrap_err();
        assert!(matches!(error, SpoolError::Record { region_id: 9, .. }), "{error}");
    }
    let file = FileKey::of(1, Cf::Default, EntryKind::Put, &good);
    assert_eq!(content(&spool.seal().unwrap()), Content::from([(file, vec![(good, b"v".to_vec())])]));
}

#[test]
fn blocks_have_the_size_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::new(config(dir.path(), 64 << 20, 64 << 10), "blocks").unwrap();
    let (small, large) = (vec![1; 1000], vec![2; 100 << 10]);
    for n in 0..1000 {
        let value = if n == 500 { &large } else { &small };
        spool.append(1, Cf::Default, EntryKind::Put, &key(b"k", n), value).unwrap();
    }
    let total = spool.open_bytes();
    let sealed = spool.seal().unwrap();
    assert_eq!(sealed.length(), total);
    let one = record_len(key(b"k", 1).len(), large.len()) as u64;
    let lengths: Vec<u64> = sealed.files.iter().map(|file| file.summary.length).collect();
    assert!(lengths.contains(&one), "a record larger than a block has its own: {lengths:?}");
    let full = lengths.iter().filter(|&&n| ((64 << 10)..(66 << 10)).contains(&n)).count();
    assert_eq!(full, lengths.len() - 3, "all but the large one, the one before it and the last: {lengths:?}");
}

/// Spreads `rounds` records over each of `segments` segments.
fn fill(spool: &mut Spool, segments: u64, rounds: u64, value: &[u8], mut watch: impl FnMut()) {
    for n in 0..rounds {
        for segment in 0..segments {
            let key = key(&(segment << 32 | n).to_be_bytes(), n + 1);
            spool.append(segment, Cf::Default, EntryKind::Put, &key, value).unwrap();
        }
        watch();
    }
}

#[test]
fn ten_thousand_segments_take_less_than_128_mib() {
    const LIMIT: usize = 128 << 20;
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), LIMIT, SpoolConfig::BLOCK_SIZE);
    let memory = config.room.memory.clone();
    let mut spool = Spool::new(config, "many").unwrap();
    // 12 KiB each: a block and a half at the least block size.
    fill(&mut spool, 10_000, 24, &[7; 512], || assert!(memory.peak() < LIMIT, "{}", memory.peak()));
    let appended = spool.open_bytes();
    let sealed = spool.seal().unwrap();
    assert!(memory.peak() < LIMIT, "{} bytes while sealing", memory.peak());
    assert_eq!(sealed.length(), appended);
    assert!(sorted(&sealed));
}

#[test]
fn short_tails_that_were_spilled_are_full_blocks_again() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 4 << 20;
    let config = config(dir.path(), limit, 64 << 10);
    let memory = config.room.memory.clone();
    let mut spool = Spool::new(config, "runs").unwrap();
    // 2,000 segments of 20 KiB in 4 MiB: 2 KiB each, below what is worth compressing.
    fill(&mut spool, 2_000, 80, &[7; 220], || {});
    assert!(memory.peak() < limit + (2 << 20), "{} of {limit}", memory.peak());
    let spilled: u64 = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(spilled > spool.open_bytes() - 2 * limit as u64, "{spilled} bytes are in the file, plain");
    let sealed = spool.seal().unwrap();
    assert!(memory.peak() < limit + (4 << 20), "{} of {limit}", memory.peak());
    assert_eq!(sealed.files.len(), 2_000, "runs of a segment are grouped to one block");
    assert!(content(&sealed).values().all(|records| records.len() == 80 && records.is_sorted()));
}

#[test]
fn sealed_blocks_outlive_the_spool_and_the_last_one_cleans_up() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 0, 1 << 10);
    let memory = config.room.memory.clone();
    let files = || std::fs::read_dir(dir.path()).unwrap().count();
    let mut spool = Spool::new(config, "outlive").unwrap();
    fill(&mut spool, 3, 100, &[1; 100], || {});
    let mut sealed = spool.seal().unwrap();
    drop(spool);
    assert_eq!(files(), 1);
    let last = sealed.files.pop().unwrap();
    drop(sealed);
    assert!(!std::thread::spawn(move || last.read().map(|bytes| bytes.is_empty())).join().unwrap().unwrap());
    assert_eq!((files(), memory.used()), (0, 0));
}
