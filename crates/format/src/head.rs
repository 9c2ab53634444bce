//! Heads: the newest metadata object of a store's boot, for that one no later object names.
//!
//! One small object per store and boot, below a prefix where no other reader of the format looks. It is written after
//! the metadata object that it names and before anything that rests on it is published, and overwritten with the next
//! one: whatever became of a put, it names an object that was durable. A metadata object that others were merged into has
//! a head of its own, until a later merged one names it as its predecessor. Its content is the name of the metadata object, a
//! space, the name's [`content_crc`] in hexadecimal and a line feed.

use crate::name::hex16;
use crate::{FormatError, MetaName, ObjectTag, content_crc};

/// Where heads are.
pub const HEAD_PREFIX: &str = "v1/logtide/heads";

/// The head of a store's boot.
pub fn head_path(store_id: u64, boot: u64) -> String {
    format!("{HEAD_PREFIX}/{store_id:016X}-{boot:016X}")
}

/// The head of a merged metadata object: its successor names only the last generation of it, with the ts of that one.
pub fn merged_head_path(store_id: u64, tag: ObjectTag) -> String {
    format!("{}-{:016X}", head_path(store_id, tag.boot), tag.generation)
}

/// Whose head an object is: the store, the boot, and the generation for that of a merged metadata object. `None` if it is
/// none.
pub fn parse_head_path(object_path: &str) -> Option<(u64, u64, Option<u64>)> {
    let name = object_path.strip_prefix(HEAD_PREFIX)?.strip_prefix('/')?;
    let mut parts = name.split('-').map(hex16);
    let (store_id, boot, generation) = (parts.next()??, parts.next()??, parts.next());
    match (generation, parts.next()) {
        (None, None) => Some((store_id, boot, None)),
        (Some(Some(generation)), None) => Some((store_id, boot, Some(generation))),
        _ => None,
    }
}

/// The content of a head that names a metadata object.
pub fn encode_head(metadata_path: &str) -> Vec<u8> {
    format!("{metadata_path} {:016X}\n", content_crc(metadata_path.as_bytes())).into_bytes()
}

/// The metadata object that a head names: its path, and what its name says.
///
/// # Errors
/// [`FormatError::Malformed`] for anything but what [`encode_head`] wrote; [`FormatError::BadName`].
pub fn decode_head(object: &str, bytes: &[u8]) -> Result<(String, MetaName), FormatError> {
    let path = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once(' ')).map(|(path, _)| path);
    match path {
        Some(path) if encode_head(path) == bytes => Ok((path.to_owned(), MetaName::parse(path)?)),
        _ => Err(FormatError::Malformed {
            object: object.to_owned(),
            offset: 0,
            what: "a head is the name of a metadata object and its checksum".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MetaLink;
    use logtide_model::Ts;

    #[test]
    fn a_head_is_read_back_or_refused() {
        let ts = Ts::new;
        let tag = Some(ObjectTag { boot: 2, generation: 7 });
        let name =
            MetaName { flush_ts: ts(9), store_id: 1, min_begin_ts: ts(3), min_ts: ts(4), max_ts: ts(5), flags: 0, tag };
        let path = name.linked_path(&MetaLink { crc: 3, previous: None, merged: 0 });
        let bytes = encode_head(&path);
        assert_eq!(decode_head("h", &bytes).unwrap(), (path, name));
        for i in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[i] ^= 1;
            let error = decode_head("v1/logtide/heads/7", &damaged).unwrap_err().to_string();
            assert!(error.contains("v1/logtide/heads/7"), "{error}");
            assert!(decode_head("h", &bytes[..i]).is_err());
        }
        assert_eq!(head_path(1, 0xab), "v1/logtide/heads/0000000000000001-00000000000000AB");
        let merged = merged_head_path(1, ObjectTag { boot: 2, generation: 7 });
        assert_eq!(merged, "v1/logtide/heads/0000000000000001-0000000000000002-0000000000000007");
        assert_eq!(parse_head_path(&merged), Some((1, 2, Some(7))));
        assert_eq!(parse_head_path(&head_path(1, 0xab)), Some((1, 0xab, None)));
        for other in ["v1/logtide/heads/x", "v1/logtide/marks/0-0", &format!("{merged}-1"), &merged[..49]] {
            assert_eq!(parse_head_path(other), None, "{other}");
        }
    }
}
