//! Base64 with padding (RFC 4648 §4), for the one field of TiDB's JSON that has it.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// `None` for what is no base64.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0;
        for i in 0..4 {
            let digit = group.get(i).map_or(Some(0), |d| ALPHABET.iter().position(|a| a == d))?;
            bits = bits << 6 | digit as u32;
        }
        let bytes = bits.to_be_bytes();
        out.extend_from_slice(bytes.get(1..group.len())?);
    }
    (digits.len() % 4 != 1).then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn rfc_vectors() {
        for (raw, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(super::encode(raw.as_bytes()), text);
            assert_eq!(super::decode(text).unwrap(), raw.as_bytes());
        }
        assert_eq!(super::decode("Z"), None);
        assert_eq!(super::decode("Zm9*"), None);
    }

    proptest! {
        #[test]
        fn round_trips(raw: Vec<u8>, text: String) {
            prop_assert_eq!(super::decode(&super::encode(&raw)), Some(raw));
            let _ = super::decode(&text);
        }
    }
}
