//! Heads: the newest metadata object of a store's boot, for that one no later object names.
//!
//! One small object per store and boot, below a prefix where no other reader of the format looks. It is written after
//! the metadata object that it names and before anything that rests on it is published, and overwritten with the next
//! one: whatever became of a put, it names an object that was durable. Its content is the name of the metadata object, a
//! space, the name's [`content_crc`] in hexadecimal and a line feed.

use crate::{FormatError, MetaName, content_crc};

/// Where heads are.
pub const HEAD_PREFIX: &str = "v1/logtide/heads";

/// The head of a store's boot.
pub fn head_path(store_id: u64, boot: u64) -> String {
    format!("{HEAD_PREFIX}/{store_id:016X}-{boot:016X}")
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
    use crate::{MetaLink, ObjectTag};
    use logtide_model::Ts;

    #[test]
    fn a_head_is_read_back_or_refused() {
        let ts = Ts::new;
        let tag = Some(ObjectTag { boot: 2, generation: 7 });
        let name =
            MetaName { flush_ts: ts(9), store_id: 1, min_begin_ts: ts(3), min_ts: ts(4), max_ts: ts(5), flags: 0, tag };
        let path = name.linked_path(&MetaLink { crc: 3, previous: None });
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
    }
}
