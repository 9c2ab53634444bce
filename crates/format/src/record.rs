//! Event records: `key length (u32 LE), key, value length (u32 LE), value`, one after the other, nothing around them.

use logtide_model::codec::CodecError;
use thiserror::Error;

/// Bytes of a length field.
const LEN: usize = 4;

/// Appends a record. Keys and values are shorter than 4 GiB (a raft entry is far smaller).
pub fn encode_record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.reserve(record_len(key.len(), value.len()));
    for part in [key, value] {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        out.extend_from_slice(part);
    }
}

/// How many bytes a record takes.
pub const fn record_len(key_len: usize, value_len: usize) -> usize {
    LEN + key_len + LEN + value_len
}

/// A record, where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The encoded key with its timestamp.
    pub key: &'a [u8],
    /// The value of the column family; empty for a delete.
    pub value: &'a [u8],
}

/// Something in the plain bytes of a logical file that is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the record at byte {offset} of the plain data: {fault}")]
pub struct RecordError {
    /// Where the record begins in the plain bytes.
    pub offset: usize,
    /// What is wrong.
    pub fault: RecordFault,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// It is longer than what is left.
    #[error("it needs {need} more bytes where {left} are left")]
    Truncated {
        /// Bytes that the next field needs.
        need: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// Its key cannot have a timestamp.
    #[error("a key of {0} bytes has no timestamp")]
    ShortKey(usize),
    /// It removes a key and has a value.
    #[error("a delete has a value of {0} bytes")]
    DeleteWithValue(usize),
    /// Its value is no record of the write column family.
    #[error("the value is no write record: {0}")]
    BadWrite(CodecError),
}

/// The records of the plain bytes of a logical file. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    plain: &'a [u8],
    offset: usize,
}

impl<'a> Records<'a> {
    /// All records of `plain`.
    pub fn new(plain: &'a [u8]) -> Self {
        Records { plain, offset: 0 }
    }

    /// Where the next record begins.
    pub fn offset(&self) -> usize {
        self.offset
    }

    fn record(&self) -> Result<(Record<'a>, usize), RecordFault> {
        let rest = self.plain.get(self.offset..).unwrap_or_default();
        let (key, rest) = take_part(rest)?;
        let (value, _) = take_part(rest)?;
        Ok((Record { key, value }, record_len(key.len(), value.len())))
    }
}

/// A length field and what it counts, and the rest.
#[inline]
fn take_part(input: &[u8]) -> Result<(&[u8], &[u8]), RecordFault> {
    let missing = |need, left| RecordFault::Truncated { need, left };
    let (len, rest) = input.split_first_chunk::<LEN>().ok_or(missing(LEN, input.len()))?;
    let len = u32::from_le_bytes(*len) as usize;
    rest.split_at_checked(len).ok_or(missing(len, rest.len()))
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.plain.len() {
            return None;
        }
        match self.record() {
            Ok((record, len)) => {
                self.offset += len;
                Some(Ok(record))
            }
            Err(fault) => {
                let offset = std::mem::replace(&mut self.offset, self.plain.len());
                Some(Err(RecordError { offset, fault }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_is_two_lengths_and_two_parts() {
        let mut out = Vec::new();
        encode_record(b"key", b"v", &mut out);
        assert_eq!(out, b"\x03\0\0\0key\x01\0\0\0v");
        assert_eq!(out.len(), record_len(3, 1));
    }

    #[test]
    fn an_error_ends_the_records_and_says_where() {
        let mut out = Vec::new();
        encode_record(b"k", b"", &mut out);
        out.extend_from_slice(&[0xff; 5]);
        let mut records = Records::new(&out);
        assert_eq!(records.next(), Some(Ok(Record { key: b"k", value: b"" })));
        let fault = RecordFault::Truncated { need: u32::MAX as usize, left: 1 };
        assert_eq!(records.next(), Some(Err(RecordError { offset: 9, fault })));
        assert_eq!(records.next(), None);
    }

    proptest! {
        #[test]
        fn records_round_trip(all: Vec<(Vec<u8>, Vec<u8>)>) {
            let mut out = Vec::new();
            for (key, value) in &all {
                encode_record(key, value, &mut out);
            }
            let back: Vec<_> = Records::new(&out).map(|r| r.map(|r| (r.key.to_vec(), r.value.to_vec()))).collect();
            prop_assert_eq!(back, all.into_iter().map(Ok).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_end(input: Vec<u8>) {
            // Every record takes 8 bytes at least.
            prop_assert!(Records::new(&input).count() <= input.len() / 8 + 1);
        }
    }
}
