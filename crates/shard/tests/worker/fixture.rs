//! A shard with real spools in a temporary directory, and short words for what is sent to it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use logtide_format::{EntryKind, Records};
use logtide_model::message::{
    AppliedBatch, GapFlag, Lead, ScanEntry, ScanEvent, ScanId, ScanRequest, ScanStep, SealMarker, ShardMessage,
};
use logtide_model::mvcc::{Lock, LockKind, Write, WriteKind};
use logtide_model::{
    Cf, Compression, Confirmed, Incarnation, KeyRange, MemoryBudget, Op, Region, RegionEpoch, RegionId, Task, TaskName,
    Ts, append_ts, encode_raw_key,
};
use logtide_shard::{SealedShard, Shard, ShardConfig, ShardEvent};
use logtide_temp_file::TaskKeys;

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
    pub(crate) spool_memory: MemoryBudget,
    pub(crate) spool_dir: PathBuf,
    _home: tempfile::TempDir,
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
        let (lock_memory, spool_memory) = (MemoryBudget::new(locks), MemoryBudget::new(spool));
        let shard = Shard::new(ShardConfig {
            shard: 3,
            spool_dir: spool_dir.clone(),
            spool_memory: spool_memory.clone(),
            keys: TaskKeys::default(),
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
            spool_memory,
            spool_dir,
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
        let plain = file.read().unwrap();
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
