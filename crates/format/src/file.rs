//! A checked view of a logical file's metadata.

use logtide_model::{Compression, Ts};

use crate::info::{cf_of, compression_of, kind_of};
use crate::{EntryKind, FileFault, FileKey, FormatError, IV_LEN, proto, record_len};

/// The longest plain logical file that is read: 4 GiB. TiKV's are at most a little over its `file-size-limit`
/// (256 MiB by default); logtide's are one block.
pub const MAX_FILE_LENGTH: u64 = 1 << 32;
/// The most that zstd can expand: a run-length block of 4 bytes stands for 128 KiB (RFC 8878 §3.1.1.2).
pub const MAX_ZSTD_RATIO: u64 = (128 << 10) / 4;

/// Bytes of a timestamp at the end of a key.
const TS_LEN: usize = 8;
/// Bytes of a SHA-256.
const SHA256_LEN: usize = 32;

/// A logical file, as its metadata describes it, with every field in range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Which records it has.
    pub key: FileKey,
    /// Where it begins in its object.
    pub offset: u64,
    /// Bytes in the object.
    pub stored_length: u64,
    /// Bytes when decompressed.
    pub plain_length: u64,
    /// How it is compressed.
    pub compression: Compression,
    /// True if it is encrypted.
    pub encrypted: bool,
    /// How many records.
    pub entries: u64,
    /// Smallest ts of a key.
    pub min_ts: Ts,
    /// Largest ts of a key.
    pub max_ts: Ts,
    /// How far back values of its write records can lie.
    pub min_begin_ts: Ts,
    /// The region's resolved ts; zero for an initial scan.
    pub resolved_ts: Ts,
    /// Smallest key, with ts.
    pub start_key: Vec<u8>,
    /// Largest key, with ts; inclusive.
    pub end_key: Vec<u8>,
}

impl DataFile {
    /// Checks the metadata of the logical file `index` of `object`.
    ///
    /// # Errors
    /// [`FormatError::BadFile`].
    pub fn parse(object: &str, index: usize, info: &proto::DataFileInfo) -> Result<Self, FormatError> {
        Self::check(info).map_err(|fault| FormatError::BadFile {
            object: object.to_owned(),
            index: Some(index),
            offset: info.range_offset,
            fault,
        })
    }

    /// Where it ends in its object.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.stored_length)
    }

    /// As [`DataFile::parse`], with an error that names nothing.
    pub(crate) fn check(info: &proto::DataFileInfo) -> Result<Self, FileFault> {
        let cf = cf_of(&info.cf).ok_or_else(|| FileFault::UnknownCf(info.cf.clone()))?;
        let kind = kind_of(info.r#type).ok_or(FileFault::UnknownType(info.r#type))?;
        let compression = compression_of(info.compression_type);
        let compression = compression.ok_or(FileFault::UnknownCompression(info.compression_type))?;
        let region_id = not_negative("region_id", info.region_id)?;
        let entries = check_lengths(info, compression)?;
        check_bounds(info)?;
        Ok(DataFile {
            key: FileKey { region_id, cf, kind, is_meta: info.is_meta, table_id: info.table_id },
            offset: info.range_offset,
            stored_length: stored_length(info),
            plain_length: info.length,
            compression,
            encrypted: is_encrypted(info)?,
            entries,
            min_ts: Ts::new(info.min_ts),
            max_ts: Ts::new(info.max_ts),
            min_begin_ts: Ts::new(info.min_begin_ts_in_default_cf),
            resolved_ts: Ts::new(info.resolved_ts),
            start_key: info.start_key.clone(),
            end_key: info.end_key.clone(),
        })
    }

    /// True if it removes keys.
    pub fn is_delete(&self) -> bool {
        self.key.kind == EntryKind::Delete
    }
}

/// Stored bytes. Before data objects were merged the range was not written: then it is the whole object, plain.
fn stored_length(info: &proto::DataFileInfo) -> u64 {
    let whole = !info.path.is_empty() && info.range_length == 0 && info.range_offset == 0;
    if whole { info.length } else { info.range_length }
}

fn not_negative(field: &'static str, value: i64) -> Result<u64, FileFault> {
    u64::try_from(value).map_err(|_| FileFault::Negative { field, value })
}

fn check_lengths(info: &proto::DataFileInfo, compression: Compression) -> Result<u64, FileFault> {
    let (length, stored) = (info.length, stored_length(info));
    let entries = not_negative("number_of_entries", info.number_of_entries)?;
    let shortest = entries.saturating_mul(record_len(TS_LEN, 0) as u64);
    if shortest > length || (entries == 0) != (length == 0) {
        return Err(FileFault::Entries { entries: info.number_of_entries, length });
    }
    if length > MAX_FILE_LENGTH {
        return Err(FileFault::TooLong(length));
    }
    if stored > MAX_FILE_LENGTH {
        return Err(FileFault::TooLong(stored));
    }
    let possible = match compression {
        Compression::None => length == stored,
        Compression::Zstd => length / MAX_ZSTD_RATIO <= stored,
    };
    if !possible {
        return Err(FileFault::Length { length, stored });
    }
    Ok(entries)
}

fn check_bounds(info: &proto::DataFileInfo) -> Result<(), FileFault> {
    if info.sha256.len() != SHA256_LEN {
        return Err(FileFault::FieldLength { field: "sha256", len: info.sha256.len(), expected: SHA256_LEN });
    }
    if info.min_ts > info.max_ts {
        return Err(FileFault::Bounds("min_ts is above max_ts"));
    }
    if info.start_key > info.end_key {
        return Err(FileFault::Bounds("start_key is above end_key"));
    }
    if !info.region_end_key.is_empty() && info.region_start_key >= info.region_end_key {
        return Err(FileFault::Bounds("region_start_key is not below region_end_key"));
    }
    Ok(())
}

fn is_encrypted(info: &proto::DataFileInfo) -> Result<bool, FileFault> {
    use proto::EncryptionMethod::{Plaintext, Unknown};
    let Some(encryption) = &info.file_encryption_info else { return Ok(false) };
    let method = proto::EncryptionMethod::try_from(encryption.encryption_method);
    let method = method.map_err(|_| FileFault::Encryption("the method is not known"))?;
    if matches!(method, Unknown | Plaintext) {
        return Ok(false);
    }
    for (field, len, expected) in
        [("file_iv", encryption.file_iv.len(), IV_LEN), ("checksum", encryption.checksum.len(), SHA256_LEN)]
    {
        if len != expected {
            return Err(FileFault::FieldLength { field, len, expected });
        }
    }
    if encryption.mode.is_none() {
        return Err(FileFault::Encryption("it is not said where the key is"));
    }
    Ok(true)
}
