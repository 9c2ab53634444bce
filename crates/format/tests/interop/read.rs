//! Reading what TiKV wrote.

use std::fs;

use logtide_format::{
    FormatError, KeyFault, Keys, MasterKey, MetaName, Records, checkpoint_path, decode_checkpoint, decode_metadata,
    encode_metadata, open_file, open_file_with, proto,
};
use logtide_model::{Class, Diagnose, ErrorCode, SecretKey, Ts};
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
        assert_eq!(read_with(variant, &Keys::NONE), expected, "{variant}");
    }
}

/// All records of a variant, sorted.
fn read_with(variant: &str, keys: &Keys) -> Vec<Fed> {
    let mut found = Vec::new();
    for meta in load(variant) {
        for (object, _, info, stored) in meta.files() {
            add_records(&meta, info, &open_file_with(object, info, stored, keys).unwrap(), &mut found);
        }
    }
    found.sort();
    found
}

/// The data key of README.txt.
fn data_key(length: u8) -> SecretKey {
    SecretKey::new((0..length).map(|i| i.wrapping_mul(7).wrapping_add(1)).collect::<Vec<_>>())
}

fn master_key() -> MasterKey {
    let text = fs::read_to_string(interop().join("master_key.hex")).unwrap();
    MasterKey::new(SecretKey::from_hex(&text).unwrap()).unwrap()
}

/// The keys of an encrypted variant.
fn keys_of(variant: &str) -> Keys {
    match variant {
        "zstd_aes256ctr" => Keys::NONE.with_data_key(data_key(32)),
        "uncompressed_aes128ctr" => Keys::NONE.with_data_key(data_key(16)),
        _ => Keys::NONE.with_master_key(master_key()),
    }
}

#[test]
fn every_record_is_read_from_encrypted_backups() {
    let mut expected = fed();
    expected.sort();
    for variant in ENCRYPTED_VARIANTS {
        assert_eq!(read_with(variant, &keys_of(variant)), expected, "{variant}");
    }
}

#[test]
fn other_keys_are_refused_and_told_from_damage() {
    let other_master = || MasterKey::new(SecretKey::new([9; 32])).unwrap();
    type IsFault = fn(&KeyFault) -> bool;
    let cases: [(&str, Keys, IsFault); 9] = [
        ("zstd_aes256ctr", Keys::NONE.with_data_key(SecretKey::new([9; 32])), |f| {
            matches!(f, KeyFault::WrongDataKey(_))
        }),
        ("uncompressed_aes128ctr", Keys::NONE.with_data_key(SecretKey::new([9; 16])), |f| {
            matches!(f, KeyFault::WrongDataKey(_))
        }),
        ("zstd_aes256ctr", Keys::NONE.with_data_key(data_key(16)), |f| matches!(f, KeyFault::Length { found: 16, .. })),
        ("zstd_aes256ctr", Keys::NONE.with_master_key(master_key()), |f| matches!(f, KeyFault::NoDataKey { .. })),
        ("zstd_masterkey_file", Keys::NONE.with_data_key(data_key(32)), |f| *f == KeyFault::NoMasterKey),
        ("zstd_masterkey_file", Keys::NONE.with_master_key(other_master()), |f| *f == KeyFault::WrongMasterKey),
        ("zstd_masterkey_file", Keys::NONE.with_master_key(other_master()).with_master_key(other_master()), |f| {
            *f == KeyFault::WrongMasterKey
        }),
        ("uncompressed_aes128ctr", Keys::NONE.with_data_key(SecretKey::new([])), |f| {
            matches!(f, KeyFault::Length { found: 0, .. })
        }),
        ("uncompressed_aes128ctr", Keys::NONE.with_data_key(data_key(32)), |f| {
            matches!(f, KeyFault::Length { found: 32, .. })
        }),
    ];
    for (variant, keys, expected) in cases {
        for meta in load(variant) {
            for (object, _, info, stored) in meta.files() {
                let error = open_file_with(object, info, stored, &keys).unwrap_err();
                assert!(matches!(&error, FormatError::Key { fault, .. } if expected(fault)), "{variant}: {error}");
                assert!(error.to_string().starts_with(object) && !error.remedy().is_empty(), "{error}");
                assert_eq!((error.code(), error.class()), (ErrorCode::Encryption, Class::Fatal));
            }
        }
    }
    let spare = Keys::NONE.with_master_key(other_master()).with_master_key(master_key());
    assert_eq!(read_with("zstd_masterkey_file", &spare).len(), 590, "any of the master keys will do");
}

#[test]
fn damage_below_the_encryption_is_no_matter_of_keys() {
    for variant in ENCRYPTED_VARIANTS {
        let keys = keys_of(variant);
        let metas = load(variant);
        let (object, _, info, stored) = metas[0].files().next().unwrap();
        for byte in 0..stored.len() {
            let mut flipped = stored.to_vec();
            flipped[byte] ^= 0x10;
            let error = open_file_with(object, info, &flipped, &keys).unwrap_err();
            assert!(matches!(error, FormatError::BadFile { .. }), "{error}");
            assert_eq!(error.code(), ErrorCode::Checksum, "{error}");
        }
    }
}

#[test]
fn without_keys_the_remedy_is_told() {
    for variant in ENCRYPTED_VARIANTS {
        for meta in load(variant) {
            for (object, _, info, stored) in meta.files() {
                let encryption = info.file_encryption_info.as_ref().unwrap();
                assert_eq!(Sha256::digest(stored)[..], encryption.checksum, "{object}");
                assert_eq!(encryption.file_iv.len(), 16);
                check_mode(variant, encryption);
                let error = open_file(object, info, stored).unwrap_err();
                assert!(matches!(error, FormatError::Encrypted { .. }), "{error}");
                assert!(error.to_string().contains(object) && error.remedy().contains("--master-key"), "{error}");
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
