//! Whatever the bytes are: decoders end with a value or an error, and what is flipped does not pass for what was written.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "golden/sample.rs"]
#[allow(dead_code)]
mod sample;

use std::collections::BTreeMap;

use logtide_format::{
    DataFile, FileKey, FormatError, MetaName, NameFault, NameForm, ObjectTag, Records, decode_metadata,
    encode_metadata, encode_record, first_gap, open_file, proto, summarize,
};
use logtide_model::{Cf, Compression, Ts, split_ts};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

/// Column family, key and value.
type Read = (Cf, Vec<u8>, Vec<u8>);

/// All records of a flush, or the error that a careful reader of a backup that nobody truncated ends with.
fn read_all(path: &str, meta: &[u8], objects: &BTreeMap<String, Vec<u8>>) -> Result<Vec<Read>, String> {
    let meta = decode_metadata(path, meta).map_err(|e| e.to_string())?;
    let name = MetaName::parse(path).map_err(|e| e.to_string())?;
    if MetaName::of(&meta, name.flush_ts, name.tag) != name {
        return Err("the name says something else".to_owned());
    }
    let mut records = Vec::new();
    for group in &meta.file_groups {
        let object = objects.get(&group.path).ok_or("no such object")?;
        if first_gap(group).is_some() || group.length != object.len() as u64 {
            return Err("a gap".to_owned());
        }
        for (index, info) in group.data_files_info.iter().enumerate() {
            let file = DataFile::parse(&group.path, index, info).map_err(|e| e.to_string())?;
            let stored = &object[file.offset as usize..file.end() as usize];
            let plain = open_file(&group.path, info, stored).map_err(|e| e.to_string())?;
            records
                .extend(Records::new(&plain).map(Result::unwrap).map(|r| (file.key.cf, r.key.into(), r.value.into())));
        }
    }
    records.sort();
    Ok(records)
}

fn golden(compression: Compression) -> (String, Vec<u8>, BTreeMap<String, Vec<u8>>) {
    let (meta, name, objects) = sample::flush(compression, 0);
    (name.path(), encode_metadata(&meta), objects.into_iter().collect())
}

#[test]
fn no_flipped_bit_of_metadata_changes_a_record() {
    let (path, good, objects) = golden(Compression::Zstd);
    let expected = read_all(&path, &good, &objects).unwrap();
    let mut refused = 0;
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        match read_all(&path, &bad, &objects) {
            Ok(records) => assert_eq!(records, expected, "bit {bit}"),
            Err(_) => refused += 1,
        }
    }
    // The others are in what the data cannot prove: resolved timestamps, regions and their ranges.
    assert!(refused > good.len() * 8 / 2, "{refused} of {}", good.len() * 8);
}

#[test]
fn every_flipped_bit_of_data_is_refused() {
    for compression in [Compression::Zstd, Compression::None] {
        let (path, meta, good) = golden(compression);
        for (object, bytes) in &good {
            for bit in 0..bytes.len() * 8 {
                let mut bad = good.clone();
                bad.get_mut(object).unwrap()[bit / 8] ^= 1 << (bit % 8);
                let found = read_all(&path, &meta, &bad);
                // zstd has bits that mean nothing (the reserved bit of a frame, unused bits of a stream's end).
                assert!(found.is_err() || found == read_all(&path, &meta, &good), "{object}: bit {bit}");
            }
        }
    }
}

#[test]
fn metadata_cut_anywhere_is_refused() {
    for compression in [Compression::Zstd, Compression::None] {
        let (path, good, _) = golden(compression);
        for len in 0..good.len() {
            let error = decode_metadata(&path, &good[..len]).unwrap_err().to_string();
            assert!(error.contains(&path) && error.contains("byte "), "{len}: {error}");
        }
        decode_metadata(&path, &good).unwrap();
    }
}

#[test]
fn metadata_of_another_writer_may_have_gaps_and_unknown_fields() {
    let (mut meta, name, _) = sample::flush(Compression::Zstd, 0);
    assert_eq!(first_gap(&meta.file_groups[0]), None);
    let removed = meta.file_groups[0].data_files_info.remove(1);
    assert_eq!(first_gap(&meta.file_groups[0]), Some(removed.range_offset));
    let mut bytes = encode_metadata(&meta);
    // Field 100, a string.
    bytes.extend_from_slice(&[0xa2, 0x06, 0x02, b'h', b'i']);
    assert_eq!(decode_metadata(&name.path(), &bytes).unwrap(), meta);
}

/// CRC-64/XZ, bit by bit, from its definition (reflected ECMA-182 polynomial, all ones before and after).
fn crc64(bytes: impl Iterator<Item = u8>) -> u64 {
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(
            crc ^ u64::from(byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xC96C_5795_D787_0F42 } else { crc >> 1 },
        )
    })
}

#[test]
fn crc64_is_that_of_xz() {
    assert_eq!(crc64(b"123456789".iter().copied()), 0x995d_c9bb_df19_39fa, "the check value of CRC-64/XZ");
}

fn record() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let len = prop_oneof![8..40usize, 100..600usize];
    let value = prop_oneof![0..60usize, 100..600usize];
    (
        len.prop_flat_map(|n| prop::collection::vec(any::<u8>(), n)),
        value.prop_flat_map(|n| prop::collection::vec(any::<u8>(), n)),
    )
}

fn meta_name() -> impl Strategy<Value = MetaName> {
    let tag =
        prop::option::of((any::<u64>(), any::<u64>()).prop_map(|(boot, generation)| ObjectTag { boot, generation }));
    let ts = || any::<u64>().prop_map(Ts::new);
    (ts(), any::<u64>(), ts(), ts(), ts(), any::<u64>(), tag).prop_map(
        |(flush_ts, store_id, min_begin_ts, min_ts, max_ts, flags, tag)| MetaName {
            flush_ts,
            store_id,
            min_begin_ts,
            min_ts,
            max_ts,
            flags,
            tag,
        },
    )
}

proptest! {
    #[test]
    fn summaries_are_what_their_definition_says(records in prop::collection::vec(record(), 1..20)) {
        let mut plain = Vec::new();
        for (key, value) in &records {
            encode_record(key, value, &mut plain);
        }
        let file = FileKey::of(1, Cf::Default, logtide_format::EntryKind::Put, &records[0].0);
        let found = summarize(&file, &plain).unwrap();
        let ts = || records.iter().map(|(key, _)| split_ts(key).unwrap().1);
        prop_assert_eq!((found.length, found.entries), (plain.len() as u64, records.len() as u64));
        prop_assert_eq!((Some(found.min_ts), Some(found.max_ts)), (ts().min(), ts().max()));
        prop_assert_eq!(found.min_begin_ts, found.min_ts);
        prop_assert_eq!(Some(&found.start_key), records.iter().map(|(key, _)| key).min());
        prop_assert_eq!(Some(&found.end_key), records.iter().map(|(key, _)| key).max());
        prop_assert_eq!(&found.sha256[..], &Sha256::digest(&plain)[..]);
        let xor = records.iter().fold(0, |xor, (key, value)| xor ^ crc64(key.iter().chain(value).copied()));
        prop_assert_eq!(found.crc64xor, xor);
    }

    #[test]
    fn any_metadata_bytes_end(bytes: Vec<u8>, at: prop::sample::Index, cut: prop::sample::Index) {
        let _ = decode_metadata("any", &bytes);
        let (_, mut good, _) = golden(Compression::Zstd);
        let at = at.index(good.len());
        let end = at + cut.index(good.len() - at);
        good.splice(at..end, bytes);
        let _ = decode_metadata("spliced", &good);
    }

    #[test]
    fn any_file_bytes_end(stored: Vec<u8>, zstd: bool, length in 0..100_000u64, entries in 1..20i64) {
        let mut info = sample::flush(Compression::None, 0).0.file_groups[0].data_files_info[0].clone();
        info.range_length = stored.len() as u64;
        info.length = if zstd { length } else { info.range_length };
        info.number_of_entries = entries;
        info.compression_type = if zstd { proto::CompressionType::Zstd as i32 } else { 0 };
        info.sha256 = Sha256::digest(&stored).to_vec();
        prop_assert!(open_file("any", &info, &stored).is_err());
        let magic = [&[0x28, 0xb5, 0x2f, 0xfd], &stored[..]].concat();
        info.range_length = magic.len() as u64;
        prop_assert!(open_file("any", &info, &magic).is_err());
    }

    #[test]
    fn any_name_ends(name: String, form in "[0-9A-F]{16}[0-9A-F]{16}-([a-z][0-9A-F]{16}){0,5}.{0,3}\\.meta") {
        let _ = NameForm::parse(&name);
        let _ = NameForm::parse(&form);
    }

    #[test]
    fn names_round_trip(name in meta_name(), folder in "([a-z0-9]{1,5}/){0,3}") {
        prop_assert_eq!(MetaName::parse(&name.path()).unwrap(), name);
        let moved = name.path().replace("v1/backupmeta/", &folder);
        prop_assert_eq!(MetaName::parse(&moved).unwrap(), name);
        prop_assert_eq!(MetaName::parse(&name.path().to_lowercase()).unwrap(), name);
    }

    #[test]
    fn tags_may_be_unknown_and_in_any_order(name in meta_name(), order in Just(vec![0, 1, 2, 3, 4]).prop_shuffle(), value: u64) {
        let name = MetaName { tag: None, ..name };
        let path = name.path();
        let (head, tags) = path.strip_suffix(".meta").unwrap().split_once('-').unwrap();
        let tags = format!("{tags}z{value:016X}");
        let shuffled: String = order.iter().map(|i| &tags[i * 17..i * 17 + 17]).collect();
        prop_assert_eq!(MetaName::parse(&format!("{head}-{shuffled}.meta")).unwrap(), name);
    }

    #[test]
    fn a_tag_twice_is_refused(name in meta_name(), which in 0..4usize) {
        let path = name.path();
        let stem = path.strip_suffix(".meta").unwrap();
        let tags = stem.split_once('-').unwrap().1;
        let again = &tags[which * 17..which * 17 + 17];
        let fault = bad_name(&format!("{stem}{again}.meta"));
        prop_assert_eq!(fault, NameFault::Duplicate(again.chars().next().unwrap()));
    }

    #[test]
    fn names_without_store_are_read(name in meta_name(), upper: bool) {
        let name = MetaName { store_id: 0, flags: 0, tag: None, ..name };
        let parts = [name.flush_ts, name.min_begin_ts, name.min_ts, name.max_ts].map(|ts| format!("{:016x}", ts.get()));
        let stem = if upper { parts.join("-").to_uppercase() } else { parts.join("-") };
        let path = format!("v1/backupmeta/{stem}.meta");
        prop_assert_eq!(NameForm::parse(&path).unwrap(), NameForm::Ranged(name));
        prop_assert_eq!(MetaName::parse(&path).unwrap(), name);
    }
}

fn bad_name(path: &str) -> NameFault {
    match NameForm::parse(path) {
        Err(FormatError::BadName { name, fault }) => {
            assert_eq!(name, path);
            fault
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_that_are_wrong() {
    let hex = "0123456789ABCDEF";
    let head = format!("v1/backupmeta/{hex}{hex}");
    for (path, fault) in [
        (format!("{head}-d{hex}l{hex}u{hex}.met"), NameFault::Suffix),
        (format!("{head}-d{hex}l{hex}.meta"), NameFault::Missing('u')),
        (format!("{head}-l{hex}u{hex}.meta"), NameFault::Missing('d')),
        (format!("{head}-d{hex}u{hex}p{hex}.meta"), NameFault::Missing('l')),
        (format!("{head}-.meta"), NameFault::Missing('d')),
        (format!("{head}-d{hex}l{hex}u0123.meta"), NameFault::Segment("u0123".to_owned())),
        (format!("{head}-d{hex}l{hex}u+123456789ABCDEF.meta"), NameFault::Segment("u+123456789ABCDEF".to_owned())),
        (format!("{head}-d{hex}l{hex}_{hex}.meta"), NameFault::Segment(format!("_{hex}"))),
        (format!("{head}-dé123456789ABCDEF.meta"), NameFault::Segment("dé123456789ABCDE".to_owned())),
    ] {
        assert_eq!(bad_name(&path), fault, "{path}");
    }
}

#[test]
fn of_the_oldest_names_only_the_content_counts() {
    for name in ["v1/backupmeta/1_2_3.meta", "v1/backupmeta/b0e7.meta", ".meta"] {
        assert_eq!(NameForm::parse(name).unwrap(), NameForm::Opaque);
        assert!(matches!(MetaName::parse(name), Err(FormatError::BadName { fault: NameFault::Opaque, .. })));
    }
}

#[test]
fn flags_may_be_missing() {
    let path = format!("v1/backupmeta/{:032X}-d{:016X}l{:016X}u{:016X}.meta", 5, 1, 2, 3);
    let name = MetaName::parse(&path).unwrap();
    assert_eq!((name.store_id, name.flags, name.max_ts), (5, 0, Ts::new(3)));
}
