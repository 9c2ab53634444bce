//! Regions with their peers, and the last peers of those that are gone.

use std::collections::BTreeMap;

use bytes::Bytes;
use logtide_model::{KeyRange, Region, RegionEpoch, RegionId, StoreId, Ts};
use prost::Message;
use raft::eraftpb::HardState;

use super::log::{EntryId, INIT_INDEX, INIT_TERM};
use super::{
    APPLY_STATE, REGION_PREFIX, TOMBSTONE_PREFIX, bytes_of, malformed, numbers, prefixed, put_apply_state,
    put_hard_state, raft_key,
};
use crate::engine::{EngineCf, EngineError, EngineSnapshot, KvEngine, WriteBatch};

/// A member of a raft group.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct PeerMeta {
    /// Its id, unique in the cluster.
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    /// Where it lives.
    #[prost(uint64, tag = "2")]
    pub(crate) store_id: StoreId,
}

/// A region with its peers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RegionMeta {
    pub(crate) region: Region,
    pub(crate) peers: Vec<PeerMeta>,
    /// The ts of the last range delete in it, or in what it was split from or took over.
    pub(crate) range_deleted: Option<Ts>,
}

/// A [`RegionMeta`] as it is stored and sent.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RegionRecord {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(bytes = "bytes", tag = "2")]
    start: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    end: Bytes,
    #[prost(uint64, tag = "4")]
    conf_ver: u64,
    #[prost(uint64, tag = "5")]
    version: u64,
    #[prost(message, repeated, tag = "6")]
    peers: Vec<PeerMeta>,
    /// 0: none.
    #[prost(uint64, tag = "7")]
    range_deleted: u64,
}

impl RegionMeta {
    /// The peer on a store.
    pub(crate) fn peer_on(&self, store_id: StoreId) -> Option<u64> {
        self.peers.iter().find(|p| p.store_id == store_id).map(|p| p.id)
    }

    /// The store of a peer.
    pub(crate) fn store_of(&self, peer_id: u64) -> Option<StoreId> {
        self.peers.iter().find(|p| p.id == peer_id).map(|p| p.store_id)
    }

    /// The ids of its peers.
    pub(crate) fn voters(&self) -> Vec<u64> {
        self.peers.iter().map(|p| p.id).collect()
    }

    pub(crate) fn record(&self) -> RegionRecord {
        let Region { id, epoch, range } = &self.region;
        let (start, end, peers) = (range.start.clone(), range.end.clone(), self.peers.clone());
        let range_deleted = self.range_deleted.map_or(0, Ts::get);
        RegionRecord { id: *id, start, end, conf_ver: epoch.conf_ver, version: epoch.version, peers, range_deleted }
    }

    fn decode(bytes: Bytes) -> Option<RegionMeta> {
        RegionMeta::of(RegionRecord::decode(bytes).ok()?)
    }

    pub(crate) fn of(record: RegionRecord) -> Option<RegionMeta> {
        let region = Region {
            id: record.id,
            epoch: RegionEpoch { conf_ver: record.conf_ver, version: record.version },
            range: KeyRange { start: record.start, end: record.end },
        };
        let range_deleted = (record.range_deleted != 0).then_some(Ts::new(record.range_deleted));
        (!record.peers.is_empty()).then_some(RegionMeta { region, peers: record.peers, range_deleted })
    }
}

fn region_key(region_id: RegionId) -> Vec<u8> {
    prefixed(REGION_PREFIX, region_id)
}

/// Puts a region into a batch.
pub(crate) fn put_region(batch: &mut WriteBatch, meta: &RegionMeta) {
    batch.put(EngineCf::Raft, region_key(meta.region.id), meta.record().encode_to_vec());
}

/// Removes a region, its log and all states of its peer.
pub(crate) fn forget_region(batch: &mut WriteBatch, region_id: RegionId) {
    batch.delete(EngineCf::Raft, region_key(region_id));
    batch.delete_range(EngineCf::Raft, raft_key(region_id, 0, &[]), raft_key(region_id, u8::MAX, &[]));
}

/// Puts a region with an empty log into a batch.
pub(crate) fn bootstrap_region(batch: &mut WriteBatch, meta: &RegionMeta) {
    begin_region(batch, meta, &HardState::default());
}

/// As [`bootstrap_region`], for a peer that took part in elections before it knew its region: it stands by its vote.
pub(crate) fn begin_region(batch: &mut WriteBatch, meta: &RegionMeta, before: &HardState) {
    let vote = if before.term < INIT_TERM { 0 } else { before.vote };
    let hard = HardState { term: before.term.max(INIT_TERM), vote, commit: INIT_INDEX };
    put_hard_state(batch, meta.region.id, &hard);
    put_apply_state(batch, meta.region.id, INIT_INDEX, INIT_TERM);
    put_region(batch, meta);
}

/// A region and the last entry applied to it, in a snapshot; `None` if it is not there.
pub(crate) fn read_region(
    snapshot: &dyn EngineSnapshot,
    region_id: RegionId,
) -> Result<Option<(RegionMeta, EntryId)>, EngineError> {
    let Some(meta) = snapshot.get(EngineCf::Raft, &region_key(region_id))? else { return Ok(None) };
    let meta = RegionMeta::decode(meta).ok_or_else(|| malformed(region_id, "region state"))?;
    let applied = snapshot.get(EngineCf::Raft, &raft_key(region_id, APPLY_STATE, &[]))?;
    let [index, term] = applied.and_then(|b| numbers(&b)).ok_or_else(|| malformed(region_id, "apply state"))?;
    Ok(Some((meta, EntryId { index, term })))
}

/// All regions of a store.
pub(crate) fn read_regions(engine: &dyn KvEngine) -> Result<Vec<RegionMeta>, EngineError> {
    let snapshot = engine.snapshot();
    let mut iter = snapshot.iter(
        EngineCf::Raft,
        Bytes::from_static(&[REGION_PREFIX]),
        Bytes::from_static(&[REGION_PREFIX + 1]),
    )?;
    let mut all = Vec::new();
    while iter.next()? {
        let meta = RegionMeta::decode(Bytes::copy_from_slice(iter.value()));
        all.push(meta.ok_or_else(|| malformed(0, "region state"))?);
    }
    Ok(all)
}

/// Notes that the peer of a region, and all before it, are gone for good.
pub(crate) fn put_tombstone(batch: &mut WriteBatch, region_id: RegionId, peer_id: u64) {
    batch.put(EngineCf::Raft, prefixed(TOMBSTONE_PREFIX, region_id), bytes_of(&[peer_id]));
}

/// Regions of which peers are gone, with the last of these peers.
pub(crate) fn read_tombstones(engine: &dyn KvEngine) -> Result<BTreeMap<RegionId, u64>, EngineError> {
    let snapshot = engine.snapshot();
    let (lower, upper) = (&[TOMBSTONE_PREFIX], &[TOMBSTONE_PREFIX + 1]);
    let mut iter = snapshot.iter(EngineCf::Raft, Bytes::from_static(lower), Bytes::from_static(upper))?;
    let mut all = BTreeMap::new();
    while iter.next()? {
        let region_id = iter.key().get(1..).and_then(numbers);
        let [region_id] = region_id.ok_or_else(|| malformed(0, "a tombstone"))?;
        let [peer_id] = numbers(iter.value()).ok_or_else(|| malformed(region_id, "tombstone"))?;
        all.insert(region_id, peer_id);
    }
    Ok(all)
}
