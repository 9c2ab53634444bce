//! The entries of a raft log as they are stored and carried, and where a log begins and ends.

use bytes::Bytes;
use logtide_model::RegionId;
use prost::Message;
use raft::eraftpb::Entry;

use super::{LOG, TRUNCATED_STATE, bytes_of, malformed, numbers, raft_key};
use crate::engine::{EngineCf, EngineError, EngineSnapshot, KvEngine, WriteBatch};

/// Index and term that every raft log begins behind (TiKV's `RAFT_INIT_LOG_INDEX`).
pub(super) const INIT_INDEX: u64 = 5;
/// See [`INIT_INDEX`].
pub(super) const INIT_TERM: u64 = 5;

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

/// Cuts a log off behind `to`; its first entry is that of `first`.
pub(crate) fn put_truncated(batch: &mut WriteBatch, region_id: RegionId, first: u64, to: EntryId) {
    batch.delete_range(EngineCf::Raft, entry_key(region_id, first), entry_key(region_id, to.index + 1));
    batch.put(EngineCf::Raft, raft_key(region_id, TRUNCATED_STATE, &[]), bytes_of(&[to.index, to.term]));
}

/// Empties a log, to go on behind `to`.
pub(crate) fn reset_log(batch: &mut WriteBatch, region_id: RegionId, to: EntryId) {
    batch.delete_range(EngineCf::Raft, raft_key(region_id, LOG, &[]), raft_key(region_id, LOG + 1, &[]));
    batch.put(EngineCf::Raft, raft_key(region_id, TRUNCATED_STATE, &[]), bytes_of(&[to.index, to.term]));
}

/// Where the log of a region begins.
pub(crate) fn read_truncated(snapshot: &dyn EngineSnapshot, region_id: RegionId) -> Result<EntryId, EngineError> {
    let Some(bytes) = snapshot.get(EngineCf::Raft, &raft_key(region_id, TRUNCATED_STATE, &[]))? else {
        return Ok(EntryId::INIT);
    };
    let [index, term] = numbers(&bytes).ok_or_else(|| malformed(region_id, "truncated state"))?;
    Ok(EntryId { index, term })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip() {
        let entry =
            Entry { entry_type: 1, term: 6, index: 9, data: b"data".to_vec(), context: b"c".to_vec(), sync_log: false };
        let bytes = encode_entry(&entry);
        assert_eq!(decode_entry(9, &bytes), Some(entry));
        assert_eq!(decode_entry(9, &bytes[..12]), None);
    }
}
