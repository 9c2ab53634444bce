//! The golden backup: two flushes with the same records, zstd and plain, and an empty one.

use std::collections::BTreeMap;

use logtide_format::{
    Compressor, EntryKind, FileKey, LogicalFile, MetaName, ObjectTag, RegionNote, checkpoint_path, data_file_info,
    data_path, encode_checkpoint, encode_metadata, encode_record, group, metadata, proto, summarize,
};
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{Cf, Compression, KeyRange, RegionEpoch, Ts, append_ts, encode_raw_key};

pub(crate) const STORE: u64 = 7;
pub(crate) const TAG: ObjectTag = ObjectTag { boot: 3, generation: 9 };
pub(crate) const CHECKPOINT: u64 = 0x0667_20C7_C080_0000;
/// 2026-01-31T23:59:59.990Z.
const START_MS: u64 = 1_769_903_999_990;
const REGION: u64 = 100;

pub(crate) type Object = (String, Vec<u8>);

/// A record and the logical file that it belongs to.
pub(crate) type Sample = (FileKey, Vec<u8>, Vec<u8>);

fn sample(cf: Cf, kind: EntryKind, raw: &[u8], ts: Ts, value: &[u8]) -> Sample {
    let mut key = encode_raw_key(raw);
    append_ts(&mut key, ts);
    (FileKey::of(REGION, cf, kind, &key), key, value.to_vec())
}

/// Raw key of a row.
fn row(table: i64, handle: i64) -> Vec<u8> {
    let ordered = |n: i64| ((n as u64) ^ (1 << 63)).to_be_bytes();
    [b"t", &ordered(table)[..], b"_r", &ordered(handle)].concat()
}

/// One of each: short and long values, a deletion mark, a rollback, physical deletes, schema metadata.
pub(crate) fn records() -> Vec<Sample> {
    use EntryKind::{Delete, Put};
    let ts = |n: u64| Ts::compose(START_MS + n, n);
    let long: Vec<u8> = (0..700u32).map(|i| (i * i % 13) as u8).collect();
    let write = |kind, start, short: Option<&[u8]>| Write::new(kind, start, short).to_bytes();
    vec![
        sample(Cf::Write, Put, &row(5, 1), ts(2), &write(WriteKind::Put, ts(1), Some(b"short"))),
        sample(Cf::Default, Put, &row(5, 2), ts(3), &long),
        sample(Cf::Write, Put, &row(5, 2), ts(4), &write(WriteKind::Put, ts(3), None)),
        sample(Cf::Write, Put, &row(5, 1), ts(6), &write(WriteKind::Delete, ts(5), None)),
        sample(Cf::Write, Put, &row(5, 3), ts(7), &Write::rollback(ts(7), true).to_bytes()),
        sample(Cf::Default, Delete, &row(5, 9), ts(1), b""),
        sample(Cf::Write, Delete, &row(5, 9), ts(2), b""),
        sample(Cf::Write, Put, b"plain-key", ts(9), &write(WriteKind::Put, ts(8), Some(b"no table"))),
        sample(Cf::Default, Put, b"mDB:5", ts(10), b"schema"),
        sample(Cf::Write, Put, b"mDB:5", ts(11), &write(WriteKind::Put, ts(10), None)),
    ]
}

/// A data object with those of the records that are (no) schema metadata.
pub(crate) fn data_object(schema: bool, compression: Compression, index: u32) -> (proto::DataFileGroup, Vec<u8>) {
    let mut plain: BTreeMap<FileKey, Vec<u8>> = BTreeMap::new();
    for (file, key, value) in records().into_iter().filter(|(file, ..)| file.is_meta == schema) {
        encode_record(&key, &value, plain.entry(file).or_default());
    }
    let mut compressor = Compressor::new(compression).unwrap();
    let (mut object, mut infos) = (Vec::new(), Vec::new());
    for (key, plain) in plain {
        let offset = object.len() as u64;
        compressor.compress(&plain, &mut object).unwrap();
        let file = LogicalFile {
            key,
            summary: summarize(&key, &plain).unwrap(),
            resolved_ts: Ts::compose(START_MS, 0),
            stored_length: object.len() as u64 - offset,
            compression,
            encryption: None,
            region: Some(RegionNote {
                range: KeyRange::from_raw(b"m", b""),
                epochs: vec![RegionEpoch { conf_ver: 1, version: 4 }, RegionEpoch { conf_ver: 2, version: 4 }],
            }),
        };
        infos.push(data_file_info(&file, offset));
    }
    let all = group(String::new(), infos);
    let path = data_path(STORE, Ts::new(all.min_ts), Ts::new(all.max_ts), schema, TAG, index);
    (proto::DataFileGroup { path, ..all }, object)
}

/// A flush: its metadata, its name, its objects.
pub(crate) fn flush(compression: Compression, first_index: u32) -> (proto::Metadata, MetaName, Vec<Object>) {
    let (data, data_bytes) = data_object(false, compression, first_index);
    let (schema, schema_bytes) = data_object(true, compression, first_index + 1);
    let objects = vec![(data.path.clone(), data_bytes), (schema.path.clone(), schema_bytes)];
    let meta = metadata(STORE, vec![data, schema], Ts::compose(START_MS + 20, 0));
    let name = MetaName::of(&meta, Ts::compose(START_MS + 30, u64::from(first_index)), Some(TAG));
    (meta, name, objects)
}

pub(crate) fn backup() -> Vec<Object> {
    let mut objects = vec![(checkpoint_path(STORE), encode_checkpoint(Ts::new(CHECKPOINT)).to_vec())];
    for (compression, index) in [(Compression::Zstd, 0), (Compression::None, 2)] {
        let (meta, name, data) = flush(compression, index);
        objects.extend(data);
        objects.push((name.path(), encode_metadata(&meta)));
    }
    let empty = metadata(STORE, Vec::new(), Ts::compose(START_MS + 40, 0));
    objects.push((MetaName::of(&empty, Ts::compose(START_MS + 50, 0), Some(TAG)).path(), encode_metadata(&empty)));
    objects
}

/// Names that the backup above does not have.
pub(crate) fn names() -> Vec<String> {
    let (first, last) = (Ts::new(1), Ts::MAX);
    let tag = ObjectTag { boot: u64::MAX >> 24, generation: u64::MAX >> 14 };
    let name = MetaName {
        flush_ts: last,
        store_id: u64::MAX,
        min_begin_ts: first,
        min_ts: Ts::new(2),
        max_ts: last,
        flags: 1,
        tag: None,
    };
    vec![
        checkpoint_path(u64::MAX),
        data_path(1, first, last, false, tag, u32::MAX),
        data_path(1, Ts::ZERO, Ts::ZERO, true, ObjectTag { boot: 0, generation: 0 }, 0),
        name.path(),
        MetaName { tag: Some(tag), flags: 0, ..name }.path(),
    ]
}
