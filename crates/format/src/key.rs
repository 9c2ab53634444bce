//! Which logical file a record belongs to.

use logtide_model::{Cf, RAW_META_PREFIX};

/// What a record does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// It removes it.
    Delete,
    /// It sets it.
    Put,
}

/// What all records of a logical file have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey {
    /// The region that wrote them.
    pub region_id: u64,
    /// Their column family: default or write.
    pub cf: Cf,
    /// What they do.
    pub kind: EntryKind,
    /// Their keys begin with `m`: schema metadata of TiDB, which goes to objects of its own.
    pub is_meta: bool,
    /// The table that their keys name; 0 for keys that name none.
    pub table_id: i64,
}

impl FileKey {
    /// The logical file of a record. `encoded_key` is memcomparable and may have a timestamp.
    pub fn of(region_id: u64, cf: Cf, kind: EntryKind, encoded_key: &[u8]) -> FileKey {
        let is_meta = encoded_key.first() == Some(&RAW_META_PREFIX);
        let table_id = table_id(encoded_key).unwrap_or(0);
        FileKey { region_id, cf, kind, is_meta, table_id }
    }
}

/// First byte of raw keys of tables and indexes.
const TABLE_PREFIX: u8 = b't';
/// Bytes of a memcomparable group: 8 of data and a marker.
const GROUP: usize = 9;
/// Marker of a group that is full, so that another follows.
const FULL: u8 = 0xff;

/// The table that an encoded key names: `t`, then an i64 in big endian with its sign bit flipped. As in TiKV any key
/// that begins so has one, and a key whose encoding is malformed anywhere has none.
fn table_id(encoded: &[u8]) -> Option<i64> {
    let head: &[u8; 2 * GROUP] = encoded.first_chunk()?;
    if head[0] != TABLE_PREFIX || head[GROUP - 1] != FULL || head[2 * GROUP - 1] == FULL - 8 || !is_encoded(encoded) {
        return None;
    }
    let id = [head[1], head[2], head[3], head[4], head[5], head[6], head[7], head[GROUP]];
    Some((u64::from_be_bytes(id) ^ (1 << 63)) as i64)
}

/// True if `encoded` begins with a complete memcomparable value.
fn is_encoded(encoded: &[u8]) -> bool {
    let (groups, _) = encoded.as_chunks::<GROUP>();
    for [data @ .., marker] in groups {
        if *marker != FULL {
            let pad = u32::from(FULL - marker);
            let data: &[u8; GROUP - 1] = data;
            return pad <= 8 && u64::from_be_bytes(*data).trailing_zeros() >= 8 * pad;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_model::{Ts, append_ts, codec, encode_raw_key};
    use proptest::prelude::*;

    /// The definition, with allocations.
    fn table_id_by_decoding(encoded: &[u8]) -> Option<i64> {
        let raw = codec::decode_bytes(&mut &encoded[..]).ok()?;
        let id: [u8; 8] = raw.strip_prefix(b"t")?.get(..8)?.try_into().ok()?;
        Some((u64::from_be_bytes(id) ^ (1 << 63)) as i64)
    }

    fn of(key: &[u8]) -> (bool, i64) {
        let file = FileKey::of(1, Cf::Write, EntryKind::Put, key);
        (file.is_meta, file.table_id)
    }

    #[test]
    fn keys_of_every_sort() {
        let table = |id: i64| [&b"t"[..], &((id as u64) ^ (1 << 63)).to_be_bytes(), b"_r"].concat();
        for id in [0, 1, -1, i64::MAX, i64::MIN, 101] {
            assert_eq!(of(&encode_raw_key(&table(id))), (false, id));
        }
        assert_eq!(of(&encode_raw_key(&table(7)[..9])), (false, 7), "nothing follows the id");
        assert_eq!(of(&encode_raw_key(&table(7)[..8])), (false, 0), "the id is cut");
        assert_eq!(of(&encode_raw_key(b"mDB:1")), (true, 0));
        assert_eq!(of(&encode_raw_key(b"x\0\0\x01t12345678")), (false, 0), "a key space of API v2");
        assert_eq!(of(&encode_raw_key(b"txn-style-key")), (false, -545448530966647707), "of the interop backups");
        assert_eq!(of(b""), (false, 0));
    }

    proptest! {
        #[test]
        fn same_as_by_decoding(
            raw in prop_oneof![prop::collection::vec(any::<u8>(), 0..40), "t.{0,30}".prop_map(String::into_bytes)],
            flip in prop::option::of((any::<prop::sample::Index>(), any::<u8>())), ts: u64, cut in 0..60usize,
        ) {
            let mut key = encode_raw_key(&raw);
            append_ts(&mut key, Ts::new(ts));
            if let Some((at, byte)) = flip {
                let at = at.index(key.len());
                key[at] = byte;
            }
            key.truncate(key.len().saturating_sub(cut / 4));
            prop_assert_eq!(table_id(&key), table_id_by_decoding(&key));
        }
    }
}
