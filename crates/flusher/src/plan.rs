//! Which objects a generation becomes: pure, and the same whenever it is asked (I5).

use bytes::Bytes;
use logtide_format::{
    LogicalFile, MetaLink, MetaName, ObjectTag, Previous, content_crc, data_file_info, data_path, encode_marks,
    encode_metadata, group, marks_path, metadata, proto,
};
use logtide_model::Ts;
use logtide_temp_file::{SealedFile, SealedSpool};

use crate::SealedGeneration;

/// The objects of a generation.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Data objects, then schema objects.
    pub(crate) data: Vec<ObjectPlan>,
    /// The object of marks; none if there are none.
    pub(crate) marks: Option<ObjectPlan>,
    /// The metadata object; none if there is no data.
    pub(crate) metadata: Option<ObjectPlan>,
}

/// An object: the concatenation of pieces.
#[derive(Debug)]
pub(crate) struct ObjectPlan {
    /// Its name.
    pub(crate) path: String,
    /// What it consists of, in order.
    pub(crate) pieces: Vec<Piece>,
    /// Its length.
    pub(crate) bytes: u64,
}

/// A piece of an object. Cloning it copies no data.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// A block of the spool.
    Block(BlockId),
    /// Bytes in memory.
    Memory(Bytes),
}

/// A block of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockId {
    pub(crate) spool: usize,
    pub(crate) file: usize,
    pub(crate) bytes: u64,
    /// True if reading it takes memory.
    pub(crate) on_disk: bool,
}

impl Piece {
    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Piece::Block(block) => block.bytes,
            Piece::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// How much memory it takes to read it: none if it is in memory already.
    pub(crate) fn cost(&self) -> u64 {
        match self {
            Piece::Block(block) if block.on_disk => block.bytes,
            _ => 0,
        }
    }
}

impl Plan {
    /// Plans the objects of a generation; `previous` is the one before that has a metadata object. A data object is
    /// closed once it has `limit` bytes.
    pub(crate) fn new(generation: &SealedGeneration, previous: Option<Previous>, limit: u64) -> Plan {
        let tag = ObjectTag { boot: generation.boot, generation: generation.generation };
        let mut data = Vec::new();
        let mut groups = Vec::new();
        for (index, blocks) in grouped(&ordered(&generation.spools), &generation.spools, limit).into_iter().enumerate()
        {
            let (object, group) = data_object(generation, tag, index, &blocks);
            data.push(object);
            groups.push(group);
        }
        let metadata = (!groups.is_empty()).then(|| metadata_object(generation, tag, previous, groups));
        let marks = (!generation.marks.is_empty()).then(|| {
            let bytes = encode_marks(generation.store_id, &generation.marks);
            in_memory(marks_path(generation.store_id, tag), bytes)
        });
        Plan { data, marks, metadata }
    }

    /// Bytes of the data objects.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.data.iter().map(|object| object.bytes).sum()
    }

    /// What commits it, in this order: the marks, then the metadata object.
    pub(crate) fn commits(&self) -> impl Iterator<Item = &ObjectPlan> {
        self.marks.iter().chain(&self.metadata)
    }

    /// Bytes of the objects that commit it.
    pub(crate) fn commit_bytes(&self) -> u64 {
        self.commits().map(|object| object.bytes).sum()
    }
}

/// All blocks, so that those of a table, then of a region, lie together; blocks of one file stay in their order.
fn ordered(spools: &[SealedSpool]) -> Vec<BlockId> {
    let blocks = spools.iter().enumerate().flat_map(|(spool, sealed)| {
        let files = sealed.files.iter().enumerate();
        let id = move |(file, block): (usize, &SealedFile)| BlockId {
            spool,
            file,
            bytes: block.stored_length(),
            on_disk: block.is_on_disk(),
        };
        files.map(id)
    });
    let mut blocks: Vec<BlockId> = blocks.collect();
    blocks.sort_by_key(|id| {
        let key = &file_of(spools, id).key;
        (key.is_meta, key.table_id, key.region_id, key.cf, key.kind)
    });
    blocks
}

/// Cuts blocks into objects: one is closed once it has `limit` bytes, and where schema begins.
fn grouped(blocks: &[BlockId], spools: &[SealedSpool], limit: u64) -> Vec<Vec<BlockId>> {
    let mut groups: Vec<Vec<BlockId>> = Vec::new();
    let mut bytes = 0;
    let mut schema = false;
    for block in blocks {
        let is_schema = file_of(spools, block).key.is_meta;
        match groups.last_mut() {
            Some(group) if bytes < limit && is_schema == schema => group.push(*block),
            _ => {
                groups.push(vec![*block]);
                bytes = 0;
            }
        }
        schema = is_schema;
        bytes += block.bytes;
    }
    groups
}

fn data_object(
    generation: &SealedGeneration,
    tag: ObjectTag,
    index: usize,
    blocks: &[BlockId],
) -> (ObjectPlan, proto::DataFileGroup) {
    let mut offset = 0;
    let mut files = Vec::with_capacity(blocks.len());
    for block in blocks {
        let file = logical_file(generation, file_of(&generation.spools, block), block.bytes);
        files.push(data_file_info(&file, offset));
        offset += block.bytes;
    }
    let schema = files.first().is_some_and(|f| f.is_meta);
    let mut group = group(String::new(), files);
    let (min_ts, max_ts) = (Ts::new(group.min_ts), Ts::new(group.max_ts));
    // More objects than a u32 counts do not fit into any spool.
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    group.path = data_path(generation.store_id, min_ts, max_ts, schema, tag, index);
    let pieces = blocks.iter().map(|block| Piece::Block(*block)).collect();
    (ObjectPlan { path: group.path.clone(), pieces, bytes: offset }, group)
}

fn logical_file(generation: &SealedGeneration, block: &SealedFile, stored_length: u64) -> LogicalFile {
    let region = generation.regions.get(&block.key.region_id);
    LogicalFile {
        key: block.key,
        summary: block.summary.clone(),
        resolved_ts: region.map_or(Ts::ZERO, |(_, resolved)| *resolved),
        stored_length,
        compression: block.compression,
        encryption: block.encryption.clone(),
        region: region.map(|(note, _)| note.clone()),
    }
}

fn metadata_object(
    generation: &SealedGeneration,
    tag: ObjectTag,
    previous: Option<Previous>,
    groups: Vec<proto::DataFileGroup>,
) -> ObjectPlan {
    let message = metadata(generation.store_id, groups, generation.resolved_ts);
    let bytes = encode_metadata(&message);
    let link = MetaLink { crc: content_crc(&bytes), previous, merged: 0 };
    let path = MetaName::of(&message, generation.flush_ts, Some(tag)).linked_path(&link);
    in_memory(path, bytes)
}

pub(crate) fn in_memory(path: String, bytes: Vec<u8>) -> ObjectPlan {
    let bytes = Bytes::from(bytes);
    ObjectPlan { path, bytes: bytes.len() as u64, pieces: vec![Piece::Memory(bytes)] }
}

/// How the next generation names this one; `None` if it has no data, and so no metadata object.
pub(crate) fn as_previous(generation: &SealedGeneration) -> Option<Previous> {
    let files = || generation.spools.iter().flat_map(|spool| &spool.files).map(|file| &file.summary);
    let (min_ts, max_ts) = (files().map(|f| f.min_ts).min()?, files().map(|f| f.max_ts).max()?);
    Some(Previous { generation: generation.generation, min_ts, max_ts })
}

fn file_of<'a>(spools: &'a [SealedSpool], block: &BlockId) -> &'a SealedFile {
    &spools[block.spool].files[block.file]
}
