//! Reading a logical file: decryption, bounded decompression, then every fact of its metadata against the records.

use std::borrow::Cow;

use logtide_model::Compression;
use sha2::{Digest, Sha256};

use crate::compress::decompress;
use crate::crypt::Opened;
use crate::summary::summarize_records;
use crate::{DataFile, FileFault, FileKey, FileSummary, FormatError, KeyFault, Keys, proto};

/// As [`open_file_with`] without keys.
///
/// # Errors
/// As [`open_file_with`]; [`FormatError::Encrypted`] for every encrypted file.
pub fn open_file(object: &str, info: &proto::DataFileInfo, stored: &[u8]) -> Result<Vec<u8>, FormatError> {
    open_file_with(object, info, stored, &Keys::NONE)
}

/// The plain bytes of a logical file, decrypted, decompressed and verified: SHA-256 of the encrypted and of the plain
/// bytes, CRC-64, number of records, bounds of timestamps and keys. `stored` are the bytes
/// `range_offset..range_offset + range_length` of `object`. With a master key of a key management service this may wait
/// for a network.
///
/// # Errors
/// [`FormatError::BadFile`] or [`FormatError::BadRecord`] where bytes and metadata disagree,
/// [`FormatError::Encrypted`] for an encrypted file if there are no keys, [`FormatError::Key`] if they do not help.
pub fn open_file_with(
    object: &str,
    info: &proto::DataFileInfo,
    stored: &[u8],
    keys: &Keys,
) -> Result<Vec<u8>, FormatError> {
    let offset = info.range_offset;
    let bad = |fault| FormatError::BadFile { object: object.to_owned(), index: None, offset, fault };
    let file = DataFile::check(info).map_err(bad)?;
    if file.stored_length != stored.len() as u64 {
        return Err(bad(FileFault::StoredLength { declared: file.stored_length, found: stored.len() as u64 }));
    }
    match info.file_encryption_info.as_ref().filter(|_| file.encrypted) {
        None => open_plain(object, info, &file, Cow::Borrowed(stored)),
        Some(_) if keys.is_empty() => Err(FormatError::Encrypted { object: object.to_owned(), offset }),
        Some(encryption) => {
            let checksum: [u8; 32] = Sha256::digest(stored).into();
            check_bytes("checksum of the encrypted bytes", &encryption.checksum, &checksum).map_err(bad)?;
            let no_key = |fault| FormatError::Key { object: object.to_owned(), offset, fault };
            let Opened { bytes, authentic } = keys.decrypt(encryption, stored).map_err(no_key)?;
            let plain = open_plain(object, info, &file, Cow::Owned(bytes));
            // The encrypted bytes are those that were written: what does not make sense now, the key did.
            plain.map_err(|e| if authentic { e } else { wrong_key(&e).map_or(e, no_key) })
        }
    }
}

/// The fault of the data key, if an error after decryption looks like one.
fn wrong_key(error: &FormatError) -> Option<KeyFault> {
    match error {
        FormatError::BadFile { fault: FileFault::Mismatch { field: SHA256, .. }, .. } => {
            Some(KeyFault::WrongDataKey(format!("{SHA256} does not match")))
        }
        FormatError::BadFile { fault, .. } if fault.is_garbage() => Some(KeyFault::WrongDataKey(fault.to_string())),
        FormatError::BadRecord { source, .. } => Some(KeyFault::WrongDataKey(source.to_string())),
        _ => None,
    }
}

fn open_plain(
    object: &str,
    info: &proto::DataFileInfo,
    file: &DataFile,
    stored: Cow<'_, [u8]>,
) -> Result<Vec<u8>, FormatError> {
    let offset = info.range_offset;
    let bad = |fault| FormatError::BadFile { object: object.to_owned(), index: None, offset, fault };
    let plain = match file.compression {
        Compression::None => stored.into_owned(),
        // `check` holds the length below `MAX_FILE_LENGTH`; where that is no usize, memory would not do either.
        Compression::Zstd => {
            decompress(&stored, usize::try_from(file.plain_length).unwrap_or(usize::MAX)).map_err(bad)?
        }
    };
    if file.entries == 0 {
        return Ok(plain);
    }
    let found = summarize_records(&file.key, &plain).map_err(|source| FormatError::BadRecord {
        object: object.to_owned(),
        offset,
        source,
    })?;
    compare(info, &found).and_then(|()| compare_key(&file.key, &found)).map_err(bad)?;
    Ok(plain)
}

/// The field of the hash of the plain bytes.
const SHA256: &str = "sha256";

fn check_bytes(field: &'static str, declared: &[u8], found: &[u8]) -> Result<(), FileFault> {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    if declared == found {
        return Ok(());
    }
    Err(FileFault::Mismatch { field, declared: hex(declared), found: hex(found) })
}

/// Every declared fact against what was found.
fn compare(info: &proto::DataFileInfo, found: &FileSummary) -> Result<(), FileFault> {
    let differ = |field, declared, found| Err(FileFault::Mismatch { field, declared, found });
    check_bytes(SHA256, &info.sha256, &found.sha256)?;
    check_bytes("start_key", &info.start_key, &found.start_key)?;
    check_bytes("end_key", &info.end_key, &found.end_key)?;
    // Stores that do not yet write it leave crc64xor at 0.
    let crc64xor = if info.crc64xor == 0 { 0 } else { found.crc64xor };
    for (field, declared, found) in [
        ("number_of_entries", info.number_of_entries as u64, found.entries),
        ("crc64xor", info.crc64xor, crc64xor),
        ("min_ts", info.min_ts, found.min_ts.get()),
        ("max_ts", info.max_ts, found.max_ts.get()),
    ] {
        if declared != found {
            return differ(field, declared.to_string(), found.to_string());
        }
    }
    // A smaller one only makes a restore look back further.
    if info.min_begin_ts_in_default_cf > found.min_begin_ts.get() {
        let (declared, found) = (info.min_begin_ts_in_default_cf, found.min_begin_ts);
        return differ("min_begin_ts_in_default_cf", declared.to_string(), found.to_string());
    }
    Ok(())
}

/// Table and kind of keys, by the first and the last key: what lies between two keys of a table is of that table.
fn compare_key(declared: &FileKey, found: &FileSummary) -> Result<(), FileFault> {
    for key in [&found.start_key, &found.end_key] {
        let found = FileKey::of(declared.region_id, declared.cf, declared.kind, key);
        for (field, declared, found) in [
            ("is_meta", i64::from(declared.is_meta), i64::from(found.is_meta)),
            ("table_id", declared.table_id, found.table_id),
        ] {
            if declared != found {
                return Err(FileFault::Mismatch { field, declared: declared.to_string(), found: found.to_string() });
            }
        }
    }
    Ok(())
}
