//! The merge that a region has prepared, and the regions that others took over.

use bytes::Bytes;
use logtide_model::{RegionEpoch, RegionId};
use prost::Message;

use super::log::CarriedEntry;
use super::region::forget_region;
use super::{MERGE_STATE, MERGED_PREFIX, bytes_of, malformed, numbers, prefixed, raft_key};
use crate::engine::{EngineCf, EngineError, EngineSnapshot, KvEngine, WriteBatch};

/// A merge that a region has prepared, and that is neither done nor taken back.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MergeState {
    /// The region that is to take it over.
    #[prost(uint64, tag = "1")]
    pub(crate) target_id: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) target_conf_ver: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) target_version: u64,
    /// The entry that prepared it.
    #[prost(message, required, tag = "4")]
    pub(crate) prepare: CarriedEntry,
}

impl MergeState {
    /// The epoch that the target is to have: in another it does not take the region over.
    pub(crate) fn target_epoch(&self) -> RegionEpoch {
        RegionEpoch { conf_ver: self.target_conf_ver, version: self.target_version }
    }
}

/// Puts a merge into a batch, or that there is none.
pub(crate) fn put_merge_state(batch: &mut WriteBatch, region_id: RegionId, state: Option<&MergeState>) {
    let key = raft_key(region_id, MERGE_STATE, &[]);
    match state {
        Some(state) => batch.put(EngineCf::Raft, key, state.encode_to_vec()),
        None => batch.delete(EngineCf::Raft, key),
    }
}

/// The merge that a region has prepared.
pub(crate) fn read_merge_state(
    snapshot: &dyn EngineSnapshot,
    region_id: RegionId,
) -> Result<Option<MergeState>, EngineError> {
    let bytes = snapshot.get(EngineCf::Raft, &raft_key(region_id, MERGE_STATE, &[]))?;
    bytes.map(|b| MergeState::decode(b).map_err(|_| malformed(region_id, "merge state"))).transpose()
}

/// How a region ended that another one took over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Its last version.
    pub(crate) version: u64,
    /// Who took it over.
    pub(crate) target: RegionId,
    /// The version of the target from then on.
    pub(crate) after: u64,
}

/// Removes everything of a region from the raft column family, and notes that it was merged into another.
pub(crate) fn erase_merged(batch: &mut WriteBatch, region_id: RegionId, merged: Merged) {
    forget_region(batch, region_id);
    let Merged { version, target, after } = merged;
    batch.put(EngineCf::Raft, prefixed(MERGED_PREFIX, region_id), bytes_of(&[version, target, after]));
}

/// The regions that this store knows to be merged into others.
pub(crate) fn read_merged(engine: &dyn KvEngine) -> Result<Vec<(RegionId, Merged)>, EngineError> {
    let snapshot = engine.snapshot();
    let [lower, upper] = [MERGED_PREFIX, MERGED_PREFIX + 1].map(|prefix| Bytes::copy_from_slice(&[prefix]));
    let mut iter = snapshot.iter(EngineCf::Raft, lower, upper)?;
    let mut all = Vec::new();
    while iter.next()? {
        let id = iter.key().split_last_chunk::<8>().map(|(_, id)| u64::from_be_bytes(*id));
        let id = id.ok_or_else(|| malformed(0, "merged region"))?;
        let [version, target, after] = numbers(iter.value()).ok_or_else(|| malformed(id, "merged region"))?;
        all.push((id, Merged { version, target, after }));
    }
    Ok(all)
}
