//! Key ranges as people write them: raw keys in hex.

use logtide_model::KeyRange;

use crate::report::Failure;

/// The encoded range of two raw keys in hex; empty for unbounded.
pub(crate) fn parse(start: &str, end: &str) -> Result<KeyRange, Failure> {
    let (start, end) = (key("--start-key", start)?, key("--end-key", end)?);
    let range = KeyRange::from_raw(&start, &end);
    if range.is_empty() {
        return Err(Failure::usage("--end-key is not above --start-key", "swap or correct the keys"));
    }
    Ok(range)
}

/// The two raw keys.
pub(crate) fn raw(start: &str, end: &str) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    parse(start, end)?;
    Ok((key("--start-key", start)?, key("--end-key", end)?))
}

fn key(flag: &str, hex: &str) -> Result<Vec<u8>, Failure> {
    hex::decode(hex)
        .map_err(|e| Failure::usage(format!("{flag} '{hex}' is not hex: {e}"), "write the raw key as hex digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        assert_eq!(parse("", "").unwrap(), KeyRange::ALL);
        assert!(parse("61", "62").unwrap().contains(&logtide_model::encode_raw_key(b"aa")));
        assert!(parse("62", "61").is_err());
        assert!(parse("xx", "").is_err());
    }
}
