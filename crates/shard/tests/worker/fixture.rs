//! A shard with real spools in a temporary directory, and short words for what is sent to it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use logtide_format::{DataKeys, EntryKind, Keys, LogicalFile, Records, data_file_info, open_file_with};
use logtide_model::message::{
    AppliedBatch, GapFlag, Lead, ScanEntry, ScanEvent, ScanId, ScanRequest, ScanStep, SealMarker, ShardMessage,
};
use logtide_model::mvcc::{Lock, LockKind, Write, WriteKind};
use logtide_model::{
    Cf, Cipher, Compression, Confirmed, Incarnation, KeyRange, MemoryBudget, Op, Random, RandomError, Region,
    RegionEpoch, RegionId, SecretKey, Task, TaskEncryption, TaskName, Ts, append_ts, encode_raw_key,
};
use logtide_shard::{SealedShard, Shard, ShardConfig, ShardEvent};
use logtide_temp_file::{SpoolEncryption, SpoolRoom, TaskKeys};

pub(crate) struct Fixture {
    pub(crate) shard: Shard,
    /// Scans that were asked for and not cancelled.
    pub(crate) scans: Vec<ScanRequest>,
    pub(crate) cancelled: Vec<ScanId>,
    pub(crate) sealed: Vec<SealedShard>,
    pub(crate) poisoned: usize,
    /// What was said to be unsupported.
    pub(crate) unsupported: Vec<&'static str>,
    pub(crate) in_flight: MemoryBudget,
    pub(crate) lock_memory: MemoryBudget,
    pub(crate) room: SpoolRoom,
    pub(crate) spool_dir: PathBuf,
    pub(crate) keys: TaskKeys,
    /// Encrypted tasks have none: a block that is due is lost.
    pub(crate) randomness_gone: Arc<Gone>,
    now: Instant,
    _home: tempfile::TempDir,
}

const CIPHER: Cipher = Cipher::Aes256Ctr;

fn data_key() -> SecretKey {
    SecretKey::new([5; 32])
}

/// Randomness that is not random, and can go away.
#[derive(Debug, Default)]
pub(crate) struct Gone(AtomicBool);

impl Random for Gone {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        bytes.fill(7);
        if self.0.load(Ordering::Relaxed) { Err(RandomError("gone".to_owned())) } else { Ok(()) }
    }
}

/// A record as a sealed spool has it.
pub(crate) type Appended = (RegionId, Cf, EntryKind, Vec<u8>, Vec<u8>);

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with_memory(64 << 20, 64 << 20)
    }

    pub(crate) fn with_memory(spool: usize, locks: usize) -> Self {
        let home = tempfile::tempdir().unwrap();
        let spool_dir = home.path().join("spool");
        let lock_memory = MemoryBudget::new(locks);
        let room = SpoolRoom::new(&spool_dir, MemoryBudget::new(spool), u64::MAX);
        let keys = TaskKeys::default();
        let shard = Shard::new(ShardConfig {
            shard: 3,
            room: room.clone(),
            keys: keys.clone(),
            block_size: 64 << 10,
            lock_memory: lock_memory.clone(),
        });
        Fixture {
            shard,
            scans: Vec::new(),
            cancelled: Vec::new(),
            sealed: Vec::new(),
            poisoned: 0,
            unsupported: Vec::new(),
            in_flight: MemoryBudget::new(usize::MAX >> 1),
            lock_memory,
            room,
            spool_dir,
            keys,
            randomness_gone: Arc::default(),
            now: Instant::now(),
            _home: home,
        }
    }

    pub(crate) fn send(&mut self, message: ShardMessage) {
        let mut out = Vec::new();
        self.shard.handle(message, &mut out);
        assert_eq!(self.in_flight.used(), 0, "permits are given back");
        for event in out {
            match event {
                ShardEvent::Scan(request) => self.scans.push(request),
                ShardEvent::CancelScan(id) => {
                    self.scans.retain(|request| request.id != id);
                    self.cancelled.push(id);
                }
                ShardEvent::Sealed(part) => self.sealed.push(part),
                ShardEvent::Poisoned { .. } => self.poisoned += 1,
                ShardEvent::Unsupported { what, .. } => self.unsupported.push(what.as_str()),
                other => panic!("{other:?}"),
            }
        }
    }

    /// A file takes the place of the spool's directory.
    pub(crate) fn break_disk(&mut self) {
        let _ = std::fs::remove_dir_all(&self.spool_dir);
        std::fs::write(&self.spool_dir, b"").unwrap();
    }

    pub(crate) fn mend_disk(&mut self) {
        std::fs::remove_file(&self.spool_dir).unwrap();
        self.pass();
        assert!(!self.room.disk.is_out());
    }

    /// So much time passes that the disk is tried again.
    pub(crate) fn pass(&mut self) {
        self.room.disk.poll(self.now);
        self.now += Duration::from_secs(17);
        self.room.disk.poll(self.now);
    }

    /// What encrypted tasks have to put into a block is lost from now on.
    pub(crate) fn break_spool(&self) {
        self.randomness_gone.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn mend_spool(&self) {
        self.randomness_gone.0.store(false, Ordering::Relaxed);
    }

    /// The task, encrypted; its keys are open.
    pub(crate) fn encrypted(&self, name: &str, ranges: &[(&str, &str)]) -> Arc<Task> {
        let encryption = Some(TaskEncryption::DataKey { cipher: CIPHER, key: data_key() });
        let task = Arc::new(Task { encryption, ..(*task(name, ranges)).clone() });
        let keys = Arc::new(DataKeys::fixed(CIPHER, data_key()).unwrap());
        self.keys.insert(&task, SpoolEncryption { keys, random: self.randomness_gone.clone() });
        task
    }

    pub(crate) fn start_task(&mut self, task: &Arc<Task>) {
        self.send(ShardMessage::StartTask(task.clone()));
    }

    pub(crate) fn lead(&mut self, region: &Region, term: u64) -> GapFlag {
        let gap = GapFlag::default();
        self.send(ShardMessage::Lead(Lead { region: region.clone(), term, gap: gap.clone() }));
        gap
    }

    pub(crate) fn apply(&mut self, region_id: RegionId, first: u64, last: u64, ops: Vec<Op>) {
        let permit = self.in_flight.force_acquire(100);
        let (version, term) = (1, 5);
        let batch = AppliedBatch { region_id, version, term, first_index: first, last_index: last, ops, permit };
        self.send(ShardMessage::Applied(batch));
    }

    pub(crate) fn scan_step(&mut self, id: &ScanId, event: ScanEvent) {
        self.send(ShardMessage::Scan(ScanStep { id: id.clone(), event }));
    }

    /// Runs the scan that was asked for last, with that snapshot.
    pub(crate) fn scan(&mut self, start_ts: u64, index: u64, locks: &[(&str, u64)], entries: Vec<ScanEntry>) {
        let id = self.scans.pop().expect("a scan was asked for").id;
        self.scan_step(&id, ScanEvent::Started { start_ts: Ts::new(start_ts), applied_index: index });
        let locks = locks.iter().map(|(key, ts)| (encode_raw_key(key.as_bytes()).into(), Ts::new(*ts))).collect();
        let permit = self.in_flight.force_acquire(10);
        self.scan_step(&id, ScanEvent::Locks { locks, permit });
        self.scan_step(&id, ScanEvent::LocksDone);
        let permit = self.in_flight.force_acquire(10);
        self.scan_step(&id, ScanEvent::Data { entries, permit });
        self.scan_step(&id, ScanEvent::Finished);
    }

    pub(crate) fn seal(&mut self, task: &str, generation: u64, barrier: u64, confirmed: &[Confirmed]) -> SealedShard {
        let confirmed: HashMap<_, _> = confirmed.iter().map(|c| (c.region_id, *c)).collect();
        let task = TaskName::new(task).unwrap();
        let marker = SealMarker { task, generation, barrier: Ts::new(barrier), confirmed };
        self.send(ShardMessage::Seal(Arc::new(marker)));
        assert_eq!(self.sealed.len(), 1, "one answer to each marker");
        self.sealed.pop().unwrap()
    }
}

pub(crate) fn task(name: &str, ranges: &[(&str, &str)]) -> Arc<Task> {
    Arc::new(Task {
        name: TaskName::new(name).unwrap(),
        incarnation: Incarnation(1),
        storage: "memory://".to_owned(),
        start_ts: Ts::new(10),
        ranges: ranges.iter().map(|(a, b)| raw_range(a, b)).collect(),
        compression: Compression::None,
        encryption: None,
    })
}

pub(crate) fn raw_range(start: &str, end: &str) -> KeyRange {
    KeyRange::from_raw(start.as_bytes(), end.as_bytes())
}

pub(crate) fn region(id: RegionId, version: u64, start: &str, end: &str) -> Region {
    Region { id, epoch: RegionEpoch { conf_ver: 1, version }, range: raw_range(start, end) }
}

pub(crate) fn confirmed(region_id: RegionId, term: u64, version: u64, applied_index: u64) -> Confirmed {
    Confirmed { region_id, term, version, applied_index }
}

pub(crate) fn versioned(key: &str, ts: u64) -> Bytes {
    let mut encoded = encode_raw_key(key.as_bytes());
    append_ts(&mut encoded, Ts::new(ts));
    encoded.into()
}

pub(crate) fn lock(key: &str, start_ts: u64) -> Op {
    let value = Lock::new(LockKind::Put, key.as_bytes(), Ts::new(start_ts), 3000).to_bytes().into();
    Op::Put { cf: Cf::Lock, key: encode_raw_key(key.as_bytes()).into(), value }
}

pub(crate) fn unlock(key: &str) -> Op {
    Op::Delete { cf: Cf::Lock, key: encode_raw_key(key.as_bytes()).into() }
}

pub(crate) fn value(key: &str, start_ts: u64) -> Op {
    Op::Put { cf: Cf::Default, key: versioned(key, start_ts), value: Bytes::from(format!("{key}@{start_ts}")) }
}

pub(crate) fn write_record(start_ts: u64) -> Bytes {
    Write::new(WriteKind::Put, Ts::new(start_ts), None).to_bytes().into()
}

pub(crate) fn write(key: &str, start_ts: u64, commit_ts: u64) -> Op {
    Op::Put { cf: Cf::Write, key: versioned(key, commit_ts), value: write_record(start_ts) }
}

pub(crate) fn scan_entry(op: Op) -> ScanEntry {
    match op {
        Op::Put { cf, key, value } => ScanEntry { cf, key, value },
        other => panic!("{other:?}"),
    }
}

/// All records of a sealed spool, in the order of its files.
pub(crate) fn records(part: &SealedShard) -> Vec<Appended> {
    let mut all = Vec::new();
    for file in &part.spool.files {
        let logical = LogicalFile {
            key: file.key,
            summary: file.summary.clone(),
            resolved_ts: Ts::new(1),
            stored_length: file.stored_length(),
            compression: file.compression,
            encryption: file.encryption.clone(),
            region: None,
        };
        let keys = Keys::NONE.with_data_key(data_key());
        let plain = open_file_with("test", &data_file_info(&logical, 0), &file.read().unwrap(), &keys).unwrap();
        for record in Records::new(&plain) {
            let record = record.unwrap();
            all.push((file.key.region_id, file.key.cf, file.key.kind, record.key.to_vec(), record.value.to_vec()));
        }
    }
    all
}

/// The versioned keys of a sealed spool's write column family.
pub(crate) fn written(part: &SealedShard) -> Vec<Bytes> {
    let writes = records(part).into_iter().filter(|(_, cf, ..)| *cf == Cf::Write);
    let mut keys: Vec<Bytes> = writes.map(|(_, _, _, key, _)| key.into()).collect();
    keys.sort();
    keys
}

/// Range, checkpoint and index of each fact.
pub(crate) fn facts(part: &SealedShard) -> Vec<(KeyRange, u64, u64)> {
    part.facts.iter().map(|fact| (fact.range.clone(), fact.checkpoint.get(), fact.index)).collect()
}
