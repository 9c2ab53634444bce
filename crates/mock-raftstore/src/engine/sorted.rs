//! Sorted files that are to be ingested: their records, and how they lie on disk.
//!
//! A file is [`MAGIC`] and then, for each record, the lengths of key and value (4 bytes each, big endian), key, value.

use std::sync::Arc;

use bytes::Bytes;

/// Keys and values, ascending by key. Cloning shares them.
pub type SortedRecords = Arc<[(Bytes, Bytes)]>;

/// How a file begins.
const MAGIC: &[u8] = b"sorted1\n";

/// The bytes of a file.
#[cfg_attr(not(any(test, feature = "rocksdb")), allow(dead_code, reason = "engines in memory keep the records"))]
pub(crate) fn encode(records: &SortedRecords) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for (key, value) in records.iter() {
        out.extend_from_slice(&(key.len() as u32).to_be_bytes());
        out.extend_from_slice(&(value.len() as u32).to_be_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    out
}

/// The records of a file; `None` if it is damaged.
#[cfg_attr(not(any(test, feature = "rocksdb")), allow(dead_code, reason = "engines in memory keep the records"))]
pub(crate) fn decode(file: Bytes) -> Option<SortedRecords> {
    let mut rest = file.strip_prefix(MAGIC).map(|rest| file.slice_ref(rest))?;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (lengths, _) = rest.split_first_chunk::<8>()?;
        let [a, b, c, d, e, f, g, h] = *lengths;
        let key_len = u32::from_be_bytes([a, b, c, d]) as usize;
        let len = key_len.checked_add(u32::from_be_bytes([e, f, g, h]) as usize)?;
        let _ = rest.split_to(8);
        if rest.len() < len {
            return None;
        }
        let key = rest.split_to(key_len);
        records.push((key, rest.split_to(len - key_len)));
    }
    Some(records.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_round_trip_and_half_a_file_is_none() {
        let records: SortedRecords = [("a", ""), ("b", "value")].map(|(k, v)| (k.into(), v.into())).into();
        let file = Bytes::from(encode(&records));
        assert_eq!(decode(file.clone()), Some(records));
        assert_eq!(decode(file.slice(..file.len() - 1)), None);
        assert_eq!(decode(file.slice(1..)), None);
        assert_eq!(decode(Bytes::from_static(MAGIC)).map(|r| r.len()), Some(0));
    }
}
