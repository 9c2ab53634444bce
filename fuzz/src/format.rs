//! Objects of a storage, and their names.

use logtide_format::{
    DataFile, EntryKind, FileKey, Keys, MasterKey, MetaLink, MetaName, Records, decode_checkpoint, decode_head,
    decode_metadata, encode_checkpoint, encode_metadata, first_gap, open_file_with, summarize,
};
use logtide_model::{Cf, SecretKey};

/// The most that a logical file of this target may claim: an honest zstd frame of a few bytes can hold gigabytes, and to
/// decompress them is no fault.
const MAX_PLAIN: u64 = 16 << 20;

/// Event records, and what a summary says of them.
pub(crate) fn records(bytes: &[u8]) {
    let good = Records::new(bytes).take_while(Result::is_ok).count() as u64;
    for (cf, kind) in [(Cf::Default, EntryKind::Put), (Cf::Write, EntryKind::Put), (Cf::Default, EntryKind::Delete)] {
        let key = FileKey { region_id: 1, cf, kind, is_meta: false, table_id: 0 };
        if let Ok(summary) = summarize(&key, bytes) {
            assert_eq!((summary.entries, summary.length), (good, bytes.len() as u64));
            assert!(summary.start_key <= summary.end_key && summary.min_ts <= summary.max_ts);
        }
    }
}

/// A metadata object; what is accepted is read again from its own bytes.
pub(crate) fn metadata(bytes: &[u8]) {
    if let Ok(metadata) = decode_metadata("fuzz", bytes) {
        let again = decode_metadata("fuzz", &encode_metadata(&metadata));
        assert!(again.is_ok_and(|again| again == metadata));
        assert!(metadata.file_groups.iter().filter_map(first_gap).all(|gap| gap < u64::MAX));
    }
}

/// The name of a metadata object.
pub(crate) fn names(bytes: &[u8]) {
    let Ok(path) = std::str::from_utf8(bytes) else { return };
    let _ = MetaLink::parse(path);
    if let Ok(name) = MetaName::parse(path) {
        assert_eq!(MetaName::parse(&name.path()).ok(), Some(name));
    }
}

/// Data files: the length of a metadata object (4 bytes, little endian), the metadata object, a data object. The keys
/// are those of the corpus.
pub(crate) fn data_file(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let Some((metadata, object)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else { return };
    let Ok(metadata) = decode_metadata("fuzz", metadata) else { return };
    let keys = keys();
    for info in metadata.file_groups.iter().flat_map(|group| &group.data_files_info) {
        let Ok(file) = DataFile::parse("fuzz", 0, info) else { continue };
        let range = usize::try_from(file.offset).ok().zip(usize::try_from(file.end()).ok());
        let Some(stored) = range.and_then(|(from, to)| object.get(from..to)) else { continue };
        if file.plain_length > MAX_PLAIN {
            continue;
        }
        if let Ok(plain) = open_file_with("fuzz", info, stored, &keys) {
            assert_eq!(plain.len() as u64, file.plain_length);
            assert_eq!(Records::new(&plain).filter(Result::is_ok).count() as u64, file.entries);
        }
    }
}

fn keys() -> Keys {
    let keys = Keys::NONE.with_data_key(SecretKey::new([1; 16]));
    match MasterKey::new(SecretKey::new([2; 32])) {
        Ok(master) => keys.with_master_key(master),
        Err(_) => keys,
    }
}

/// A checkpoint object.
pub(crate) fn checkpoint(bytes: &[u8]) {
    if let Ok(ts) = decode_checkpoint("fuzz", bytes) {
        assert_eq!(encode_checkpoint(ts)[..], *bytes);
    }
}

/// A head object.
pub(crate) fn head(bytes: &[u8]) {
    let _ = decode_head("fuzz", bytes);
}
