//! How many objects an hour of flushes makes, for few and for many active regions: shards, spools and flusher as in a
//! store, with little data and no clock but a simulated one. The figures are printed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use logtide_flusher::{Exclusive, FlushConfig, Flusher, NotExclusive, SealedGeneration};
use logtide_format::{DataName, METADATA_PREFIX};
use logtide_model::message::{AppliedBatch, GapFlag, Lead, ScanEvent, ScanStep, SealMarker, ShardMessage};
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{
    Cf, Compression, Confirmed, Incarnation, KeyRange, MemoryBudget, Op, Publication, PublishError, Publisher, Region,
    RegionEpoch, Task, TaskName, Ts, append_ts, encode_raw_key,
};
use logtide_shard::{SealedShard, Shard, ShardConfig, ShardEvent};
use logtide_temp_file::{SpoolRoom, TaskKeys};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;

const SHARDS: usize = 2;
const INTERVAL: Duration = Duration::from_secs(180);
const FLUSHES_PER_HOUR: u64 = 20;
/// How many small metadata objects become one: the default of the façade.
const MERGED: usize = 16;
const TERM: u64 = 5;

struct Accepts;

impl Publisher for Accepts {
    fn publish(&self, _: &Publication) -> Result<(), PublishError> {
        Ok(())
    }
}

struct Alone;

impl Exclusive for Alone {
    fn acquire(&self) -> BoxFuture<'_, Result<(), NotExclusive>> {
        async { Ok(()) }.boxed()
    }

    fn confirm(&self) -> BoxFuture<'_, Result<(), NotExclusive>> {
        async { Ok(()) }.boxed()
    }

    fn release(&self) -> BoxFuture<'_, Result<(), NotExclusive>> {
        async { Ok(()) }.boxed()
    }
}

/// The shards of a store that leads so many regions.
struct Store {
    shards: Vec<Shard>,
    regions: u64,
    task: Arc<Task>,
    memory: MemoryBudget,
    index: u64,
    _home: tempfile::TempDir,
}

fn raw_key(region: u64) -> Vec<u8> {
    [&b"t"[..], &(region | 1 << 63).to_be_bytes(), b"_r1"].concat()
}

impl Store {
    fn new(regions: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let shard = |shard: usize| {
            Shard::new(ShardConfig {
                shard,
                room: SpoolRoom::new(home.path().join(shard.to_string()), MemoryBudget::new(128 << 20), u64::MAX),
                keys: TaskKeys::default(),
                block_size: 128 << 10,
                lock_memory: MemoryBudget::new(64 << 20),
            })
        };
        let task = Arc::new(Task {
            name: TaskName::new("pitr").unwrap(),
            incarnation: Incarnation(1),
            storage: "memory://".to_owned(),
            start_ts: Ts::new(1),
            ranges: vec![KeyRange::ALL],
            compression: Compression::Zstd,
            encryption: None,
        });
        let shards = (0..SHARDS).map(shard).collect();
        let memory = MemoryBudget::new(usize::MAX >> 1);
        let mut store = Store { shards, regions, task, memory, index: 10, _home: home };
        for shard in 0..SHARDS {
            store.send(shard, ShardMessage::StartTask(store.task.clone()));
        }
        (1..=regions).for_each(|region| store.observe(region));
        store
    }

    fn send(&mut self, shard: usize, message: ShardMessage) -> Vec<ShardEvent> {
        let mut out = Vec::new();
        self.shards[shard].handle(message, &mut out);
        out
    }

    /// Leads a region, whose scan finds nothing.
    fn observe(&mut self, id: u64) {
        let range = KeyRange::from_raw(&raw_key(id), &raw_key(id + 1));
        let region = Region { id, epoch: RegionEpoch { conf_ver: 1, version: 1 }, range };
        let shard = id as usize % SHARDS;
        let lead = ShardMessage::Lead(Lead { region, term: TERM, gap: GapFlag::default() });
        let [ShardEvent::Scan(request)] = &self.send(shard, lead)[..] else { panic!("a scan") };
        let id = request.id.clone();
        for event in
            [ScanEvent::Started { start_ts: Ts::new(1), applied_index: 10 }, ScanEvent::LocksDone, ScanEvent::Finished]
        {
            self.send(shard, ShardMessage::Scan(ScanStep { id: id.clone(), event }));
        }
    }

    /// One commit in every region, at `ts`, and the seal of it all.
    fn generation(&mut self, number: u64, ts: Ts) -> SealedGeneration {
        self.index += 1;
        let index = self.index;
        for region_id in 1..=self.regions {
            let mut key = encode_raw_key(&raw_key(region_id));
            append_ts(&mut key, ts);
            let value = Write::new(WriteKind::Put, Ts::new(ts.get() - 1), Some(b"a small value")).to_bytes();
            let ops = vec![Op::Put { cf: Cf::Write, key: key.into(), value: value.into() }];
            let permit = self.memory.force_acquire(100);
            let batch =
                AppliedBatch { region_id, version: 1, term: TERM, first_index: index, last_index: index, ops, permit };
            self.send(region_id as usize % SHARDS, ShardMessage::Applied(batch));
        }
        let of = |region_id| Confirmed { region_id, term: TERM, version: 1, applied_index: index };
        let confirmed: HashMap<_, _> = (1..=self.regions).map(|id| (id, of(id))).collect();
        let task = self.task.name.clone();
        let marker = Arc::new(SealMarker { task, generation: number, barrier: ts.next(), confirmed });
        let parts: Vec<SealedShard> = (0..SHARDS)
            .map(|shard| match self.send(shard, ShardMessage::Seal(marker.clone())).pop() {
                Some(ShardEvent::Sealed(part)) => part,
                other => panic!("{other:?}"),
            })
            .collect();
        self.assemble(number, ts, parts)
    }

    fn assemble(&self, generation: u64, ts: Ts, parts: Vec<SealedShard>) -> SealedGeneration {
        let (mut spools, mut facts, mut regions) = (Vec::new(), Vec::new(), BTreeMap::new());
        for part in parts {
            spools.push(part.spool);
            facts.extend(part.facts);
            regions.extend(part.regions.into_iter().map(|(id, region)| (id, (region.note, region.resolved_ts))));
        }
        assert_eq!(facts.len() as u64, self.regions, "all regions are active and state something");
        let (task, marks) = (self.task.clone(), Vec::new());
        let (store_id, boot, flush_ts, resolved_ts) = (1, 1, ts.next(), ts);
        SealedGeneration { task, store_id, boot, generation, flush_ts, resolved_ts, spools, regions, marks, facts }
    }
}

/// What was counted.
#[derive(Debug)]
struct Figures {
    files_per_flush: u64,
    data_bytes: u64,
    put: u64,
    merges: u64,
    left_data: u64,
    left_metadata: u64,
}

/// Flushes every three minutes, as often as said, and merges metadata in between.
async fn flushes(regions: u64, count: u64) -> Figures {
    let (mut store, storage) = (Store::new(regions), Arc::new(InMemory::new()));
    let config = FlushConfig { create_if_absent: true, ..FlushConfig::default() };
    let limit = config.file_size_limit;
    let flusher = Flusher::new(Handle::current(), storage.clone(), Arc::new(Accepts), config, |_| {});
    let (merging, mut put, mut merges, mut files, mut data_bytes) = (flusher.merging(), 0, 0, 0, 0);
    for number in 1..=count {
        tokio::time::advance(INTERVAL).await;
        let ts = Ts::compose(1_760_000_000_000 + number * INTERVAL.as_millis() as u64, 0);
        let sealed = store.generation(number, ts);
        files = sealed.spools.iter().map(|spool| spool.files.len() as u64).sum();
        let bytes: u64 = sealed.spools.iter().flat_map(|s| &s.files).map(|file| file.stored_length()).sum();
        let flushed = flusher.submit(sealed).await.unwrap().unwrap();
        assert!(
            flushed.objects as u64 <= 1 + bytes.div_ceil(limit) + 1,
            "{} objects for {bytes} bytes",
            flushed.objects
        );
        (put, data_bytes) = (put + flushed.objects as u64, data_bytes + bytes);
        while merging.is_due(MERGED) {
            merging.run(&Alone).await.unwrap().unwrap();
            // The merged object, and its head.
            merges += 1;
        }
    }
    let names: Vec<_> = storage.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
    let left = |wanted: fn(&str) -> bool| names.iter().filter(|name| wanted(name)).count() as u64;
    let (left_data, left_metadata) =
        (left(|name| DataName::parse(name).is_some()), left(|name| name.starts_with(METADATA_PREFIX)));
    assert!(storage.head(&"v1/logtide/heads/0000000000000001-0000000000000001".into()).await.is_ok());
    Figures { files_per_flush: files, data_bytes, put, merges, left_data, left_metadata }
}

#[tokio::test(start_paused = true)]
async fn objects_per_hour_do_not_depend_on_the_number_of_active_regions() {
    let mut per_hour = Vec::new();
    for (regions, count) in [(1, FLUSHES_PER_HOUR), (1000, FLUSHES_PER_HOUR), (100_000, 2)] {
        let figures = flushes(regions, count).await;
        let scale = FLUSHES_PER_HOUR / count;
        println!(
            "{regions} active regions: {} logical files a flush, {} bytes of data and {} objects an hour; {} merges leave {} \
             data and {} metadata objects after {count} flushes",
            figures.files_per_flush,
            figures.data_bytes * scale,
            figures.put * scale,
            figures.merges,
            figures.left_data,
            figures.left_metadata
        );
        assert!(figures.files_per_flush >= regions, "every region wrote");
        assert!(figures.left_metadata <= count && figures.left_data <= count, "merging makes no more of them");
        per_hour.push(figures.put * scale);
    }
    let (least, most) = (per_hour.iter().min().unwrap(), per_hour.iter().max().unwrap());
    assert!(*most as f64 <= *least as f64 * 1.1, "{per_hour:?}");
}
