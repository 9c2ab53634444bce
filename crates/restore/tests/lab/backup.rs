//! Stores that write what they observed as a backup.

use std::collections::BTreeMap;
use std::sync::Arc;

use logtide_format::{
    Compressor, EntryKind, FileKey, LogicalFile, MetaLink, MetaName, ObjectTag, Previous, RegionNote, checkpoint_path,
    content_crc, data_file_info, data_path, encode_checkpoint, encode_head, encode_metadata, encode_record, group,
    head_path, metadata, summarize,
};
use logtide_model::{Cf, Compression, Incarnation, KeyRange, RegionEpoch, TaskName, Ts};
use logtide_storage::{Identity, Storage, claim};
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, path::Path};

use super::{Random, block_on};

/// A record on its way into a backup.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) region: u64,
    pub(crate) version: u64,
    pub(crate) cf: Cf,
    pub(crate) kind: EntryKind,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

pub(crate) fn memory_storage() -> Storage {
    Storage { store: Arc::new(InMemory::new()), url: "memory:///test".into() }
}

pub(crate) fn put(storage: &Storage, path: &str, bytes: Vec<u8>) {
    block_on(storage.store.put(&Path::from(path), bytes.into())).unwrap();
}

pub(crate) fn get(storage: &Storage, path: &str) -> Vec<u8> {
    block_on(async { storage.store.get(&Path::from(path)).await.unwrap().bytes().await.unwrap().to_vec() })
}

pub(crate) fn paths(storage: &Storage, suffix: &str) -> Vec<String> {
    use futures::TryStreamExt;
    let all = storage.store.list(Some(&Path::from("v1"))).map_ok(|m| m.location.as_ref().to_owned());
    let mut all: Vec<String> = block_on(all.try_collect()).unwrap();
    all.retain(|path| path.ends_with(suffix));
    all.sort();
    all
}

/// A full copy that can be damaged.
pub(crate) fn copy(storage: &Storage) -> Storage {
    let copy = memory_storage();
    for path in paths(storage, "") {
        put(&copy, &path, get(storage, &path));
    }
    copy
}

pub(crate) fn begin(storage: &Storage, start_ts: u64) {
    let identity = Identity::new(7, TaskName::new("t").unwrap(), Incarnation(1), Ts::new(start_ts));
    block_on(claim(storage, &identity)).unwrap();
}

pub(crate) fn checkpoint(storage: &Storage, store: u64, ts: u64) {
    put(storage, &checkpoint_path(store), encode_checkpoint(Ts::new(ts)).to_vec());
}

/// How a store writes.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    pub(crate) compression: Compression,
    /// Records of a block: at most so many.
    pub(crate) block: u64,
    /// Logical files of a data object: at most so many.
    pub(crate) object: usize,
    /// False for a store that writes no tags, like TiKV.
    pub(crate) tags: bool,
    /// True for a store that says which metadata object comes before another.
    pub(crate) links: bool,
}

/// Writes one generation: returns the paths of data objects and of the metadata object.
pub(crate) fn flush(
    storage: &Storage,
    random: &mut Random,
    style: Style,
    store: u64,
    flush_ts: u64,
    tag: ObjectTag,
    entries: &[Entry],
) -> Vec<String> {
    let mut by_key: BTreeMap<(bool, i64, u64, Cf, EntryKind), Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        let key = FileKey::of(entry.region, entry.cf, entry.kind, &entry.key);
        by_key.entry((key.is_meta, key.table_id, key.region_id, key.cf, key.kind)).or_default().push(entry);
    }
    let mut blocks: BTreeMap<bool, Vec<(LogicalFile, Vec<u8>)>> = BTreeMap::new();
    for ((is_meta, ..), entries) in by_key {
        let mut rest = &entries[..];
        while !rest.is_empty() {
            let n = 1 + random.below(style.block.min(rest.len() as u64)) as usize;
            blocks.entry(is_meta).or_default().push(block(&rest[..n], style.compression));
            rest = &rest[n..];
        }
    }
    let (mut groups, mut written) = (Vec::new(), Vec::new());
    for (schema, blocks) in &blocks {
        for chunk in blocks.chunks(style.object) {
            let path = data_path(store, min_ts(chunk), max_ts(chunk), *schema, tag, groups.len() as u32);
            let (mut bytes, mut infos) = (Vec::new(), Vec::new());
            for (file, stored) in chunk {
                infos.push(data_file_info(file, bytes.len() as u64));
                bytes.extend_from_slice(stored);
            }
            put(storage, &path, bytes);
            written.push(path.clone());
            groups.push(group(path, infos));
        }
    }
    let meta = metadata(store, groups, Ts::new(flush_ts));
    let bytes = encode_metadata(&meta);
    let name = MetaName::of(&meta, Ts::new(flush_ts), style.tags.then_some(tag));
    let path = if style.links {
        let previous = previous(storage, store, tag);
        name.linked_path(&MetaLink { crc: content_crc(&bytes), previous, merged: 0 })
    } else {
        name.path()
    };
    put(storage, &path, bytes);
    if style.links {
        put(storage, &head_path(store, tag.boot), encode_head(&path));
    }
    written.push(path);
    written
}

/// The last metadata object of the boot.
fn previous(storage: &Storage, store: u64, tag: ObjectTag) -> Option<Previous> {
    let names = paths(storage, ".meta").into_iter().filter_map(|path| MetaName::parse(&path).ok());
    let of_boot =
        names.filter_map(|name| name.tag.filter(|of| name.store_id == store && of.boot == tag.boot).zip(Some(name)));
    let before = of_boot.filter(|(of, _)| of.generation < tag.generation).max_by_key(|(of, _)| of.generation);
    before.map(|(of, name)| Previous { generation: of.generation, min_ts: name.min_ts, max_ts: name.max_ts })
}

fn min_ts(files: &[(LogicalFile, Vec<u8>)]) -> Ts {
    files.iter().map(|(f, _)| f.summary.min_ts).min().unwrap()
}

fn max_ts(files: &[(LogicalFile, Vec<u8>)]) -> Ts {
    files.iter().map(|(f, _)| f.summary.max_ts).max().unwrap()
}

fn block(entries: &[&Entry], compression: Compression) -> (LogicalFile, Vec<u8>) {
    let first = entries[0];
    let key = FileKey::of(first.region, first.cf, first.kind, &first.key);
    let mut plain = Vec::new();
    entries.iter().for_each(|e| encode_record(&e.key, &e.value, &mut plain));
    let summary = summarize(&key, &plain).unwrap();
    let mut stored = Vec::new();
    Compressor::new(compression).unwrap().compress(&plain, &mut stored).unwrap();
    let version = entries.iter().map(|e| e.version).max().unwrap();
    let epochs = vec![RegionEpoch { conf_ver: 1, version }];
    let file = LogicalFile {
        key,
        summary,
        resolved_ts: Ts::new(1),
        stored_length: stored.len() as u64,
        compression,
        encryption: None,
        region: Some(RegionNote { range: KeyRange::ALL, epochs }),
    };
    (file, stored)
}
