//! The part of `br`'s `backupmeta` object that says whose a log backup is (kvproto `backuppb.BackupMeta`: cluster_id 1,
//! cluster_version 2, start_version 5, end_version 6, br_version 11).
//!
//! `br log metadata` and `br restore point` read it; a full backup in the same prefix has one with an end version.

use logtide_model::Ts;
use logtide_model::codec::{CodecError, encode_var_u64, take, take_var_u64};

const CLUSTER_ID: u64 = 1;
const CLUSTER_VERSION: u64 = 2;
const START_VERSION: u64 = 5;
const END_VERSION: u64 = 6;
const BR_VERSION: u64 = 11;

// Wire types of protobuf's encoding.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// What `backupmeta` says about a backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupMetaHead {
    /// The cluster that was backed up.
    pub cluster_id: u64,
    /// Where the log begins.
    pub start_ts: Ts,
    /// Where a full backup ends; zero for a log backup.
    pub end_ts: Ts,
}

impl BackupMetaHead {
    pub(crate) fn of_log(cluster_id: u64, start_ts: Ts) -> Self {
        BackupMetaHead { cluster_id, start_ts, end_ts: Ts::ZERO }
    }

    /// The message, with the name of who wrote it in the place of `br`'s version.
    pub(crate) fn encode(&self, writer: &str) -> Vec<u8> {
        let mut out = Vec::new();
        number(CLUSTER_ID, self.cluster_id, &mut out);
        text(CLUSTER_VERSION, writer, &mut out);
        number(START_VERSION, self.start_ts.get(), &mut out);
        number(END_VERSION, self.end_ts.get(), &mut out);
        text(BR_VERSION, writer, &mut out);
        out
    }

    /// Reads the message; fields that are not of interest are skipped.
    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, CodecError> {
        let mut head = BackupMetaHead::default();
        while !bytes.is_empty() {
            let tag = take_var_u64(&mut bytes)?;
            match (tag >> 3, tag & 7) {
                (CLUSTER_ID, VARINT) => head.cluster_id = take_var_u64(&mut bytes)?,
                (START_VERSION, VARINT) => head.start_ts = Ts::new(take_var_u64(&mut bytes)?),
                (END_VERSION, VARINT) => head.end_ts = Ts::new(take_var_u64(&mut bytes)?),
                (_, wire) => skip(wire, &mut bytes)?,
            }
        }
        Ok(head)
    }
}

fn number(field: u64, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        encode_var_u64(field << 3 | VARINT, out);
        encode_var_u64(value, out);
    }
}

fn text(field: u64, value: &str, out: &mut Vec<u8>) {
    encode_var_u64(field << 3 | BYTES, out);
    encode_var_u64(value.len() as u64, out);
    out.extend_from_slice(value.as_bytes());
}

fn skip(wire: u64, bytes: &mut &[u8]) -> Result<(), CodecError> {
    let length = match wire {
        VARINT => return take_var_u64(bytes).map(drop),
        FIXED64 => 8,
        FIXED32 => 4,
        BYTES => usize::try_from(take_var_u64(bytes)?).map_err(|_| CodecError::BadLength)?,
        other => return Err(CodecError::UnknownFlag(other as u8)),
    };
    take(bytes, length).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_format::proto::BackupMeta;
    use prost::Message;

    #[test]
    fn reads_and_writes_what_kvproto_says() {
        let head = BackupMetaHead::of_log(7, Ts::new(u64::MAX));
        let written = BackupMeta::decode(&head.encode("logtide 1")[..]).unwrap();
        assert_eq!((written.cluster_id, written.start_version, written.end_version), (7, u64::MAX, 0));
        assert_eq!(written.br_version, "logtide 1");

        let theirs = BackupMeta { cluster_id: 3, end_version: 9, br_version: "v9".to_owned(), version: 1, ..written };
        let read = BackupMetaHead::decode(&theirs.encode_to_vec()).unwrap();
        assert_eq!(read, BackupMetaHead { cluster_id: 3, start_ts: Ts::MAX, end_ts: Ts::new(9) });
    }

    #[test]
    fn garbage_is_refused_without_panic() {
        for bad in [&b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..], b"\x0f", b"\x28", b"\x12\x05ab"] {
            assert!(BackupMetaHead::decode(bad).is_err(), "{bad:?}");
        }
    }
}
