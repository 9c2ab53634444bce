//! Byte encodings shared by keys and MVCC records: memcomparable bytes, varints, big-endian numbers.
//!
//! Decoders take `&mut &[u8]` and advance it past what they read. They never panic, and never
//! allocate more than their input is long.

use thiserror::Error;

/// Bytes of user data in one group of the memcomparable encoding.
const GROUP: usize = 8;
/// Marker of a full group; a group with `n` padding bytes is marked `0xff - n`.
const FULL: u8 = 0xff;

/// Input that is not what the encoding says it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// The input ends before the value does.
    #[error("the input ends too early")]
    UnexpectedEof,
    /// A memcomparable group has an impossible marker or padding that is not zero.
    #[error("a memcomparable group is malformed")]
    BadGroup,
    /// A varint is longer than 64 bits.
    #[error("a varint is longer than 64 bits")]
    BadVarint,
    /// A flag byte that no version of the encoding knows.
    #[error("unknown flag byte {0:#04x}")]
    UnknownFlag(u8),
    /// A length is negative or larger than what is left of the input.
    #[error("a length field is out of range")]
    BadLength,
}

/// Appends the memcomparable (order-preserving, self-delimiting) encoding of `raw`.
pub fn encode_bytes(raw: &[u8], out: &mut Vec<u8>) {
    out.reserve((raw.len() / GROUP + 1) * (GROUP + 1));
    let mut groups = raw.chunks_exact(GROUP);
    for group in &mut groups {
        out.extend_from_slice(group);
        out.push(FULL);
    }
    let rest = groups.remainder();
    let pad = GROUP - rest.len();
    out.extend_from_slice(rest);
    out.extend(std::iter::repeat_n(0, pad));
    out.push(FULL - pad as u8);
}

/// Reads one memcomparable value.
///
/// # Errors
/// [`CodecError::UnexpectedEof`] or [`CodecError::BadGroup`].
pub fn decode_bytes(input: &mut &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut raw = Vec::with_capacity(input.len() / (GROUP + 1) * GROUP);
    loop {
        let group = take(input, GROUP + 1)?;
        let pad = usize::from(FULL - group[GROUP]);
        if pad > GROUP {
            return Err(CodecError::BadGroup);
        }
        let (data, padding) = group[..GROUP].split_at(GROUP - pad);
        if padding.iter().any(|b| *b != 0) {
            return Err(CodecError::BadGroup);
        }
        raw.extend_from_slice(data);
        if pad > 0 {
            return Ok(raw);
        }
    }
}

/// Takes `n` bytes off the front.
///
/// # Errors
/// [`CodecError::UnexpectedEof`].
pub fn take<'a>(input: &mut &'a [u8], n: usize) -> Result<&'a [u8], CodecError> {
    let (head, tail) = input.split_at_checked(n).ok_or(CodecError::UnexpectedEof)?;
    *input = tail;
    Ok(head)
}

/// Takes one byte.
///
/// # Errors
/// [`CodecError::UnexpectedEof`].
pub fn take_u8(input: &mut &[u8]) -> Result<u8, CodecError> {
    Ok(take(input, 1)?[0])
}

/// Takes a big-endian u64.
///
/// # Errors
/// [`CodecError::UnexpectedEof`].
pub fn take_u64_be(input: &mut &[u8]) -> Result<u64, CodecError> {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(take(input, 8)?);
    Ok(u64::from_be_bytes(bytes))
}

/// Appends a LEB128 varint.
pub fn encode_var_u64(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Takes a LEB128 varint.
///
/// # Errors
/// [`CodecError::UnexpectedEof`] or [`CodecError::BadVarint`].
pub fn take_var_u64(input: &mut &[u8]) -> Result<u64, CodecError> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_u8(input)?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(CodecError::BadVarint);
        }
        n |= bits << shift;
        if byte < 0x80 {
            return Ok(n);
        }
    }
    Err(CodecError::BadVarint)
}

/// Appends "compact bytes": a zigzag varint length, then the bytes.
pub fn encode_compact_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    encode_var_u64((bytes.len() as u64) << 1, out);
    out.extend_from_slice(bytes);
}

/// Takes "compact bytes".
///
/// # Errors
/// [`CodecError::BadLength`] for a negative length, else as the parts.
pub fn take_compact_bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], CodecError> {
    let zigzag = take_var_u64(input)?;
    if zigzag & 1 == 1 {
        return Err(CodecError::BadLength);
    }
    let len = usize::try_from(zigzag >> 1).map_err(|_| CodecError::BadLength)?;
    take(input, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memcomparable_vectors() {
        // From the description of the encoding in MyRocks' wiki, which TiKV follows.
        for (raw, encoded) in [
            (&b""[..], "0000000000000000f7"),
            (&b"\x01\x02\x03"[..], "0102030000000000fa"),
            (&b"\x01\x02\x03\x04\x05\x06\x07\x08"[..], "0102030405060708ff0000000000000000f7"),
        ] {
            let mut out = Vec::new();
            encode_bytes(raw, &mut out);
            let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, encoded);
        }
    }

    #[test]
    fn malformed_groups_are_refused() {
        let bad_marker = [1, 0, 0, 0, 0, 0, 0, 0, 0xf0];
        assert_eq!(decode_bytes(&mut &bad_marker[..]), Err(CodecError::BadGroup));
        let bad_padding = [1, 0, 0, 0, 0, 0, 0, 9, 0xf8];
        assert_eq!(decode_bytes(&mut &bad_padding[..]), Err(CodecError::BadGroup));
        assert_eq!(decode_bytes(&mut &bad_padding[..5]), Err(CodecError::UnexpectedEof));
    }

    #[test]
    fn overlong_varint_is_refused() {
        assert_eq!(take_var_u64(&mut &[0xff; 11][..]), Err(CodecError::BadVarint));
        let mut out = Vec::new();
        encode_var_u64(u64::MAX, &mut out);
        assert_eq!(take_var_u64(&mut &out[..]), Ok(u64::MAX));
    }

    proptest! {
        #[test]
        fn memcomparable_keeps_order_and_value(a: Vec<u8>, b: Vec<u8>) {
            let (mut ea, mut eb) = (Vec::new(), Vec::new());
            encode_bytes(&a, &mut ea);
            encode_bytes(&b, &mut eb);
            prop_assert_eq!(a.cmp(&b), ea.cmp(&eb));
            prop_assert_eq!(decode_bytes(&mut &ea[..]), Ok(a));
        }

        #[test]
        fn decoders_never_panic(input: Vec<u8>) {
            let _ = decode_bytes(&mut &input[..]);
            let _ = take_var_u64(&mut &input[..]);
            let _ = take_compact_bytes(&mut &input[..]);
        }

        #[test]
        fn varints_round_trip(n: u64) {
            let mut out = Vec::new();
            encode_var_u64(n, &mut out);
            prop_assert_eq!(take_var_u64(&mut &out[..]), Ok(n));
        }
    }
}
