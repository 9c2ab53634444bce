//! Reading what TiKV wrote.

use std::fs;

use logtide_format::{
    FormatError, MetaName, Records, checkpoint_path, decode_checkpoint, decode_metadata, encode_metadata, open_file,
    proto,
};
use logtide_model::Ts;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::backup::{ENCRYPTED_VARIANTS, Fed, Meta, PLAIN_VARIANTS, dump, fed, interop, load, variants};

#[test]
fn names_say_what_the_content_is() {
    for meta in variants().flat_map(load) {
        assert_eq!(MetaName::of(&meta.body, meta.name.flush_ts, None).path(), meta.path);
    }
}

#[test]
fn no_field_is_lost() {
    for meta in variants().flat_map(load) {
        let back = encode_metadata(&meta.body);
        // TiKV writes `file_groups` first, as the .proto file has it; we write in the order of the numbers.
        assert_eq!(back.len(), meta.bytes.len(), "{}", meta.path);
        assert_eq!(decode_metadata(&meta.path, &back).unwrap(), meta.body, "{}", meta.path);
    }
}

#[test]
fn every_field_is_what_kvproto_decoded() {
    for variant in variants() {
        let dump = dump(variant);
        let mut ours: Vec<Value> = load(variant).iter().map(meta_json).collect();
        let mut theirs = dump["metas"].as_array().unwrap().clone();
        for metas in [&mut ours, &mut theirs] {
            metas.sort_by_key(|m| m["path"].to_string());
        }
        assert_eq!(ours.len(), 7);
        assert_eq!(ours, theirs, "{variant}");
    }
}

#[test]
fn objects_are_the_concatenation_of_their_logical_files() {
    for meta in variants().flat_map(load) {
        for group in &meta.body.file_groups {
            let mut end = 0;
            for info in &group.data_files_info {
                assert_eq!(info.range_offset, end, "{}", group.path);
                end += info.range_length;
            }
            assert_eq!((end, meta.objects[&group.path].len() as u64), (group.length, group.length), "{}", group.path);
        }
    }
}

#[test]
fn every_record_is_read_from_plain_backups() {
    let mut expected = fed();
    expected.sort();
    for variant in PLAIN_VARIANTS {
        let mut found = Vec::new();
        for meta in load(variant) {
            for (object, _, info, stored) in meta.files() {
                add_records(&meta, info, &open_file(object, info, stored).unwrap(), &mut found);
            }
        }
        found.sort();
        assert_eq!(found, expected, "{variant}");
    }
}

#[test]
fn encrypted_files_are_intact_and_told_from_plain_ones() {
    for variant in ENCRYPTED_VARIANTS {
        for meta in load(variant) {
            for (object, _, info, stored) in meta.files() {
                let encryption = info.file_encryption_info.as_ref().unwrap();
                assert_eq!(Sha256::digest(stored)[..], encryption.checksum, "{object}");
                assert_eq!(encryption.file_iv.len(), 16);
                check_mode(variant, encryption);
                let error = open_file(object, info, stored).unwrap_err();
                assert!(matches!(error, FormatError::Encrypted { .. }), "{error}");
            }
        }
    }
}

fn check_mode(variant: &str, encryption: &proto::FileEncryptionInfo) {
    use proto::file_encryption_info::Mode;
    match encryption.mode.as_ref().unwrap() {
        Mode::PlainTextDataKey(_) => assert_ne!(variant, "zstd_masterkey_file"),
        Mode::MasterKeyBased(key) => {
            assert_eq!(variant, "zstd_masterkey_file");
            let [content] = &key.data_key_encrypted_content[..] else { panic!("not one key: {key:?}") };
            let lengths = ["method", "iv", "aes_gcm_tag"].map(|name| content.metadata[name].len());
            assert_eq!((lengths, content.metadata.len(), content.content.len()), ([10, 12, 16], 3, 32));
            assert_eq!(content.metadata["method"], b"aes256-gcm");
        }
    }
}

#[test]
fn checkpoints_are_read() {
    let expected = Ts::compose(1_760_000_000_000 + 3 * 180_000 + 140_000, 0);
    for variant in variants() {
        for (store, flushes) in [(1, 3), (2, 4)] {
            let path = checkpoint_path(store);
            let bytes = fs::read(interop().join(variant).join("backup").join(&path)).unwrap();
            let later = Ts::compose(expected.physical_ms() + (flushes - 3) * 180_000, 0);
            assert_eq!(decode_checkpoint(&path, &bytes).unwrap(), later, "{variant} {path}");
        }
    }
}

fn add_records(meta: &Meta, info: &proto::DataFileInfo, plain: &[u8], found: &mut Vec<Fed>) {
    let records = Records::new(plain).map(|record| {
        let record = record.unwrap();
        Fed {
            flush: meta.flush(),
            store: meta.name.store_id,
            region: info.region_id as u64,
            cf: info.cf.clone(),
            op: format!("{:?}", info.r#type()),
            key: record.key.to_vec(),
            value: record.value.to_vec(),
        }
    });
    found.extend(records);
}

/// A metadata object in the form of `metadata_dump.json`.
fn meta_json(meta: &Meta) -> Value {
    let body = &meta.body;
    let groups: Vec<Value> = body.file_groups.iter().map(group_json).collect();
    json!({
        "path": meta.path, "store_id": body.store_id, "resolved_ts": body.resolved_ts, "min_ts": body.min_ts,
        "max_ts": body.max_ts, "meta_version": format!("{:?}", body.meta_version()), "file_groups": groups,
    })
}

fn group_json(group: &proto::DataFileGroup) -> Value {
    let files: Vec<Value> = group.data_files_info.iter().map(file_json).collect();
    json!({
        "path": group.path, "length": group.length, "min_ts": group.min_ts, "max_ts": group.max_ts,
        "min_resolved_ts": group.min_resolved_ts, "data_files_info": files,
    })
}

fn file_json(file: &proto::DataFileInfo) -> Value {
    let epochs: Vec<[u64; 2]> = file.region_epoch.iter().map(|e| [e.conf_ver, e.version]).collect();
    json!({
        "cf": file.cf, "type": format!("{:?}", file.r#type()), "region_id": file.region_id, "table_id": file.table_id,
        "is_meta": file.is_meta, "number_of_entries": file.number_of_entries, "min_ts": file.min_ts,
        "max_ts": file.max_ts, "resolved_ts": file.resolved_ts,
        "min_begin_ts_in_default_cf": file.min_begin_ts_in_default_cf, "start_key": hex::encode(&file.start_key),
        "end_key": hex::encode(&file.end_key), "sha256": hex::encode(&file.sha256), "crc64xor": file.crc64xor,
        "length": file.length, "range_offset": file.range_offset, "range_length": file.range_length,
        "compression_type": compression_json(file.compression_type()),
        "region_start_key": hex::encode(&file.region_start_key), "region_end_key": hex::encode(&file.region_end_key),
        "region_epoch": epochs, "file_encryption_info": file.file_encryption_info.as_ref().map(encryption_json),
    })
}

fn compression_json(compression: proto::CompressionType) -> &'static str {
    match compression {
        proto::CompressionType::Unknown => "Unknown",
        proto::CompressionType::Zstd => "Zstd",
        other => panic!("{other:?}"),
    }
}

fn encryption_json(info: &proto::FileEncryptionInfo) -> Value {
    use proto::file_encryption_info::Mode;
    let mode = match info.mode.as_ref().unwrap() {
        Mode::PlainTextDataKey(_) => "plain_text_data_key",
        Mode::MasterKeyBased(_) => "master_key_based",
    };
    json!({
        "method": format!("{:?}", info.encryption_method()), "iv": hex::encode(&info.file_iv),
        "checksum": hex::encode(&info.checksum), "mode": mode,
    })
}
