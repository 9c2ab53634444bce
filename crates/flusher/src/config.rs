//! What can be set about flushing.

use std::time::Duration;

use logtide_checkpoint::Backoff;
use logtide_model::MemoryBudget;

use crate::setback::all_pass;
use crate::{Blocking, Judge};

/// The smallest part that every storage takes (S3: all parts but the last have at least 5 MiB).
const LEAST_PART: usize = 5 << 20;

/// How a [`crate::Flusher`] works.
#[derive(Clone, Debug)]
pub struct FlushConfig {
    /// Stored bytes after which a data object is closed; it is larger by less than a block. Default: 256 MiB.
    pub file_size_limit: u64,
    /// Requests that upload at once, of all objects and generations together; the head, a small one that the publisher
    /// puts, comes on top. Default: 4. Minimum: 1.
    pub upload_concurrency: usize,
    /// Bytes that uploads may hold, besides metadata objects, which are accounted but never wait. May be shared by
    /// flushers. Default: 64 MiB.
    pub upload_memory: MemoryBudget,
    /// Bytes of a part of an object that is too large for a single put; smaller if the memory is tight. Default: 8 MiB.
    /// Minimum: 5 MiB where the storage asks for it (S3).
    pub part_size: usize,
    /// True if a probe of the storage proved that it honours create-if-absent. Otherwise an object is looked for before
    /// it is put. Default: false.
    pub create_if_absent: bool,
    /// How long a request may take before it is given up and repeated; it doubles with every failure in a row, up to 32
    /// times. Default: 2 min.
    pub request_timeout: Duration,
    /// What an error of the storage asks for. Default: all pass by themselves.
    pub judge: Judge,
    /// Where work that blocks is done. Default: on the runtime's threads for it.
    pub blocking: Blocking,
    /// Bytes that a metadata object has at most after others were merged into it. Default: 2 MiB: a restore with the
    /// least memory can read it.
    pub merged_size_limit: u64,
    /// How long to wait between tries. Default: 500 ms to 16 s.
    pub backoff: Backoff,
}

impl Default for FlushConfig {
    fn default() -> Self {
        FlushConfig {
            file_size_limit: 256 << 20,
            upload_concurrency: 4,
            upload_memory: MemoryBudget::new(64 << 20),
            part_size: 8 << 20,
            create_if_absent: false,
            request_timeout: Duration::from_secs(120),
            judge: all_pass,
            blocking: Blocking::Threads,
            merged_size_limit: 2 << 20,
            backoff: Backoff::default(),
        }
    }
}

impl FlushConfig {
    /// Bytes of a part, so that several fit into the memory if that is possible.
    pub(crate) fn part_bytes(&self) -> u64 {
        self.part_size.min((self.upload_memory.limit() / 4).max(LEAST_PART)).max(1) as u64
    }

    /// True if an object of that size is put at once: it saves the requests that begin and end an upload in parts.
    pub(crate) fn is_single_put(&self, bytes: u64) -> bool {
        let half = self.upload_memory.limit() as u64 / 2;
        bytes <= self.part_bytes() || bytes <= (2 * self.part_bytes()).min(half)
    }

    /// The patience with a request after `failures` failures in a row.
    pub(crate) fn timeout(&self, failures: u32) -> Duration {
        self.request_timeout.saturating_mul(1 << failures.min(5))
    }
}
