//! The bytes of a record, in memory as in a spilled run: two u32 lengths, the key, the payload.

/// Bytes in front of the key.
pub(crate) const HEADER: usize = 8;

/// The length of a record.
pub(crate) fn len(key_len: usize, payload_len: usize) -> usize {
    HEADER + key_len + payload_len
}

/// Appends a record whose payload is the concatenation of `payload`, of `payload_len` bytes together.
pub(crate) fn encode(key: &[u8], payload_len: usize, payload: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(&header(key.len(), payload_len));
    out.extend_from_slice(key);
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

/// The header of a record.
pub(crate) fn header(key_len: usize, payload_len: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&(key_len as u32).to_le_bytes());
    header[4..].copy_from_slice(&(payload_len as u32).to_le_bytes());
    header
}

/// The lengths of key and payload, from at least [`HEADER`] bytes.
pub(crate) fn lengths(bytes: &[u8]) -> (usize, usize) {
    let at = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]) as usize;
    (at(0), at(4))
}

/// The key of the record that starts here.
pub(crate) fn key(bytes: &[u8]) -> &[u8] {
    let (key, _) = lengths(bytes);
    &bytes[HEADER..HEADER + key]
}

/// Key and payload of the record that starts here.
pub(crate) fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (key, payload) = lengths(bytes);
    let (key, rest) = bytes[HEADER..].split_at(key);
    (key, &rest[..payload])
}
