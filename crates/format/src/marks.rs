//! Marks: what happened to a key range that no log record can tell, as a range delete, so that a restore does not
//! pretend to know better.
//!
//! A generation with marks has one small object of them, below a prefix where no other reader of the format looks. Like a
//! data object it has to be durable before the generation is committed, and has a name that follows from the
//! generation. Its content is a protobuf message and, in the last eight bytes (little endian), [`content_crc`] of it.

use logtide_model::{Cf, KeyRange, RegionId, Ts};
use prost::Message;

use crate::{FormatError, ObjectTag, content_crc, proto};

/// Where marks are.
pub const MARKS_PREFIX: &str = "v1/logtide/marks";
/// Bytes of the checksum.
const CRC: usize = 8;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MarkKind {
    /// A range of keys was removed past MVCC: the log brings them back.
    RangeDelete,
    /// A sorted file was added past MVCC: the log does not have its keys.
    Ingest,
    /// A record that is none of MVCC: the log does not have it.
    BadRecord,
    /// Something that only a later version knows.
    Other(i32),
}

/// A key range that cannot be restored exactly to any ts above [`after`](Self::after), from a base below
/// [`before`](Self::before).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What happened.
    pub kind: MarkKind,
    /// In which region.
    pub region_id: RegionId,
    /// The version of the region's epoch.
    pub version: u64,
    /// To which column family.
    pub cf: Cf,
    /// To which encoded keys; where the exact ones are not known, those of the region.
    pub range: KeyRange,
    /// It happened after everything up to here was resolved: the checkpoint of the region's last seal before it.
    pub after: Ts,
    /// It had happened when this ts was taken: the barrier of the seal that has it.
    pub before: Ts,
}

/// The object of a generation's marks.
pub fn marks_path(store_id: u64, tag: ObjectTag) -> String {
    let ObjectTag { boot, generation } = tag;
    format!("{MARKS_PREFIX}/{store_id:016X}-{boot:016X}-{generation:016X}")
}

/// The content of an object of marks.
pub fn encode_marks(store_id: u64, marks: &[Mark]) -> Vec<u8> {
    let mut bytes = proto::Marks { store_id, marks: marks.iter().map(to_proto).collect() }.encode_to_vec();
    let crc = content_crc(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// The store, and its marks.
///
/// # Errors
/// [`FormatError::Malformed`].
pub fn decode_marks(object: &str, bytes: &[u8]) -> Result<(u64, Vec<Mark>), FormatError> {
    let malformed = |what: &str| FormatError::Malformed { object: object.to_owned(), offset: 0, what: what.to_owned() };
    let (message, crc) = bytes.split_last_chunk::<CRC>().ok_or_else(|| malformed("marks end with a checksum"))?;
    if content_crc(message) != u64::from_le_bytes(*crc) {
        return Err(malformed("the checksum is not that of these marks"));
    }
    let message = proto::Marks::decode(message).map_err(|e| malformed(&e.to_string()))?;
    let mark = |mark: proto::Mark| {
        Ok(Mark {
            kind: kind(mark.kind),
            region_id: mark.region_id,
            version: mark.version,
            cf: Cf::from_name(&mark.cf)
                .ok_or_else(|| malformed(&format!("no column family is named {:?}", mark.cf)))?,
            range: KeyRange::new(mark.start_key, mark.end_key),
            after: Ts::new(mark.after),
            before: Ts::new(mark.before),
        })
    };
    Ok((message.store_id, message.marks.into_iter().map(mark).collect::<Result<_, _>>()?))
}

fn to_proto(mark: &Mark) -> proto::Mark {
    proto::Mark {
        kind: match mark.kind {
            MarkKind::RangeDelete => 1,
            MarkKind::Ingest => 2,
            MarkKind::BadRecord => 3,
            MarkKind::Other(kind) => kind,
        },
        region_id: mark.region_id,
        version: mark.version,
        cf: mark.cf.name().to_owned(),
        start_key: mark.range.start.to_vec(),
        end_key: mark.range.end.to_vec(),
        after: mark.after.get(),
        before: mark.before.get(),
    }
}

fn kind(number: i32) -> MarkKind {
    match number {
        1 => MarkKind::RangeDelete,
        2 => MarkKind::Ingest,
        3 => MarkKind::BadRecord,
        other => MarkKind::Other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> Vec<Mark> {
        let kinds = [MarkKind::RangeDelete, MarkKind::Ingest, MarkKind::BadRecord, MarkKind::Other(9)];
        let mark = |(n, kind): (u64, MarkKind)| Mark {
            kind,
            region_id: n,
            version: 3,
            cf: if n.is_multiple_of(2) { Cf::Default } else { Cf::Write },
            range: KeyRange::new(vec![n as u8], if n == 3 { vec![] } else { vec![n as u8, 0] }),
            after: Ts::new(100 + n),
            before: Ts::new(200 + n),
        };
        (1..).zip(kinds).map(mark).collect()
    }

    #[test]
    fn marks_are_read_back_and_damage_is_refused() {
        let bytes = encode_marks(7, &marks());
        assert_eq!(decode_marks("o", &bytes).unwrap(), (7, marks()));
        for i in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[i] ^= 0x10;
            let error = decode_marks("v1/logtide/marks/x", &damaged).unwrap_err().to_string();
            assert!(error.contains("v1/logtide/marks/x"), "{error}");
            assert!(decode_marks("o", &bytes[..i]).is_err(), "cut off at {i}");
        }
        let path = marks_path(7, ObjectTag { boot: 2, generation: 11 });
        assert_eq!(path, "v1/logtide/marks/0000000000000007-0000000000000002-000000000000000B");
    }
}
