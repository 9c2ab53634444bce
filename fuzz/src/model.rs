//! MVCC records and keys.

use logtide_model::mvcc::{Lock, Write};
use logtide_model::{SecretKey, append_ts, decode_raw_key, encode_raw_key, split_ts, truncate_ts};

/// A write record; what is accepted is read again from its own bytes.
pub(crate) fn write(bytes: &[u8]) {
    if let Ok(write) = Write::parse(bytes) {
        let again = write.to_bytes();
        assert_eq!(Write::parse(&again).ok(), Some(write), "of {bytes:?}");
    }
}

/// A lock.
pub(crate) fn lock(bytes: &[u8]) {
    let peek = Lock::peek(bytes);
    if let Ok(lock) = Lock::parse(bytes) {
        assert_eq!(peek.ok(), Some((lock.kind, lock.start_ts)), "of {bytes:?}");
        assert_eq!(Lock::parse(&lock.to_bytes()).ok(), Some(lock), "of {bytes:?}");
    }
}

/// Encoded keys, with and without a timestamp.
pub(crate) fn keys(bytes: &[u8]) {
    if let Ok(raw) = decode_raw_key(bytes) {
        assert!(bytes.starts_with(&encode_raw_key(&raw)), "of {bytes:?}");
    }
    if let Ok((key, ts)) = split_ts(bytes) {
        assert_eq!(truncate_ts(bytes).ok(), Some(key));
        let mut again = key.to_vec();
        append_ts(&mut again, ts);
        assert_eq!(again, bytes);
    }
}

/// A key in hexadecimal digits; neither it nor an error shows it.
pub(crate) fn secret(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = SecretKey::from_hex(text) {
        assert_eq!(key.len(), text.trim_end_matches(['\r', '\n']).len() / 2);
        assert_eq!(format!("{key:?}"), format!("SecretKey({} bytes)", key.len()));
    }
}
