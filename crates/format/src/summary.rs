//! The facts about a logical file that its metadata states, in one pass over its plain bytes.

use logtide_model::codec::CodecError;
use logtide_model::{Cf, Ts};
use sha2::{Digest, Sha256};

use crate::{EntryKind, FileKey, FormatError, Record, RecordError, RecordFault, Records};

/// What is true of the records of a logical file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSummary {
    /// Plain bytes.
    pub length: u64,
    /// How many records.
    pub entries: u64,
    /// Smallest ts at the end of a key.
    pub min_ts: Ts,
    /// Largest ts at the end of a key.
    pub max_ts: Ts,
    /// Smallest start ts of the write records, else `min_ts`: a restore has to look back as far for their values.
    pub min_begin_ts: Ts,
    /// Smallest key, with its ts.
    pub start_key: Vec<u8>,
    /// Largest key, with its ts.
    pub end_key: Vec<u8>,
    /// SHA-256 of the plain bytes.
    pub sha256: [u8; 32],
    /// XOR over the records of the CRC-64/XZ of key and value, without their lengths.
    pub crc64xor: u64,
}

/// The facts about the records in `plain`, in one pass; SHA-256 and CRC-64 take nearly all of the time.
///
/// # Errors
/// [`FormatError::BadRecord`] if `plain` is not a sequence of one or more records with timestamps, or, in the write
/// column family, a value is no write record; the object that it names is the region and kind of file.
pub fn summarize(key: &FileKey, plain: &[u8]) -> Result<FileSummary, FormatError> {
    summarize_records(key, plain).map_err(|source| FormatError::BadRecord {
        object: format!("{} {:?} file of region {}, table {}", key.cf.name(), key.kind, key.region_id, key.table_id),
        offset: 0,
        source,
    })
}

/// As [`summarize`], with an error that names no object.
pub(crate) fn summarize_records(key: &FileKey, plain: &[u8]) -> Result<FileSummary, RecordError> {
    let mut pass = Pass::new(key);
    let mut records = Records::new(plain);
    let mut offset = 0;
    while let Some(record) = records.next() {
        pass.add(&record?).map_err(|fault| RecordError { offset, fault })?;
        offset = records.offset();
    }
    if pass.entries == 0 {
        return Err(RecordError { offset, fault: RecordFault::Truncated { need: 8, left: 0 } });
    }
    let min_begin_ts = if pass.min_begin == Ts::MAX { pass.min_ts } else { pass.min_begin };
    Ok(FileSummary {
        length: plain.len() as u64,
        entries: pass.entries,
        min_ts: pass.min_ts,
        max_ts: pass.max_ts,
        min_begin_ts,
        start_key: pass.start_key.unwrap_or_default().to_vec(),
        end_key: pass.end_key.to_vec(),
        sha256: Sha256::digest(plain).into(),
        crc64xor: pass.crc64xor,
    })
}

/// What is known after some of the records. Nothing is allocated for a record.
struct Pass<'a> {
    writes: bool,
    deletes: bool,
    entries: u64,
    min_ts: Ts,
    max_ts: Ts,
    min_begin: Ts,
    start_key: Option<&'a [u8]>,
    end_key: &'a [u8],
    crc64xor: u64,
}

impl<'a> Pass<'a> {
    fn new(key: &FileKey) -> Self {
        Pass {
            writes: key.cf == Cf::Write,
            deletes: key.kind == EntryKind::Delete,
            entries: 0,
            min_ts: Ts::MAX,
            max_ts: Ts::ZERO,
            min_begin: Ts::MAX,
            start_key: None,
            end_key: &[],
            crc64xor: 0,
        }
    }

    #[inline]
    fn add(&mut self, record: &Record<'a>) -> Result<(), RecordFault> {
        let Record { key, value } = *record;
        let ts = key.last_chunk::<8>().ok_or(RecordFault::ShortKey(key.len()))?;
        let ts = Ts::new(!u64::from_be_bytes(*ts));
        if self.deletes && !value.is_empty() {
            return Err(RecordFault::DeleteWithValue(value.len()));
        }
        if self.writes && !value.is_empty() {
            let start_ts = start_ts(value).map_err(RecordFault::BadWrite)?;
            self.min_begin = self.min_begin.min(start_ts);
        }
        self.entries += 1;
        self.min_ts = self.min_ts.min(ts);
        self.max_ts = self.max_ts.max(ts);
        if self.start_key.is_none_or(|start| key < start) {
            self.start_key = Some(key);
        }
        if key > self.end_key {
            self.end_key = key;
        }
        // Tables of our own, 16 bytes at a time, were not faster for any length of record.
        let mut crc = crc64fast::Digest::new();
        crc.write(key);
        crc.write(value);
        self.crc64xor ^= crc.sum64();
        Ok(())
    }
}

/// The start ts of a write record: its kind, then a varint. As `mvcc::Write::parse` has it, which also reads the rest.
#[inline]
fn start_ts(write: &[u8]) -> Result<Ts, CodecError> {
    let (kind, rest) = write.split_first().ok_or(CodecError::UnexpectedEof)?;
    if !matches!(kind, b'P' | b'D' | b'L' | b'R') {
        return Err(CodecError::UnknownFlag(*kind));
    }
    let mut ts = 0;
    for (i, byte) in rest.iter().enumerate().take(10) {
        ts |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            return if i == 9 && *byte > 1 { Err(CodecError::BadVarint) } else { Ok(Ts::new(ts)) };
        }
    }
    Err(if rest.len() < 10 { CodecError::UnexpectedEof } else { CodecError::BadVarint })
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_model::mvcc::Write;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn start_ts_is_that_of_the_parsed_record(
            kind in prop_oneof![4 => prop::sample::select(b"PDLR".to_vec()), 1 => any::<u8>()],
            ts in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..12),
                prop::collection::vec(0x80..=0xff_u8, 0..12),
                any::<u64>().prop_map(|n| { let mut v = Vec::new(); logtide_model::codec::encode_var_u64(n, &mut v); v }),
            ],
        ) {
            let value = [&[kind][..], &ts].concat();
            let parsed = Write::parse(&value).map(|w| w.start_ts);
            // What follows the ts may be malformed.
            if parsed.is_ok() || start_ts(&value).is_err() {
                prop_assert_eq!(start_ts(&value), parsed);
            }
        }
    }
}
