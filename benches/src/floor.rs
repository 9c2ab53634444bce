//! The least that has to be done to events: encode, zstd-1, SHA-256 and CRC-64, over one contiguous buffer.

use crc64fast::Digest;
use sha2::{Digest as _, Sha256};

use crate::Workload;

/// Buffers that stay from run to run, so that a run pays for no new memory.
pub struct Floor {
    plain: Vec<u8>,
    stored: Vec<u8>,
    zstd: zstd::bulk::Compressor<'static>,
}

impl std::fmt::Debug for Floor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Floor").field("plain", &self.plain.len()).finish_non_exhaustive()
    }
}

impl Floor {
    /// For workloads of up to that many bytes.
    ///
    /// # Errors
    /// What zstd says if it has no memory.
    pub fn new(workload: &Workload) -> std::io::Result<Self> {
        // Room for the lengths in front of keys and values; written to once, so that all of it is there.
        let mut plain = vec![1; workload.bytes() + 8 * workload.events().count()];
        let mut stored = vec![1; zstd::zstd_safe::compress_bound(plain.len())];
        plain.clear();
        stored.clear();
        Ok(Floor { plain, stored, zstd: zstd::bulk::Compressor::new(1)? })
    }

    /// Does it, and returns something of all the results.
    ///
    /// # Errors
    /// What zstd says.
    pub fn run(&mut self, workload: &Workload) -> std::io::Result<u64> {
        let Floor { plain, stored, zstd } = self;
        plain.clear();
        stored.clear();
        let mut crc64xor = 0;
        for event in workload.events() {
            for part in [event.key, event.value] {
                plain.extend_from_slice(&(part.len() as u32).to_le_bytes());
                plain.extend_from_slice(part);
            }
            let mut crc = Digest::new();
            crc.write(event.key);
            crc.write(event.value);
            crc64xor ^= crc.sum64();
        }
        let sha256 = Sha256::digest(&plain);
        zstd.compress_to_buffer(plain, stored)?;
        Ok(crc64xor ^ u64::from(sha256[0]) ^ stored.len() as u64)
    }
}
