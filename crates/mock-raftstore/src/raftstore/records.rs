//! Keys and records of the raft column family.
//!
//! `01` → [`Ident`]; `02 region 01 index` → entry; `02 region 02` → hard state; `02 region 03` → apply state;
//! `02 region 04` → where the log begins; `02 region 07` → the last entry that [`read_replayable`] tells of;
//! `02 region 08` → [`MergeState`]; `03 region` → [`RegionMeta`]; `04 region` → the last peer of it that is gone;
//! `05 region` → it was merged into another. Numbers are 8 bytes, big endian.

mod log;
mod merge;
mod region;

use logtide_model::{RegionId, StoreId};
use prost::Message;
use raft::eraftpb::HardState;

use log::INIT_INDEX;
pub(crate) use log::{
    CarriedEntry, EntryId, decode_entry, encode_entry, entry_key, put_truncated, read_last_index, read_truncated,
    reset_log,
};
pub(crate) use merge::{MergeState, Merged, erase_merged, put_merge_state, read_merge_state, read_merged};
pub(crate) use region::{
    PeerMeta, RegionMeta, RegionRecord, begin_region, bootstrap_region, forget_region, put_region, put_tombstone,
    read_region, read_regions, read_tombstones,
};

use crate::engine::{EngineCf, EngineError, EngineSnapshot, KvEngine, WriteBatch};

const IDENT_KEY: &[u8] = &[1];
const RAFT_PREFIX: u8 = 2;
const REGION_PREFIX: u8 = 3;
const TOMBSTONE_PREFIX: u8 = 4;
const MERGED_PREFIX: u8 = 5;
const LOG: u8 = 1;
const HARD_STATE: u8 = 2;
const APPLY_STATE: u8 = 3;
const TRUNCATED_STATE: u8 = 4;
const REPLAYABLE: u8 = 7;
const MERGE_STATE: u8 = 8;

/// Whose directory it is.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ident {
    /// The cluster.
    #[prost(uint64, tag = "1")]
    pub(crate) cluster_id: u64,
    /// The store.
    #[prost(uint64, tag = "2")]
    pub(crate) store_id: StoreId,
}

fn raft_key(region_id: RegionId, kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.push(RAFT_PREFIX);
    key.extend_from_slice(&region_id.to_be_bytes());
    key.push(kind);
    key.extend_from_slice(rest);
    key
}

fn prefixed(prefix: u8, region_id: RegionId) -> Vec<u8> {
    let mut key = vec![prefix];
    key.extend_from_slice(&region_id.to_be_bytes());
    key
}

fn numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut out = [0; N];
    let (chunks, rest) = bytes.as_chunks::<8>();
    if chunks.len() != N || !rest.is_empty() {
        return None;
    }
    for (n, chunk) in out.iter_mut().zip(chunks) {
        *n = u64::from_be_bytes(*chunk);
    }
    Some(out)
}

fn bytes_of(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
}

/// Puts the hard state of a region into a batch.
pub(crate) fn put_hard_state(batch: &mut WriteBatch, region_id: RegionId, hard: &HardState) {
    batch.put(EngineCf::Raft, raft_key(region_id, HARD_STATE, &[]), bytes_of(&[hard.term, hard.vote, hard.commit]));
}

/// Puts the index and term of the last applied entry into a batch.
pub(crate) fn put_apply_state(batch: &mut WriteBatch, region_id: RegionId, index: u64, term: u64) {
    batch.put(EngineCf::Raft, raft_key(region_id, APPLY_STATE, &[]), bytes_of(&[index, term]));
}

/// Notes that the effects of entries up to `index` cannot be told from the log any more; see [`read_replayable`].
pub(crate) fn put_replayable(batch: &mut WriteBatch, region_id: RegionId, index: u64) {
    batch.put(EngineCf::Raft, raft_key(region_id, REPLAYABLE, &[]), bytes_of(&[index]));
}

/// The last entry that changed the version of the region, or took in a file: what the entries behind it did can be told
/// from the log alone.
pub(crate) fn read_replayable(snapshot: &dyn EngineSnapshot, region_id: RegionId) -> Result<u64, EngineError> {
    let Some(bytes) = snapshot.get(EngineCf::Raft, &raft_key(region_id, REPLAYABLE, &[]))? else {
        return Ok(INIT_INDEX);
    };
    let [index] = numbers(&bytes).ok_or_else(|| malformed(region_id, "replayable index"))?;
    Ok(index)
}

/// The hard state of a peer; `None` if there is none.
pub(crate) fn read_hard_state(engine: &dyn KvEngine, region_id: RegionId) -> Result<Option<HardState>, EngineError> {
    let Some(hard) = engine.get(EngineCf::Raft, &raft_key(region_id, HARD_STATE, &[]))? else { return Ok(None) };
    let [term, vote, commit] = numbers(&hard).ok_or_else(|| malformed(region_id, "hard state"))?;
    Ok(Some(HardState { term, vote, commit }))
}

/// The hard state and the applied index of a region.
pub(crate) fn read_states(engine: &dyn KvEngine, region_id: RegionId) -> Result<(HardState, u64), EngineError> {
    let hard = read_hard_state(engine, region_id)?;
    let HardState { term, vote, commit } = hard.ok_or_else(|| malformed(region_id, "hard state"))?;
    let applied = engine.get(EngineCf::Raft, &raft_key(region_id, APPLY_STATE, &[]))?;
    let [applied, _] = applied.and_then(|b| numbers(&b)).ok_or_else(|| malformed(region_id, "apply state"))?;
    // The commit index is not written every time that it moves, but nothing uncommitted is ever applied.
    Ok((HardState { term, vote, commit: commit.max(applied) }, applied))
}

/// Whose directory it is; `None` for a new one.
pub(crate) fn read_ident(engine: &dyn KvEngine) -> Result<Option<Ident>, EngineError> {
    let bytes = engine.get(EngineCf::Raft, IDENT_KEY)?;
    bytes.map(|b| Ident::decode(b).map_err(|_| malformed(0, "store ident"))).transpose()
}

/// Puts the ident into a batch.
pub(crate) fn write_ident(batch: &mut WriteBatch, ident: &Ident) {
    batch.put(EngineCf::Raft, IDENT_KEY, ident.encode_to_vec());
}

pub(crate) fn malformed(region_id: RegionId, what: &str) -> EngineError {
    EngineError {
        path: "raft column family".to_owned(),
        cause: format!("{what} of region {region_id} is missing or malformed"),
    }
}

#[cfg(test)]
mod tests {
    use logtide_model::{KeyRange, Region, RegionEpoch, Ts};

    use super::*;
    use crate::engine::MemoryEngine;

    #[test]
    fn regions_round_trip_and_logs_end_where_they_end() {
        let engine = MemoryEngine::new();
        let region = Region { id: 3, epoch: RegionEpoch { conf_ver: 1, version: 2 }, range: KeyRange::new("a", "") };
        let peers = vec![PeerMeta { id: 9, store_id: 1 }];
        let meta = RegionMeta { region, peers, range_deleted: Some(Ts::new(77)) };
        let mut batch = WriteBatch::default();
        bootstrap_region(&mut batch, &meta);
        batch.put(EngineCf::Raft, entry_key(3, 6), "x");
        batch.put(EngineCf::Raft, entry_key(4, 8), "x");
        engine.write(&batch, false).unwrap();
        assert_eq!(read_regions(&engine).unwrap(), std::slice::from_ref(&meta));
        assert_eq!(read_region(&*engine.snapshot(), 3).unwrap(), Some((meta, EntryId::INIT)));
        assert_eq!(read_last_index(&engine, 3, INIT_INDEX).unwrap(), 6);
        assert_eq!(read_states(&engine, 3).unwrap().1, INIT_INDEX);
    }
}
