//! What a raft entry carries.

use bytes::Bytes;
use logtide_model::{Cf, Op, Region, RegionEpoch, RegionId, Ts};
use prost::Message;
use raft::eraftpb::{ConfChange, ConfChangeType};

use super::records::{CarriedEntry, EntryId, PeerMeta, RegionMeta};

/// The data of a raft entry.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Command {
    /// The region that it was proposed to.
    #[prost(uint64, tag = "1")]
    pub(crate) region_id: u64,
    /// Version of the region's epoch that it was computed for: refused at apply if it is another by then.
    #[prost(uint64, tag = "2")]
    pub(crate) version: u64,
    /// Changes of data.
    #[prost(message, repeated, tag = "3")]
    ops: Vec<OpRecord>,
    /// New regions, in the order of their keys; the region keeps what is left of the first.
    #[prost(message, repeated, tag = "4")]
    pub(crate) split: Vec<SplitChild>,
    /// The log up to this entry is not needed any more; 0: it is.
    #[prost(uint64, tag = "5")]
    pub(crate) truncate_index: u64,
    /// The term of that entry.
    #[prost(uint64, tag = "6")]
    pub(crate) truncate_term: u64,
    /// The other part of the epoch, for what is bound to the members of the region; 0: whoever they are.
    #[prost(uint64, tag = "20")]
    conf_ver: u64,
    /// A change of the region's members.
    #[prost(message, optional, tag = "21")]
    pub(crate) change: Option<PeerChange>,
    /// Gets the region ready to be taken over by another one.
    #[prost(message, optional, tag = "22")]
    pub(crate) prepare_merge: Option<PrepareMerge>,
    /// Takes another region over.
    #[prost(message, optional, tag = "23")]
    pub(crate) commit_merge: Option<CommitMerge>,
    /// Takes back what the entry of this index prepared.
    #[prost(uint64, tag = "24")]
    pub(crate) rollback_merge: u64,
    /// The timestamp of the range delete among the changes; 0: there is none.
    #[prost(uint64, tag = "25")]
    range_deleted: u64,
}

/// One member comes or goes.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct PeerChange {
    /// Who.
    #[prost(message, required, tag = "1")]
    pub(crate) peer: PeerMeta,
    /// True if it goes.
    #[prost(bool, tag = "2")]
    pub(crate) remove: bool,
}

impl PeerChange {
    /// As raft has it.
    pub(crate) fn for_raft(&self) -> ConfChange {
        let kind = if self.remove { ConfChangeType::RemoveNode } else { ConfChangeType::AddNode };
        ConfChange { change_type: kind as i32, node_id: self.peer.id, ..ConfChange::default() }
    }

    /// The region when it is done; `None` if there is nothing to do.
    pub(crate) fn apply(&self, meta: &RegionMeta) -> Option<RegionMeta> {
        let mut meta = meta.clone();
        let before = meta.peers.len();
        if self.remove {
            meta.peers.retain(|peer| *peer != self.peer);
        } else if meta.peer_on(self.peer.store_id).is_none() {
            meta.peers.push(self.peer);
        }
        meta.region.epoch.conf_ver += 1;
        (meta.peers.len() != before).then_some(meta)
    }
}

/// Nothing is written to the region any more, until it is taken over, or this is taken back.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PrepareMerge {
    /// The region that is to take it over.
    #[prost(uint64, tag = "1")]
    pub(crate) target_id: u64,
    /// Its epoch.
    #[prost(uint64, tag = "2")]
    pub(crate) target_conf_ver: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) target_version: u64,
    /// The entries right before this one that some peer may not have.
    #[prost(message, repeated, tag = "4")]
    pub(crate) entries: Vec<CarriedEntry>,
}

/// The second half of a merge.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommitMerge {
    /// The region that is taken over.
    #[prost(uint64, tag = "1")]
    pub(crate) source_id: u64,
    /// The last entry of its log: the one with [`PrepareMerge`].
    #[prost(message, required, tag = "2")]
    pub(crate) prepare: CarriedEntry,
}

/// The context of entries that are applied in a run of their own: those that ingest files, and the second halves of
/// merges.
pub(crate) const APART: &[u8] = b"apart";

#[derive(Clone, PartialEq, Message)]
struct OpRecord {
    /// [`Cf`] as 0 default, 1 lock, 2 write.
    #[prost(uint32, tag = "1")]
    cf: u32,
    /// 0 put, 1 delete, 2 delete range, 3 ingest.
    #[prost(uint32, tag = "2")]
    kind: u32,
    /// The key, the start of the range, or the name of the file.
    #[prost(bytes = "bytes", tag = "3")]
    key: Bytes,
    /// The value, or the end of the range.
    #[prost(bytes = "bytes", tag = "4")]
    value: Bytes,
}

/// A region that a split makes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SplitChild {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub(crate) region_id: RegionId,
    /// Its first encoded key.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) start: Bytes,
    /// Ids of its peers, on the stores of the parent's peers, in their order.
    #[prost(uint64, repeated, tag = "3")]
    pub(crate) peer_ids: Vec<u64>,
}

const PUT: u32 = 0;
const DELETE: u32 = 1;
const DELETE_RANGE: u32 = 2;
const INGEST: u32 = 3;

fn cf_number(cf: Cf) -> u32 {
    match cf {
        Cf::Default => 0,
        Cf::Lock => 1,
        Cf::Write => 2,
    }
}

impl OpRecord {
    fn of(op: Op) -> Option<OpRecord> {
        let (cf, kind, key, value) = match op {
            Op::Put { cf, key, value } => (cf, PUT, key, value),
            Op::Delete { cf, key } => (cf, DELETE, key, Bytes::new()),
            Op::DeleteRange { cf, start, end } => (cf, DELETE_RANGE, start, end),
            Op::IngestSst { cf, path, min_ts } => (cf, INGEST, path.into(), min_ts.get().to_be_bytes().to_vec().into()),
            Op::Admin => return None,
        };
        Some(OpRecord { cf: cf_number(cf), kind, key, value })
    }

    fn into_op(self) -> Option<Op> {
        let cf = [Cf::Default, Cf::Lock, Cf::Write].get(self.cf as usize).copied()?;
        Some(match self.kind {
            PUT => Op::Put { cf, key: self.key, value: self.value },
            DELETE => Op::Delete { cf, key: self.key },
            DELETE_RANGE => Op::DeleteRange { cf, start: self.key, end: self.value },
            INGEST => {
                let path = String::from_utf8(self.key.to_vec()).ok()?;
                Op::IngestSst { cf, path, min_ts: Ts::new(u64::from_be_bytes(self.value[..].try_into().ok()?)) }
            }
            _ => return None,
        })
    }
}

impl Command {
    /// A command that changes data; `None` if an op cannot be proposed.
    pub(crate) fn write(region: &Region, ops: Vec<Op>, range_deleted: Option<Ts>) -> Option<Command> {
        let ops = ops.into_iter().map(OpRecord::of).collect::<Option<Vec<_>>>()?;
        // Files are on the stores of the region's members: others have none.
        let conf_ver = if ops.iter().any(|op| op.kind == INGEST) { region.epoch.conf_ver } else { 0 };
        let range_deleted = range_deleted.map_or(0, Ts::get);
        Some(Command { ops, conf_ver, range_deleted, ..Command::about(region) })
    }

    /// The timestamp of its range delete.
    pub(crate) fn range_deleted(&self) -> Option<Ts> {
        (self.range_deleted != 0).then_some(Ts::new(self.range_deleted))
    }

    /// A command that does nothing.
    fn about(region: &Region) -> Command {
        Command { region_id: region.id, version: region.epoch.version, ..Command::default() }
    }

    /// A command that splits a region.
    pub(crate) fn split(region: &Region, children: Vec<SplitChild>) -> Command {
        Command { split: children, ..Command::bound(region) }
    }

    /// A command that changes the members of a region.
    pub(crate) fn change(region: &Region, change: PeerChange) -> Command {
        Command { change: Some(change), ..Command::bound(region) }
    }

    /// As [`Command::about`], for nobody but the members that the region has.
    fn bound(region: &Region) -> Command {
        Command { conf_ver: region.epoch.conf_ver, ..Command::about(region) }
    }

    /// A command that gets a region ready to be taken over.
    pub(crate) fn prepare_merge(source: &Region, prepare: PrepareMerge) -> Command {
        Command { prepare_merge: Some(prepare), ..Command::bound(source) }
    }

    /// A command that takes a region over that `prepare` got ready.
    pub(crate) fn commit_merge(target: &Region, source_id: RegionId, prepare: CarriedEntry) -> Command {
        Command { commit_merge: Some(CommitMerge { source_id, prepare }), ..Command::bound(target) }
    }

    /// A command that takes a merge back.
    pub(crate) fn rollback_merge(source: &Region, prepared_at: u64) -> Command {
        Command { rollback_merge: prepared_at, ..Command::about(source) }
    }

    /// True if it is a step of a merge.
    pub(crate) fn is_merge(&self) -> bool {
        self.prepare_merge.is_some() || self.commit_merge.is_some() || self.rollback_merge > 0
    }

    /// The context of its entry.
    pub(crate) fn context(&self) -> Vec<u8> {
        let apart = self.commit_merge.is_some() || self.ops.iter().any(|op| op.kind == INGEST);
        if apart { APART.to_vec() } else { Vec::new() }
    }

    /// A command that truncates the log.
    pub(crate) fn truncate(region: &Region, to: EntryId) -> Command {
        Command { truncate_index: to.index, truncate_term: to.term, ..Command::about(region) }
    }

    /// Where it truncates the log.
    pub(crate) fn truncates(&self) -> Option<EntryId> {
        let to = EntryId { index: self.truncate_index, term: self.truncate_term };
        (to.index > 0).then_some(to)
    }

    /// Parses the data of an entry without copying keys and values.
    pub(crate) fn parse(data: Vec<u8>) -> Result<Command, prost::DecodeError> {
        Command::decode(Bytes::from(data))
    }

    /// True if it was computed for a region of this epoch.
    pub(crate) fn fits(&self, epoch: RegionEpoch) -> bool {
        self.version == epoch.version && (self.conf_ver == 0 || self.conf_ver == epoch.conf_ver)
    }

    /// The files that it ingests.
    pub(crate) fn files(&self) -> Vec<String> {
        let files = self.ops.iter().filter(|op| op.kind == INGEST);
        files.filter_map(|op| String::from_utf8(op.key.to_vec()).ok()).collect()
    }

    /// Its changes of data. Records of unknown kinds are left out: nobody proposes them.
    pub(crate) fn into_ops(self) -> impl Iterator<Item = Op> {
        self.ops.into_iter().filter_map(OpRecord::into_op)
    }
}

#[cfg(test)]
mod tests {
    use logtide_model::KeyRange;

    use super::*;

    #[test]
    fn round_trips() {
        let region = Region { id: 7, epoch: RegionEpoch { conf_ver: 1, version: 3 }, range: KeyRange::ALL };
        let key = Bytes::from_static(b"k");
        let ops = vec![
            Op::Put { cf: Cf::Write, key: key.clone(), value: Bytes::from_static(b"v") },
            Op::Delete { cf: Cf::Lock, key: key.clone() },
            Op::DeleteRange { cf: Cf::Default, start: key.clone(), end: Bytes::from_static(b"l") },
            Op::IngestSst { cf: Cf::Write, path: "file".to_owned(), min_ts: Ts::new(7) },
        ];
        let command = Command::write(&region, ops.clone(), Some(Ts::new(9))).unwrap();
        let parsed = Command::parse(command.encode_to_vec()).unwrap();
        assert_eq!((parsed.region_id, parsed.version, parsed.files()), (7, 3, vec!["file".to_owned()]));
        assert!(parsed.fits(region.epoch) && !parsed.fits(RegionEpoch { conf_ver: 2, version: 3 }));
        assert_eq!(parsed.into_ops().collect::<Vec<_>>(), ops);
        assert!(Command::write(&region, vec![Op::Admin], None).is_none());
        assert!(Command::parse(vec![0xff; 3]).is_err());
    }
}
