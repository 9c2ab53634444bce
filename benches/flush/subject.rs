//! The flusher, with real spools and a real storage, publishing to memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use logtide_benches::{Took, Workload};
use logtide_flusher::{FlushConfig, Flusher, SealedGeneration};
use logtide_format::EntryKind;
use logtide_model::{
    Cf, Compression, Incarnation, KeyRange, MemoryBudget, Publication, PublishError, Publisher, Task, TaskName, Ts,
};
use logtide_temp_file::{SealedSpool, Spool, SpoolConfig, SpoolRoom};
use object_store::ObjectStore;
use tokio::runtime::Runtime;

use crate::AT_ONCE;
use crate::names::ShortNames;

/// Regions of a shard.
const REGIONS: usize = 64;
/// Shards: each has a spool of its own.
const SHARDS: usize = 2;

/// Where a spool keeps its blocks.
#[derive(Clone, Copy)]
pub(crate) enum Spooled {
    Memory,
    Disk,
}

impl Spooled {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Spooled::Memory => "memory",
            Spooled::Disk => "disk",
        }
    }

    fn budget(self) -> usize {
        match self {
            Spooled::Memory => 1 << 30,
            // The least that a spool works with: nearly all blocks go to its file.
            Spooled::Disk => 4 << 20,
        }
    }
}

/// Keeps nothing: what becomes of facts is not what is measured.
struct Nowhere;

impl Publisher for Nowhere {
    fn publish(&self, _: &Publication) -> Result<(), PublishError> {
        Ok(())
    }
}

/// A storage as logtide opens it, and what is flushed to it.
pub(crate) struct Bed<'a> {
    runtime: &'a Runtime,
    pub(crate) store: Arc<dyn ObjectStore>,
    create_if_absent: bool,
    task: Arc<Task>,
    directory: tempfile::TempDir,
    workloads: Vec<Workload>,
}

impl<'a> Bed<'a> {
    pub(crate) fn new(runtime: &'a Runtime, url: &str, long_names: bool) -> Self {
        let storage = logtide_storage::open(url).unwrap();
        let able = runtime.block_on(logtide_storage::probe(&storage)).unwrap();
        let task = Task {
            name: TaskName::new("bench").unwrap(),
            incarnation: Incarnation(1),
            storage: storage.url.clone(),
            start_ts: Ts::new(1),
            ranges: vec![KeyRange::ALL],
            compression: Compression::Zstd,
            encryption: None,
        };
        Bed {
            runtime,
            store: if long_names { storage.store } else { Arc::new(ShortNames(storage.store)) },
            create_if_absent: able.create_if_absent,
            task: Arc::new(task),
            directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
            workloads: Vec::new(),
        }
    }

    /// Generations 1, 2, … of new spools.
    pub(crate) fn seal(&mut self, count: usize, plain: usize, spooled: Spooled) -> Vec<SealedGeneration> {
        if self.workloads.is_empty() {
            let of =
                |shard: usize| Workload::new(shard as u64, (shard * REGIONS) as u64 + 1, REGIONS, 1024, plain / SHARDS);
            self.workloads = (0..SHARDS).map(of).collect();
        }
        (1..=count as u64).map(|number| self.generation(number, spooled)).collect()
    }

    fn generation(&self, number: u64, spooled: Spooled) -> SealedGeneration {
        SealedGeneration {
            task: self.task.clone(),
            store_id: 1,
            boot: 1,
            generation: number,
            flush_ts: Ts::new(number),
            resolved_ts: Ts::new(number),
            spools: self.workloads.iter().map(|workload| self.spool(workload, spooled)).collect(),
            regions: BTreeMap::new(),
            marks: vec![],
            facts: vec![],
        }
    }

    fn spool(&self, workload: &Workload, spooled: Spooled) -> SealedSpool {
        let config = SpoolConfig {
            room: SpoolRoom::new(self.directory.path(), MemoryBudget::new(spooled.budget()), u64::MAX),
            block_size: SpoolConfig::BLOCK_SIZE,
            compression: Compression::Zstd,
            encryption: None,
        };
        let mut spool = Spool::new(config, "bench").unwrap();
        for event in workload.events() {
            spool.append(event.region_id, Cf::Default, EntryKind::Put, event.key, event.value).unwrap();
        }
        spool.seal().unwrap()
    }

    /// Flushes all of them, from the first submission until the last is published and freed.
    pub(crate) fn flush(&self, generations: Vec<SealedGeneration>) -> Took {
        let config = FlushConfig {
            upload_concurrency: AT_ONCE,
            create_if_absent: self.create_if_absent,
            ..FlushConfig::default()
        };
        let handle = self.runtime.handle().clone();
        let flusher = Flusher::new(handle, self.store.clone(), Arc::new(Nowhere), config, |_| {});
        let work = async {
            let answers: Vec<_> = generations.into_iter().map(|generation| flusher.submit(generation)).collect();
            for answer in answers {
                answer.await.unwrap().unwrap();
            }
        };
        Took::of_process(|| self.runtime.block_on(work)).0
    }
}
