//! Records of the write column family (layout: TiKV `txn_types::Write`).

use crate::Ts;
use crate::codec::{self, CodecError};

const SHORT_VALUE: u8 = b'v';
const OVERLAPPED_ROLLBACK: u8 = b'R';
const GC_FENCE: u8 = b'F';
const LAST_CHANGE: u8 = b'l';
const TXN_SOURCE: u8 = b'S';

/// The short value of a rollback that must not be collapsed.
const PROTECTED: &[u8] = b"p";

/// What a write record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteKind {
    /// The key has a value.
    Put,
    /// The key has none.
    Delete,
    /// The key was locked, and is unchanged.
    Lock,
    /// The transaction was rolled back.
    Rollback,
}

impl WriteKind {
    const fn flag(self) -> u8 {
        match self {
            WriteKind::Put => b'P',
            WriteKind::Delete => b'D',
            WriteKind::Lock => b'L',
            WriteKind::Rollback => b'R',
        }
    }

    fn from_flag(flag: u8) -> Result<Self, CodecError> {
        Ok(match flag {
            b'P' => WriteKind::Put,
            b'D' => WriteKind::Delete,
            b'L' => WriteKind::Lock,
            b'R' => WriteKind::Rollback,
            other => return Err(CodecError::UnknownFlag(other)),
        })
    }
}

/// Where the newest put or delete before this record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastChange {
    /// Its commit ts; zero: there is none.
    pub ts: Ts,
    /// An estimate of the versions in between.
    pub versions: u64,
}

/// A record of the write column family; its key carries the commit ts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write<'a> {
    /// What it says.
    pub kind: WriteKind,
    /// The start ts of the transaction; the value lies at it in the default column family, unless it is short.
    pub start_ts: Ts,
    /// The value itself, if at most 255 bytes (TiKV's own limit is 64).
    pub short_value: Option<&'a [u8]>,
    /// A rollback of a transaction whose start ts is this record's commit ts was overwritten.
    pub overlapped_rollback: bool,
    /// Set on a record that was rewritten for an overlapped rollback.
    pub gc_fence: Option<Ts>,
    /// See [`LastChange`].
    pub last_change: Option<LastChange>,
    /// Who wrote (0: this cluster's users).
    pub txn_source: u64,
}

impl<'a> Write<'a> {
    /// A record without the rarer fields.
    pub fn new(kind: WriteKind, start_ts: Ts, short_value: Option<&'a [u8]>) -> Self {
        Write {
            kind,
            start_ts,
            short_value,
            overlapped_rollback: false,
            gc_fence: None,
            last_change: None,
            txn_source: 0,
        }
    }

    /// A rollback record; `protected` ones are never collapsed.
    pub fn rollback(start_ts: Ts, protected: bool) -> Self {
        Write::new(WriteKind::Rollback, start_ts, protected.then_some(PROTECTED))
    }

    /// True for a rollback that must not be collapsed.
    pub fn is_protected(&self) -> bool {
        self.kind == WriteKind::Rollback && self.short_value == Some(PROTECTED)
    }

    /// True if the value lies in the default column family.
    pub fn needs_default(&self) -> bool {
        self.kind == WriteKind::Put && self.short_value.is_none()
    }

    /// Parses a record. Fields that a newer TiKV may append are ignored.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn parse(mut input: &'a [u8]) -> Result<Self, CodecError> {
        let input = &mut input;
        let kind = WriteKind::from_flag(codec::take_u8(input)?)?;
        let mut write = Write::new(kind, Ts::new(codec::take_var_u64(input)?), None);
        while let Ok(flag) = codec::take_u8(input) {
            match flag {
                SHORT_VALUE => {
                    let len = usize::from(codec::take_u8(input)?);
                    write.short_value = Some(codec::take(input, len)?);
                }
                OVERLAPPED_ROLLBACK => write.overlapped_rollback = true,
                GC_FENCE => write.gc_fence = Some(Ts::new(codec::take_u64_be(input)?)),
                LAST_CHANGE => {
                    let ts = Ts::new(codec::take_u64_be(input)?);
                    write.last_change = Some(LastChange { ts, versions: codec::take_var_u64(input)? });
                }
                TXN_SOURCE => write.txn_source = codec::take_var_u64(input)?,
                _ => break,
            }
        }
        Ok(write)
    }

    /// The bytes of the record.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.short_value.map_or(0, |v| v.len() + 2));
        out.push(self.kind.flag());
        codec::encode_var_u64(self.start_ts.get(), &mut out);
        if let Some(value) = self.short_value {
            out.push(SHORT_VALUE);
            out.push(value.len() as u8);
            out.extend_from_slice(value);
        }
        if self.overlapped_rollback {
            out.push(OVERLAPPED_ROLLBACK);
        }
        if let Some(fence) = self.gc_fence {
            out.push(GC_FENCE);
            out.extend_from_slice(&fence.get().to_be_bytes());
        }
        if let Some(change) = self.last_change {
            out.push(LAST_CHANGE);
            out.extend_from_slice(&change.ts.get().to_be_bytes());
            codec::encode_var_u64(change.versions, &mut out);
        }
        if self.txn_source != 0 {
            out.push(TXN_SOURCE);
            codec::encode_var_u64(self.txn_source, &mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_that_tikv_wrote() {
        // records.jsonl of the interop backups: flush 1, store 1, seq 2.
        let bytes = [0x50, 0x81, 0x80, 0xa0, 0xe5, 0xdf, 0x97, 0xc8, 0xb3, 0x06, 0x76, 0x01, 0x32];
        let write = Write::parse(&bytes).unwrap();
        assert_eq!((write.kind, write.short_value), (WriteKind::Put, Some(&b"2"[..])));
        assert_eq!(write.to_bytes(), bytes);
    }

    #[test]
    fn truncated_fields_are_refused() {
        assert_eq!(Write::parse(b""), Err(CodecError::UnexpectedEof));
        assert_eq!(Write::parse(b"X\x01"), Err(CodecError::UnknownFlag(b'X')));
        assert_eq!(Write::parse(b"P\x01v\x05ab"), Err(CodecError::UnexpectedEof));
    }

    proptest! {
        #[test]
        fn round_trips(
            kind in prop::sample::select(vec![WriteKind::Put, WriteKind::Delete, WriteKind::Lock, WriteKind::Rollback]),
            start: u64, value in prop::option::of(prop::collection::vec(any::<u8>(), 0..255)),
            overlapped: bool, fence: Option<u64>, change: Option<(u64, u64)>, txn_source: u64,
        ) {
            let write = Write {
                kind, start_ts: Ts::new(start), short_value: value.as_deref(), overlapped_rollback: overlapped,
                gc_fence: fence.map(Ts::new),
                last_change: change.map(|(ts, versions)| LastChange { ts: Ts::new(ts), versions }), txn_source,
            };
            let bytes = write.to_bytes();
            prop_assert_eq!(Write::parse(&bytes), Ok(write.clone()));
        }

        #[test]
        fn never_panics(input: Vec<u8>) {
            let _ = Write::parse(&input);
        }
    }
}
