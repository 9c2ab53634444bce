//! Snapshots of regions: what a follower gets that needs entries which are truncated, and what it makes of them.
//!
//! The data of a raft snapshot is a region with its peers, and the pairs of its column families. Taken from one
//! snapshot of the engine, it is the region as applied at one index, which the metadata names.

use bytes::Bytes;
use logtide_model::{KeyRange, RegionId};
use prost::Message;
use raft::eraftpb::{ConfState, Snapshot, SnapshotMetadata};

use super::records::{
    EntryId, RegionMeta, RegionRecord, malformed, put_apply_state, put_region, read_region, reset_log,
};
use crate::engine::{EngineCf, EngineError, EngineSnapshot, WriteBatch, data_end_key, data_key};

/// The column families that a snapshot carries.
const DATA: [EngineCf; 3] = [EngineCf::Default, EngineCf::Lock, EngineCf::Write];

#[derive(Clone, PartialEq, Message)]
struct Contents {
    #[prost(message, optional, tag = "1")]
    region: Option<RegionRecord>,
    /// By number of the column family in [`DATA`].
    #[prost(message, repeated, tag = "2")]
    families: Vec<Family>,
}

/// [`Contents`] but for the data, which is skipped when it is parsed.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(message, optional, tag = "1")]
    region: Option<RegionRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(message, repeated, tag = "1")]
    pairs: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    /// With the prefix of data.
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// The snapshot of a region as it is applied now.
pub(crate) fn take(snapshot: &dyn EngineSnapshot, region_id: RegionId) -> Result<Snapshot, EngineError> {
    let Some((meta, applied)) = read_region(snapshot, region_id)? else {
        return Err(malformed(region_id, "region state"));
    };
    let mut contents = Contents { region: Some(meta.record()), families: Vec::new() };
    let (lower, upper) = (data_key(&meta.region.range.start), data_end_key(&meta.region.range.end));
    for cf in DATA {
        let mut family = Family::default();
        let mut iter = snapshot.iter(cf, lower.clone(), upper.clone())?;
        while iter.next()? {
            let (key, value) = (Bytes::copy_from_slice(iter.key()), Bytes::copy_from_slice(iter.value()));
            family.pairs.push(Pair { key, value });
        }
        contents.families.push(family);
    }
    let conf_state = ConfState { voters: meta.voters(), ..ConfState::default() };
    let metadata = SnapshotMetadata { conf_state: Some(conf_state), index: applied.index, term: applied.term };
    Ok(Snapshot { data: contents.encode_to_vec(), metadata: Some(metadata) })
}

/// The region that a snapshot is of.
pub(crate) fn region_of(snapshot: &Snapshot) -> Option<RegionMeta> {
    RegionMeta::of(Head::decode(&snapshot.data[..]).ok()?.region?)
}

/// Puts a region as a snapshot has it into a batch, instead of the range `old` and of the log of its peer here.
pub(crate) fn put(snapshot: &Snapshot, old: &KeyRange, batch: &mut WriteBatch) -> Result<RegionMeta, EngineError> {
    let failed = || malformed(0, "a snapshot");
    let contents = Contents::decode(Bytes::copy_from_slice(&snapshot.data)).map_err(|_| failed())?;
    let meta = contents.region.and_then(RegionMeta::of).ok_or_else(failed)?;
    delete_data(batch, old);
    delete_data(batch, &meta.region.range);
    for (cf, family) in DATA.into_iter().zip(contents.families) {
        family.pairs.into_iter().for_each(|pair| batch.put(cf, pair.key, pair.value));
    }
    let SnapshotMetadata { index, term, .. } = snapshot.metadata.clone().ok_or_else(failed)?;
    put_region(batch, &meta);
    put_apply_state(batch, meta.region.id, index, term);
    reset_log(batch, meta.region.id, EntryId { index, term });
    Ok(meta)
}

/// Removes all data of a range.
pub(crate) fn delete_data(batch: &mut WriteBatch, range: &KeyRange) {
    if !range.is_empty() {
        DATA.into_iter().for_each(|cf| batch.delete_range(cf, data_key(&range.start), data_end_key(&range.end)));
    }
}

#[cfg(test)]
mod tests {
    use logtide_model::{Region, RegionEpoch};

    use super::*;
    use crate::engine::{KvEngine, MemoryEngine};
    use crate::raftstore::records::{PeerMeta, bootstrap_region, entry_key, read_truncated};

    fn region(version: u64, start: &'static str, end: &'static str) -> RegionMeta {
        let epoch = RegionEpoch { conf_ver: 1, version };
        let region = Region { id: 7, epoch, range: KeyRange::new(start, end) };
        let peers = vec![PeerMeta { id: 8, store_id: 1 }, PeerMeta { id: 9, store_id: 2 }];
        RegionMeta { region, peers, range_deleted: Some(logtide_model::Ts::new(5)) }
    }

    fn engine(meta: &RegionMeta, keys: &[&'static str]) -> MemoryEngine {
        let engine = MemoryEngine::new();
        let mut batch = WriteBatch::default();
        bootstrap_region(&mut batch, meta);
        put_apply_state(&mut batch, 7, 20, 6);
        for cf in DATA {
            keys.iter().for_each(|key| batch.put(cf, *key, format!("{cf:?} {key}")));
        }
        batch.put(EngineCf::Raft, entry_key(7, 6), "entry");
        engine.write(&batch, false).unwrap();
        engine
    }

    fn keys(engine: &MemoryEngine, cf: EngineCf) -> Vec<String> {
        let snapshot = engine.snapshot();
        let mut iter = snapshot.iter(cf, Bytes::new(), Bytes::from_static(b"~")).unwrap();
        let mut keys = Vec::new();
        while iter.next().unwrap() {
            keys.push(String::from_utf8(iter.key().to_vec()).unwrap());
        }
        keys
    }

    /// The receiver missed a split: what it had of the other half goes too.
    #[test]
    fn a_snapshot_replaces_the_region_and_nothing_else() {
        let sender = engine(&region(2, "c", "m"), &["zb", "zc", "zd", "zm"]);
        let receiver = engine(&region(1, "c", "t"), &["zb", "zc1", "zd", "zs", "zt"]);
        let snapshot = take(&*sender.snapshot(), 7).unwrap();
        assert_eq!(region_of(&snapshot), Some(region(2, "c", "m")));
        let mut batch = WriteBatch::default();
        let meta = put(&snapshot, &KeyRange::new("c", "t"), &mut batch).unwrap();
        assert_eq!(meta, region(2, "c", "m"));
        receiver.write(&batch, false).unwrap();
        for cf in DATA {
            assert_eq!(keys(&receiver, cf), ["zb", "zc", "zd", "zt"]);
            assert_eq!(receiver.get(cf, b"zd").unwrap(), sender.get(cf, b"zd").unwrap());
        }
        let view = receiver.snapshot();
        let (stored, applied) = read_region(&*view, 7).unwrap().unwrap();
        assert_eq!((stored, applied), (meta, EntryId { index: 20, term: 6 }));
        assert_eq!(read_truncated(&*view, 7).unwrap(), applied);
        assert!(receiver.get(EngineCf::Raft, &entry_key(7, 6)).unwrap().is_none());
    }
}
