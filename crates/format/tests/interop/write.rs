//! Writing what TiKV was fed: the same metadata, field by field, and the same plain bytes.
//!
//! Inputs that a node gives (resolved timestamps, region notes, which logical files share an object) are taken from
//! TiKV's metadata; everything that `format` computes is compared.

use std::collections::BTreeMap;

use logtide_format::{
    Compressor, DataFile, EntryKind, FileKey, LogicalFile, MetaName, RegionNote, data_file_info, encode_record, group,
    metadata, open_file, proto, summarize,
};
use logtide_model::{Cf, KeyRange, RegionEpoch, Ts};

use crate::backup::{Meta, fed, load, resolved_ts, variants};

/// The plain bytes of our logical files, by flush and store.
fn spool() -> BTreeMap<(u64, u64), BTreeMap<FileKey, Vec<u8>>> {
    let mut spool: BTreeMap<_, BTreeMap<_, Vec<u8>>> = BTreeMap::new();
    for record in fed() {
        let kind = if record.op == "Put" { EntryKind::Put } else { EntryKind::Delete };
        let key = FileKey::of(record.region, Cf::from_name(&record.cf).unwrap(), kind, &record.key);
        let files = spool.entry((record.flush, record.store)).or_default();
        encode_record(&record.key, &record.value, files.entry(key).or_default());
    }
    spool
}

fn region_note(theirs: &proto::DataFileInfo) -> Option<RegionNote> {
    let epochs: Vec<_> =
        theirs.region_epoch.iter().map(|e| RegionEpoch { conf_ver: e.conf_ver, version: e.version }).collect();
    let range = KeyRange::new(theirs.region_start_key.clone(), theirs.region_end_key.clone());
    (!epochs.is_empty()).then_some(RegionNote { range, epochs })
}

/// Our logical file with the records of one of theirs, at `offset` of its object.
fn write_file(
    theirs: &proto::DataFileInfo,
    offset: u64,
    files: &mut BTreeMap<FileKey, Vec<u8>>,
) -> (proto::DataFileInfo, Vec<u8>, Vec<u8>) {
    let file = DataFile::parse("theirs", 0, theirs).unwrap();
    let plain = files.remove(&file.key).unwrap_or_else(|| panic!("no records of {:?}", file.key));
    let mut stored = Vec::new();
    Compressor::new(file.compression).unwrap().compress(&plain, &mut stored).unwrap();
    let ours = LogicalFile {
        key: file.key,
        summary: summarize(&file.key, &plain).unwrap(),
        resolved_ts: file.resolved_ts,
        stored_length: stored.len() as u64,
        compression: file.compression,
        encryption: None,
        region: region_note(theirs),
    };
    (data_file_info(&ours, offset), plain, stored)
}

/// What may differ: where compression may give another length, lengths and offsets; encryption.
fn comparable(info: &proto::DataFileInfo) -> proto::DataFileInfo {
    let mut info = info.clone();
    info.file_encryption_info = None;
    if info.compression_type() == proto::CompressionType::Zstd {
        (info.range_offset, info.range_length) = (0, 0);
    }
    info
}

/// Writes one flush again; returns our metadata.
fn write_meta(theirs: &Meta, files: &mut BTreeMap<FileKey, Vec<u8>>) -> proto::Metadata {
    let mut groups = Vec::new();
    for their_group in &theirs.body.file_groups {
        let mut infos = Vec::new();
        let mut offset = 0;
        for their_info in &their_group.data_files_info {
            let (ours, plain, stored) = write_file(their_info, offset, files);
            assert_eq!(comparable(&ours), comparable(their_info), "{}", theirs.path);
            assert_eq!(open_file("ours", &ours, &stored).unwrap(), plain);
            offset += ours.range_length;
            infos.push(ours);
        }
        let ours = group(their_group.path.clone(), infos);
        assert_eq!(ours.length, offset);
        let bounds = |g: &proto::DataFileGroup| (g.min_ts, g.max_ts, g.min_resolved_ts);
        assert_eq!(bounds(&ours), bounds(their_group), "{}", their_group.path);
        groups.push(ours);
    }
    metadata(theirs.name.store_id, groups, resolved_ts(theirs.flush()))
}

#[test]
fn metadata_is_the_same_field_by_field() {
    for variant in variants() {
        let mut spool = spool();
        for theirs in load(variant) {
            let mut files = spool.remove(&(theirs.flush(), theirs.name.store_id)).unwrap_or_default();
            let ours = write_meta(&theirs, &mut files);
            assert!(files.is_empty(), "{variant}: not in their backup: {:?}", files.keys());
            let fields = |m: &proto::Metadata| (m.store_id, m.resolved_ts, m.min_ts, m.max_ts, m.meta_version);
            assert_eq!(fields(&ours), fields(&theirs.body), "{}", theirs.path);
            assert_eq!(MetaName::of(&ours, theirs.name.flush_ts, None).path(), theirs.path);
            if variant == "uncompressed" {
                assert_eq!(ours, theirs.body, "{}: where nothing is compressed, all is equal", theirs.path);
            }
        }
        assert!(spool.is_empty(), "{variant}: {:?}", spool.keys());
    }
}

#[test]
fn plain_bytes_are_the_same() {
    for variant in ["zstd", "zstd_split", "uncompressed"] {
        let spool = spool();
        let mut compared = 0;
        for theirs in load(variant) {
            for (object, index, info, stored) in theirs.files() {
                let key = DataFile::parse(object, index, info).unwrap().key;
                let ours = &spool[&(theirs.flush(), theirs.name.store_id)][&key];
                assert_eq!(&open_file(object, info, stored).unwrap(), ours, "{object}");
                compared += ours.len();
            }
        }
        assert_eq!(compared, spool.values().flat_map(BTreeMap::values).map(Vec::len).sum::<usize>());
    }
}

#[test]
fn uncompressed_objects_are_the_same() {
    let mut spool = spool();
    for theirs in load("uncompressed") {
        let mut files = spool.remove(&(theirs.flush(), theirs.name.store_id)).unwrap_or_default();
        for their_group in &theirs.body.file_groups {
            let parts = their_group.data_files_info.iter().map(|info| write_file(info, 0, &mut files).2);
            assert_eq!(parts.collect::<Vec<_>>().concat(), theirs.objects[&their_group.path], "{}", their_group.path);
        }
    }
}

#[test]
fn an_empty_flush_has_the_same_name_and_bytes() {
    let theirs = load("zstd").pop().unwrap();
    assert_eq!((theirs.flush(), theirs.name.store_id, theirs.name.flags), (4, 2, 3));
    let ours = metadata(2, Vec::new(), resolved_ts(4));
    assert_eq!(logtide_format::encode_metadata(&ours), theirs.bytes);
    assert_eq!(MetaName::of(&ours, Ts::compose(1_760_000_880_000, 2), None).path(), theirs.path);
}
