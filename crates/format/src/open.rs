//! Reading a logical file: bounded decompression, then every fact of its metadata against the records.

use logtide_model::Compression;

use crate::compress::decompress;
use crate::summary::summarize_records;
use crate::{DataFile, FileFault, FileKey, FileSummary, FormatError, proto};

/// The plain bytes of a logical file, decompressed and verified: SHA-256, CRC-64, number of records, bounds of
/// timestamps and keys. `stored` are the bytes `range_offset..range_offset + range_length` of `object`.
///
/// # Errors
/// [`FormatError::BadFile`] or [`FormatError::BadRecord`] where bytes and metadata disagree,
/// [`FormatError::Encrypted`] for an encrypted file.
pub fn open_file(object: &str, info: &proto::DataFileInfo, stored: &[u8]) -> Result<Vec<u8>, FormatError> {
    let offset = info.range_offset;
    let bad = |fault| FormatError::BadFile { object: object.to_owned(), index: None, offset, fault };
    let file = DataFile::check(info).map_err(bad)?;
    if file.stored_length != stored.len() as u64 {
        return Err(bad(FileFault::StoredLength { declared: file.stored_length, found: stored.len() as u64 }));
    }
    if file.encrypted {
        return Err(FormatError::Encrypted { object: object.to_owned(), offset });
    }
    let plain = match file.compression {
        Compression::None => stored.to_vec(),
        // `check` holds the length below `MAX_FILE_LENGTH`; where that is no usize, memory would not do either.
        Compression::Zstd => {
            decompress(stored, usize::try_from(file.plain_length).unwrap_or(usize::MAX)).map_err(bad)?
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

/// Every declared fact against what was found.
fn compare(info: &proto::DataFileInfo, found: &FileSummary) -> Result<(), FileFault> {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let differ = |field, declared, found| Err(FileFault::Mismatch { field, declared, found });
    for (field, declared, found) in [
        ("sha256", &info.sha256[..], &found.sha256[..]),
        ("start_key", &info.start_key, &found.start_key),
        ("end_key", &info.end_key, &found.end_key),
    ] {
        if declared != found {
            return differ(field, hex(declared), hex(found));
        }
    }
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
