//! Key material that shows itself to nobody.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroize;

/// A key, a password, anything that must not appear in a log, an error, a status or a dump: it is overwritten when it is
/// dropped, and its `Debug` form tells its length alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretKey(Vec<u8>);

/// Text that is no key. It does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a key is written as an even number of hexadecimal digits; this has {digits} characters, or others among them")]
pub struct InvalidKey {
    /// Length of the text, without a newline at its end.
    pub digits: usize,
}

impl SecretKey {
    /// A secret of those bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        SecretKey(bytes.into())
    }

    /// The key that hexadecimal digits stand for, as `br` takes data keys and TiKV has master keys in files; one newline
    /// at the end is not part of it.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn from_hex(text: &str) -> Result<Self, InvalidKey> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text).as_bytes();
        let invalid = InvalidKey { digits: text.len() };
        if text.is_empty() || !text.len().is_multiple_of(2) {
            return Err(invalid);
        }
        // Made at once at its full length: a vector that grows leaves copies behind.
        let mut key = SecretKey(vec![0; text.len() / 2]);
        for (byte, pair) in key.0.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).ok_or(invalid);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(key)
    }

    /// The bytes: for ciphers and requests, never for people.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({} bytes)", self.len())
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A URL as anybody may see it: without its parameters, and without what stands before an `@`, for credentials come in
/// both. Text that is no URL keeps what comes before a `?` or a `#`.
pub fn without_credentials(url: &str) -> String {
    let head = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = head.split_once("://") else { return head.to_owned() };
    let host = rest.split('/').next().unwrap_or_default();
    // A secret key may hold slashes: what stands before the last `@` goes.
    let shown = if host.contains(['@', ':']) { rest.rsplit('@').next().unwrap_or_default() } else { rest };
    format!("{scheme}://{shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_tells_the_length_alone() {
        let key = SecretKey::new(*b"topsecret");
        assert_eq!(format!("{key:?} {:?}", Some(&key)), "SecretKey(9 bytes) Some(SecretKey(9 bytes))");
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        for (url, shown) in [
            ("s3://b/p?secret-access-key=S", "s3://b/p"),
            ("s3://b#S", "s3://b"),
            ("s3://K:a/b@c@bucket/p", "s3://bucket/p"),
            ("local:///a@b", "local:///a@b"),
            ("/dir?S", "/dir"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }

    #[test]
    fn hexadecimal_digits_are_read() {
        for text in ["00ffAb", "00ffAb\n", "00ffAb\r\n"] {
            assert_eq!(SecretKey::from_hex(text).unwrap().expose(), [0, 0xff, 0xab]);
        }
        for (bad, digits) in [("", 0), ("0", 1), ("0g", 2), ("00 1", 4), ("00\n\n", 3), ("+1", 2)] {
            let error = SecretKey::from_hex(bad).unwrap_err();
            assert_eq!(error, InvalidKey { digits });
        }
        let error = SecretKey::from_hex("badc0ffee").unwrap_err().to_string();
        assert!(!error.contains("badc0ffee") && error.contains('9'), "{error}");
    }
}
