//! What comes in: a sealed generation of one task, from all shards.

use std::collections::BTreeMap;
use std::sync::Arc;

use logtide_format::{Mark, RegionNote};
use logtide_model::{Publication, RegionFact, RegionId, StoreId, Task, Ts};
use logtide_temp_file::SealedSpool;

/// A sealed generation, to be flushed.
pub struct SealedGeneration {
    /// The task.
    pub task: Arc<Task>,
    /// This store.
    pub store_id: StoreId,
    /// The store's boot epoch.
    pub boot: u64,
    /// The number of the generation in this boot: from 1, without a gap.
    pub generation: u64,
    /// The ts in the name of the metadata object. No uniqueness rests on it.
    pub flush_ts: Ts,
    /// The store's resolved ts, for the metadata.
    pub resolved_ts: Ts,
    /// What the shards spooled.
    pub spools: Vec<SealedSpool>,
    /// Regions that were resolved at the seal: their shape and resolved ts, for the metadata of their files.
    pub regions: BTreeMap<RegionId, (RegionNote, Ts)>,
    /// What no record can tell: durable once all earlier generations are committed, and before this one is.
    pub marks: Vec<Mark>,
    /// What may be published once it is durable.
    pub facts: Vec<RegionFact>,
}

impl SealedGeneration {
    /// What is published, taken out.
    pub(crate) fn take_publication(&mut self) -> Publication {
        Publication {
            task: self.task.name.clone(),
            incarnation: self.task.incarnation,
            store_id: self.store_id,
            boot: self.boot,
            generation: self.generation,
            facts: std::mem::take(&mut self.facts),
        }
    }
}
