//! Where a record came from, carried with it through the sort: it decides between two values of one version.
//!
//! A transaction may write the value of one key several times (pipelined flushes, retried prewrites), and the log
//! then holds several default-CF records of equal key and ts. The last one counts. What "last" means is known within
//! one store: its generations are ordered, and so are the records of a generation. Which store to believe is decided in
//! [`crate::resolve`].

use std::cmp::Ordering;

use logtide_model::codec::{self, CodecError};

/// The file of a record, in the order of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileOrigin {
    /// The store that wrote it.
    pub(crate) store: u64,
    /// The flush that wrote it.
    pub(crate) flush_ts: u64,
    /// Boot epoch of the store; 0 where the writer does not say.
    pub(crate) boot: u64,
    /// Generation within the boot; 0 where the writer does not say.
    pub(crate) generation: u64,
    /// Version of the region's epoch: of two regions that held one key in turn, the later has the larger.
    pub(crate) version: u64,
    /// The place of the file in its metadata object.
    pub(crate) file: u64,
}

/// A record's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) file: FileOrigin,
    /// The place of the record in its file.
    pub(crate) record: u64,
}

impl FileOrigin {
    /// Appends all that the records of the file have in common.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for n in [self.store, self.flush_ts, self.boot, self.generation, self.version, self.file] {
            codec::encode_var_u64(n, out);
        }
    }
}

impl Origin {
    /// Takes what [`FileOrigin::encode`] and a varint of the record's place wrote.
    ///
    /// # Errors
    /// [`CodecError`]: the spilled bytes are damaged.
    pub(crate) fn take(input: &mut &[u8]) -> Result<Origin, CodecError> {
        let mut next = || codec::take_var_u64(input);
        let file = FileOrigin {
            store: next()?,
            flush_ts: next()?,
            boot: next()?,
            generation: next()?,
            version: next()?,
            file: next()?,
        };
        Ok(Origin { file, record: next()? })
    }

    /// The order in which a store applied two records of one key. A flush ts counts only where the writer does not tell
    /// its generations apart: after a restart it may be smaller.
    pub(crate) fn order(&self, other: &Origin) -> Ordering {
        let of = |o: &FileOrigin| (o.boot, o.generation, o.flush_ts, o.version, o.file);
        of(&self.file).cmp(&of(&other.file)).then(self.record.cmp(&other.record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin(n: [u64; 7]) -> Origin {
        let [store, flush_ts, boot, generation, version, file, record] = n;
        Origin { file: FileOrigin { store, flush_ts, boot, generation, version, file }, record }
    }

    #[test]
    fn a_boot_counts_more_than_a_flush_ts() {
        let (old, new) = (origin([1, 102, 1, 9, 1, 0, 0]), origin([1, 100, 2, 1, 1, 0, 0]));
        assert_eq!(old.order(&new), Ordering::Less);
        assert_eq!(origin([1, 102, 0, 0, 1, 0, 0]).order(&origin([1, 100, 0, 0, 9, 9, 9])), Ordering::Greater);
    }

    proptest! {
        #[test]
        fn round_trips(n: [u64; 7]) {
            let mut bytes = Vec::new();
            origin(n).file.encode(&mut bytes);
            codec::encode_var_u64(n[6], &mut bytes);
            bytes.push(7);
            let mut rest = &bytes[..];
            prop_assert_eq!(Origin::take(&mut rest), Ok(origin(n)));
            prop_assert_eq!(rest, &[7]);
        }
    }
}
