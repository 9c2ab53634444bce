//! The part of `br`'s `backupmeta` object that says whose a log backup is.
//!
//! `br log metadata` and `br restore point` read it; a full backup in the same prefix has one with an end version.

use logtide_format::proto::BackupMeta;
use logtide_model::Ts;
use prost::{DecodeError, Message};

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
        let message = BackupMeta {
            cluster_id: self.cluster_id,
            cluster_version: writer.to_owned(),
            start_version: self.start_ts.get(),
            end_version: self.end_ts.get(),
            br_version: writer.to_owned(),
            ..BackupMeta::default()
        };
        message.encode_to_vec()
    }

    /// Reads the message; fields that are not of interest are skipped.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let BackupMeta { cluster_id, start_version, end_version, .. } = BackupMeta::decode(bytes)?;
        Ok(BackupMetaHead { cluster_id, start_ts: Ts::new(start_version), end_ts: Ts::new(end_version) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_kvproto_has_it_and_what_else_it_may_hold_is_skipped() {
        // Fields by number: cluster_id 1, cluster_version 2, start_version 5, br_version 11.
        let mut bytes = vec![0x08, 7, 0x12, 1, b'w', 0x28, 0x80, 0x02, 0x5a, 1, b'w'];
        assert_eq!(BackupMetaHead::of_log(7, Ts::new(256)).encode("w"), bytes);
        // An end version (6), as of a full backup; a schema (4) and a number of a field that nobody has yet.
        bytes.extend([0x30, 9, 0x22, 2, 0xff, 0xff, 0xf8, 0x07, 1]);
        let read = BackupMetaHead::decode(&bytes).unwrap();
        assert_eq!(read, BackupMetaHead { cluster_id: 7, start_ts: Ts::new(256), end_ts: Ts::new(9) });
    }

    #[test]
    fn garbage_is_refused_without_panic() {
        for bad in [&b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..], b"\x0f", b"\x28", b"\x12\x05ab"] {
            assert!(BackupMetaHead::decode(bad).is_err(), "{bad:?}");
        }
    }
}
