//! Keys and records of the raft column family.
//!
//! `01` → [`Ident`]; `02 region 01 index` → entry; `02 region 02` → hard state; `02 region 03` → apply state;
//! `02 region 04` → where the log begins; `02 region 07` → the last entry that [`read_replayable`] tells of;
//! `02 region 08` → [`MergeState`]; `03 region` → [`RegionMeta`]; `04 region` → the last peer of it that is gone;
//! `05 region` → it was merged into another. Numbers are 8 bytes, big endian.

use std::collections::BTreeMap;

use bytes::Bytes;
use logtide_model::{KeyRange, Region, RegionEpoch, RegionId, StoreId, Ts};
use prost::Message;
use raft::eraftpb::{Entry, HardState};

use crate::engine::{EngineCf, EngineError, EngineSnapshot, KvEngine, WriteBatch};

/// Index and term that every raft log begins behind (TiKV's `RAFT_INIT_LOG_INDEX`).
pub(crate) const INIT_INDEX: u64 = 5;
/// See [`INIT_INDEX`].
pub(crate) const INIT_TERM: u64 = 5;

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

/// An entry of a log, which has only one with this index and term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryId {
    pub(crate) index: u64,
    pub(crate) term: u64,
}

impl EntryId {
    /// What the log of a peer begins behind that knows nothing of its region.
    pub(crate) const NONE: EntryId = EntryId { index: 0, term: 0 };
    /// What every other log begins behind, as long as nothing is cut off.
    pub(crate) const INIT: EntryId = EntryId { index: INIT_INDEX, term: INIT_TERM };
}

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

/// An entry of a log, carried to another place.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CarriedEntry {
    #[prost(uint64, tag = "1")]
    pub(crate) index: u64,
    /// As [`encode_entry`] has it.
    #[prost(bytes = "bytes", tag = "2")]
    stored: Bytes,
}

impl CarriedEntry {
    pub(crate) fn of(entry: &Entry) -> CarriedEntry {
        CarriedEntry { index: entry.index, stored: encode_entry(entry).into() }
    }

    pub(crate) fn entry(&self) -> Option<Entry> {
        decode_entry(self.index, &self.stored)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.stored.len()
    }
}

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

fn raft_key(region_id: RegionId, kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.push(RAFT_PREFIX);
    key.extend_from_slice(&region_id.to_be_bytes());
    key.push(kind);
    key.extend_from_slice(rest);
    key
}

fn region_key(region_id: RegionId) -> Vec<u8> {
    prefixed(REGION_PREFIX, region_id)
}

fn prefixed(prefix: u8, region_id: RegionId) -> Vec<u8> {
    let mut key = vec![prefix];
    key.extend_from_slice(&region_id.to_be_bytes());
    key
}

/// The key of an entry of a raft log.
pub(crate) fn entry_key(region_id: RegionId, index: u64) -> Vec<u8> {
    raft_key(region_id, LOG, &index.to_be_bytes())
}

/// An entry as it is stored: type, term, length of the context, context, data.
pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(13 + entry.context.len() + entry.data.len());
    out.push(entry.entry_type as u8);
    out.extend_from_slice(&entry.term.to_be_bytes());
    out.extend_from_slice(&(entry.context.len() as u32).to_be_bytes());
    out.extend_from_slice(&entry.context);
    out.extend_from_slice(&entry.data);
    out
}

/// The entry of an index from its stored form.
pub(crate) fn decode_entry(index: u64, bytes: &[u8]) -> Option<Entry> {
    let (kind, rest) = bytes.split_first()?;
    let (term, rest) = rest.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (context, data) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    Some(Entry {
        entry_type: i32::from(*kind),
        term: u64::from_be_bytes(*term),
        index,
        data: data.to_vec(),
        context: context.to_vec(),
        sync_log: false,
    })
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

/// Cuts a log off behind `to`; its first entry is that of `first`.
pub(crate) fn put_truncated(batch: &mut WriteBatch, region_id: RegionId, first: u64, to: EntryId) {
    batch.delete_range(EngineCf::Raft, entry_key(region_id, first), entry_key(region_id, to.index + 1));
    batch.put(EngineCf::Raft, raft_key(region_id, TRUNCATED_STATE, &[]), bytes_of(&[to.index, to.term]));
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

/// Puts a region into a batch.
pub(crate) fn put_region(batch: &mut WriteBatch, meta: &RegionMeta) {
    batch.put(EngineCf::Raft, region_key(meta.region.id), meta.record().encode_to_vec());
}

/// Removes a region, its log and all states of its peer.
pub(crate) fn forget_region(batch: &mut WriteBatch, region_id: RegionId) {
    batch.delete(EngineCf::Raft, region_key(region_id));
    batch.delete_range(EngineCf::Raft, raft_key(region_id, 0, &[]), raft_key(region_id, u8::MAX, &[]));
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

/// Empties a log, to go on behind `to`.
pub(crate) fn reset_log(batch: &mut WriteBatch, region_id: RegionId, to: EntryId) {
    batch.delete_range(EngineCf::Raft, raft_key(region_id, LOG, &[]), raft_key(region_id, LOG + 1, &[]));
    batch.put(EngineCf::Raft, raft_key(region_id, TRUNCATED_STATE, &[]), bytes_of(&[to.index, to.term]));
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

/// Where the log of a region begins.
pub(crate) fn read_truncated(snapshot: &dyn EngineSnapshot, region_id: RegionId) -> Result<EntryId, EngineError> {
    let Some(bytes) = snapshot.get(EngineCf::Raft, &raft_key(region_id, TRUNCATED_STATE, &[]))? else {
        return Ok(EntryId::INIT);
    };
    let [index, term] = numbers(&bytes).ok_or_else(|| malformed(region_id, "truncated state"))?;
    Ok(EntryId { index, term })
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

/// The last index of a region's log, searched from `from` on, which the log is known to reach.
pub(crate) fn read_last_index(engine: &dyn KvEngine, region_id: RegionId, from: u64) -> Result<u64, EngineError> {
    let snapshot = engine.snapshot();
    let (lower, upper) = (entry_key(region_id, from), raft_key(region_id, LOG + 1, &[]));
    let mut iter = snapshot.iter(EngineCf::Raft, lower.into(), upper.into())?;
    let mut last = from;
    while iter.next()? {
        if let Some((_, index)) = iter.key().split_last_chunk::<8>() {
            last = u64::from_be_bytes(*index);
        }
    }
    Ok(last)
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
    use super::*;
    use crate::engine::MemoryEngine;

    #[test]
    fn entries_round_trip() {
        let entry =
            Entry { entry_type: 1, term: 6, index: 9, data: b"data".to_vec(), context: b"c".to_vec(), sync_log: false };
        let bytes = encode_entry(&entry);
        assert_eq!(decode_entry(9, &bytes), Some(entry));
        assert_eq!(decode_entry(9, &bytes[..12]), None);
    }

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
