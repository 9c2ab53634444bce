//! How the memory of a restore is shared out, and the gate that holds reads back until there is some.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use logtide_format::Keys;
use logtide_model::{MemoryBudget, Permit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::meter::joined;
use crate::sort::Runs;
use crate::{RestoreError, RestoreOptions};

/// The least memory that a restore works in.
pub const MIN_MEMORY: usize = 32 << 20;
/// A decoded metadata object takes about this many times its bytes.
pub(crate) const DECODED: u64 = 4;
/// Memory for one more thread pays only from here.
const MEMORY_PER_WORKER: usize = 16 << 20;
/// Largest coalesced read: one request's latency is small against it, and it leaves room for others.
const MAX_READ: usize = 8 << 20;
const MIN_READ: usize = 256 << 10;
/// Windows into spilled runs: small enough for many, large enough for sequential disk reads.
const MAX_WINDOW: usize = 1 << 20;

/// Shares of the memory flag. While fetching: reads 3/8, sort buffers 1/2, merging of runs 1/8. While merging, what is
/// left in sort buffers stays (1/2), and the other half is windows, a sorter of references, and SST writers. A search for
/// lost values has a second sorter, before anything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Threads that decode, and later merge.
    pub(crate) workers: usize,
    /// Bytes of reads and their decompressed content, together.
    pub(crate) fetch: usize,
    /// Bytes of a worker's sort buffers.
    pub(crate) sort: usize,
    /// Bytes of a worker's buffer of references from commits to values.
    pub(crate) references: usize,
    /// Runs that are merged at once.
    pub(crate) fan_in: usize,
    /// Bytes of a window into a spilled run.
    pub(crate) window: usize,
    /// The most bytes of a coalesced read.
    pub(crate) read: usize,
}

impl Shares {
    /// Shares of `memory` bytes for at most `cores` threads and `concurrency` reads.
    pub(crate) fn of(memory: usize, cores: usize, concurrency: usize) -> Self {
        let workers = (memory / MEMORY_PER_WORKER).clamp(1, cores.max(1));
        let fan_in = if memory >= 4 * MIN_MEMORY { 32 } else { 16 };
        let fetch = memory / 8 * 3;
        Shares {
            workers,
            fetch,
            sort: memory / 2 / workers,
            references: memory / 8 / workers,
            fan_in,
            window: (memory / 8 / workers / (2 * fan_in + 4)).min(MAX_WINDOW),
            read: (fetch / concurrency.max(1) / 4).clamp(MIN_READ, MAX_READ),
        }
    }
}

/// What the stages of a restore work with. Cloning shares the budget.
#[derive(Clone, Debug)]
pub(crate) struct Means {
    /// The flag, in bytes.
    pub(crate) memory: usize,
    /// All that is accounted.
    pub(crate) budget: MemoryBudget,
    /// How the memory is shared out.
    pub(crate) shares: Shares,
    /// Reads from the storage at once.
    pub(crate) concurrency: usize,
    /// Where temporary files go.
    pub(crate) temp_dir: PathBuf,
    /// What data objects are decrypted with.
    pub(crate) keys: Arc<Keys>,
    /// The caller's task does all work.
    inline: bool,
}

impl Means {
    /// As the options say, with temporary files in `temp_dir` if they do not say where.
    pub(crate) fn new(options: &RestoreOptions, temp_dir: &Path) -> Self {
        let cores = options.threads.unwrap_or_else(cores);
        let concurrency = options.concurrency.max(1);
        Means {
            memory: options.memory,
            budget: MemoryBudget::new(options.memory),
            shares: Shares::of(options.memory, cores, concurrency),
            concurrency,
            temp_dir: options.temp_dir.clone().unwrap_or_else(|| temp_dir.to_owned()),
            keys: options.keys.clone(),
            inline: options.threads == Some(0),
        }
    }

    /// Sorted runs in temporary files.
    pub(crate) fn runs(&self) -> Runs {
        let Shares { fan_in, window, .. } = self.shares;
        Runs::new(self.temp_dir.clone(), fan_in, window, self.budget.clone())
    }

    /// Does work that blocks or takes a processor: on a thread made for that, or here.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, RestoreError> + Send + 'static,
    ) -> Result<T, RestoreError> {
        if self.inline { work() } else { joined(tokio::task::spawn_blocking(work).await) }
    }
}

/// Asking the system takes longer than a small restore.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZero::get))
}

/// Lets reads through while their bytes fit.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    semaphore: Arc<Semaphore>,
    kib: u32,
    memory: usize,
    budget: MemoryBudget,
}

/// Bytes that were let through the gate; dropping gives them back.
#[derive(Debug)]
pub(crate) struct Held {
    _turn: OwnedSemaphorePermit,
    _permit: Permit,
}

impl Gate {
    /// A gate for `bytes` bytes at once, a fixed share of the memory.
    pub(crate) fn new(bytes: usize, means: &Means) -> Self {
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32);
        let (memory, budget) = (means.memory, means.budget.clone());
        Gate { semaphore: Arc::new(Semaphore::new(kib as usize)), kib, memory, budget }
    }

    /// Waits until there is room for `bytes` bytes of `what`.
    ///
    /// # Errors
    /// [`RestoreError::Memory`] if there never will be.
    pub(crate) async fn pass(&self, bytes: u64, what: impl FnOnce() -> String) -> Result<Held, RestoreError> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        if kib > self.kib {
            let share = self.memory as f64 / (f64::from(self.kib) * 1024.0);
            let needed = (bytes as f64 * share).ceil() as usize + (1 << 20);
            return Err(RestoreError::Memory { what: what(), needed, memory: self.memory });
        }
        let turn = self.semaphore.clone().acquire_many_owned(kib).await.map_err(|_| RestoreError::Cancelled)?;
        Ok(Held { _turn: turn, _permit: self.budget.force_acquire(bytes as usize) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_fit_in_the_flag() {
        for memory in [MIN_MEMORY, 64 << 20, 256 << 20, 4 << 30] {
            for cores in [1, 2, 8, 64] {
                let s = Shares::of(memory, cores, 16);
                let run_windows = s.workers * (s.fan_in + 2) * s.window;
                assert!(s.fetch + s.workers * s.sort + run_windows <= memory, "{s:?}");
                let sst = 2 << 20;
                let merging = s.references + (2 * s.fan_in + 2) * s.window + sst;
                assert!(s.workers * (s.sort + merging) <= memory, "{s:?}");
                // In search of lost values: suspects and what is found, and a third set of windows.
                let more_windows = (3 * s.fan_in + 2) * s.window;
                assert!(s.workers * (s.sort + 2 * s.references + more_windows) <= memory, "{s:?}");
                assert!(s.workers * (s.sort + s.references + more_windows + sst) <= memory, "{s:?}");
                assert!(s.window >= 16 << 10 && s.references >= 2 << 20 && s.sort >= 4 << 20, "{s:?}");
            }
        }
    }

    #[test]
    fn what_never_fits_is_refused_with_the_flag_to_set() {
        let mut options = RestoreOptions::new("target");
        options.memory = 8 << 20;
        let means = Means::new(&options, Path::new("."));
        let gate = Gate::new(3 << 20, &means);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(gate.pass(6 << 20, || "o".into())).unwrap_err();
        assert!(matches!(error, RestoreError::Memory { needed, .. } if needed >= 16 << 20), "{error}");
        let held = runtime.block_on(gate.pass(3 << 20, || "o".into())).unwrap();
        assert_eq!(means.budget.used(), 3 << 20);
        drop(held);
        assert_eq!(means.budget.used(), 0);
    }
}
