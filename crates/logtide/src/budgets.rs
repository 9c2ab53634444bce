//! The accounted memory (and disk) of a store, by what it is for.

use std::sync::Arc;

use bytesize::ByteSize;
use logtide_model::MemoryBudget;
use logtide_temp_file::{Files, SpoolDisk, SpoolRoom};

use crate::Config;

/// See the module. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Budgets {
    /// The whole of events, locks and scans.
    observing: MemoryBudget,
    pub(crate) events: MemoryBudget,
    pub(crate) spool: SpoolRoom,
    pub(crate) locks: MemoryBudget,
    pub(crate) scan: MemoryBudget,
    pub(crate) upload: MemoryBudget,
}

impl Budgets {
    pub(crate) fn new(config: &Config, files: Arc<dyn Files>) -> Self {
        let budget = |size| MemoryBudget::new(bytes(size));
        let observing = budget(config.memory_quota);
        Budgets {
            events: observing.within(bytes(config.pending_memory_quota)),
            spool: SpoolRoom {
                memory: budget(config.temp_file_memory_quota),
                disk: SpoolDisk::with_files(&config.temp_path, config.temp_file_disk_quota.as_u64(), files),
            },
            locks: observing.within(bytes(config.lock_memory_quota)),
            scan: observing.within(bytes(config.initial_scan_pending_memory_quota)),
            upload: budget(config.upload_memory_quota),
            observing,
        }
    }

    /// Changes the limits; what is taken already stays taken.
    pub(crate) fn resize(&self, config: &Config) {
        self.observing.set_limit(bytes(config.memory_quota));
        self.events.set_limit(bytes(config.pending_memory_quota));
        self.spool.memory.set_limit(bytes(config.temp_file_memory_quota));
        self.spool.disk.set_quota(config.temp_file_disk_quota.as_u64());
        self.locks.set_limit(bytes(config.lock_memory_quota));
        self.scan.set_limit(bytes(config.initial_scan_pending_memory_quota));
        self.upload.set_limit(bytes(config.upload_memory_quota));
    }

    /// With the names that metrics have for them.
    pub(crate) fn named(&self) -> [(&'static str, &MemoryBudget); 5] {
        [
            ("events", &self.events),
            ("spool", &self.spool.memory),
            ("locks", &self.locks),
            ("scan", &self.scan),
            ("upload", &self.upload),
        ]
    }
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}
