//! Checkpoint objects: 8 bytes, little endian.

use logtide_model::Ts;

use crate::FormatError;

/// The content of a checkpoint object.
pub fn encode_checkpoint(ts: Ts) -> [u8; 8] {
    ts.get().to_le_bytes()
}

/// Reads a checkpoint object.
///
/// # Errors
/// [`FormatError::Malformed`] for anything but 8 bytes.
pub fn decode_checkpoint(object: &str, bytes: &[u8]) -> Result<Ts, FormatError> {
    let ts: &[u8; 8] = bytes.try_into().map_err(|_| FormatError::Malformed {
        object: object.to_owned(),
        offset: bytes.len().min(8) as u64,
        what: format!("a checkpoint has 8 bytes, this has {}", bytes.len()),
    })?;
    Ok(Ts::new(u64::from_le_bytes(*ts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bytes_little_endian() {
        let bytes = encode_checkpoint(Ts::new(0x0102));
        assert_eq!(bytes, [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode_checkpoint("1.ts", &bytes).unwrap(), Ts::new(0x0102));
        for bad in [&bytes[..7], &[0; 9], b""] {
            let error = decode_checkpoint("v1/global_checkpoint/1.ts", bad).unwrap_err().to_string();
            assert!(error.contains("v1/global_checkpoint/1.ts") && error.contains(&format!("has {}", bad.len())));
        }
    }
}
