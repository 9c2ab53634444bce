//! Encoded keys with and without a timestamp.

use crate::Ts;
use crate::codec::{self, CodecError};

/// First byte of raw keys that hold schema metadata in TiDB ("meta keys").
pub const RAW_META_PREFIX: u8 = b'm';

/// The encoded (memcomparable) form of a raw user key, as region boundaries have it.
pub fn encode_raw_key(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    codec::encode_bytes(raw, &mut out);
    out
}

/// The raw user key of an encoded key without timestamp.
///
/// # Errors
/// [`CodecError`] where `key` is no memcomparable encoding, or something follows it.
pub fn decode_raw_key(key: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut rest = key;
    let raw = codec::decode_bytes(&mut rest)?;
    if rest.is_empty() { Ok(raw) } else { Err(CodecError::BadLength) }
}

/// Appends a timestamp to an encoded key: 8 bytes, big endian, inverted, so that newer sorts first.
pub fn append_ts(key: &mut Vec<u8>, ts: Ts) {
    key.extend_from_slice(&(!ts.get()).to_be_bytes());
}

/// Splits `encoded key ++ inverted ts`.
///
/// # Errors
/// [`CodecError::UnexpectedEof`] for a key shorter than a timestamp.
pub fn split_ts(key: &[u8]) -> Result<(&[u8], Ts), CodecError> {
    let (user, ts) = key.split_last_chunk::<8>().ok_or(CodecError::UnexpectedEof)?;
    Ok((user, Ts::new(!u64::from_be_bytes(*ts))))
}

/// The encoded key in front of the timestamp.
///
/// # Errors
/// [`CodecError::UnexpectedEof`] for a key shorter than a timestamp.
pub fn truncate_ts(key: &[u8]) -> Result<&[u8], CodecError> {
    split_ts(key).map(|(user, _)| user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_sort_first() {
        let (mut old, mut new) = (encode_raw_key(b"k"), encode_raw_key(b"k"));
        append_ts(&mut old, Ts::new(5));
        append_ts(&mut new, Ts::new(6));
        assert!(new < old);
        assert_eq!(split_ts(&new).unwrap(), (&encode_raw_key(b"k")[..], Ts::new(6)));
    }

    #[test]
    fn short_keys_are_refused() {
        assert_eq!(split_ts(b"1234567"), Err(CodecError::UnexpectedEof));
        assert_eq!(decode_raw_key(b""), Err(CodecError::UnexpectedEof));
    }
}
