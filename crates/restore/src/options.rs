//! What to restore, to where, and with which means.

use std::path::PathBuf;
use std::sync::Arc;

use logtide_format::Keys;
use logtide_model::{KeyRange, Ts};

/// Memory of a restore if nothing is said: enough for logical files of some 90 MiB.
pub const DEFAULT_MEMORY: usize = 256 << 20;
/// Reads at once if nothing is said.
pub const DEFAULT_CONCURRENCY: usize = 16;

/// What to restore, to where, and with which means.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The ts to bring back; `None` for the checkpoint.
    pub restored_ts: Option<Ts>,
    /// The RocksDB directory to make. It must not exist, or be empty; its parent must exist. Nothing to
    /// [`crate::restore_to`].
    pub target: PathBuf,
    /// The most memory to use, in bytes; at least [`crate::MIN_MEMORY`].
    pub memory: usize,
    /// Reads from the storage at once.
    pub concurrency: usize,
    /// Encoded keys to restore; `None` for all.
    pub range: Option<KeyRange>,
    /// Where temporary files go; `None` for beside the target. They have no names: a crash leaves none behind.
    pub temp_dir: Option<PathBuf>,
    /// Threads that decode and merge; `None` for as many as cores and memory allow. With `Some(0)` the task that restores
    /// does all work itself: then nothing depends on the timing of threads, as a simulation needs it.
    pub threads: Option<usize>,
    /// Restore even where the log cannot tell what the keys were ([`RestoreError::Inexact`](crate::RestoreError::Inexact)):
    /// keys that were removed past MVCC come back, keys that were added so are missing. A commit whose value a range delete
    /// removed before it was backed up is restored as a delete ([`Counts::lost_values`](crate::Counts::lost_values)); that
    /// takes a second walk over the records, in the key ranges that the marks touch.
    pub allow_inexact: bool,
    /// What encrypted data objects are decrypted with. Their `Debug` shows no secret.
    pub keys: Arc<Keys>,
}

impl RestoreOptions {
    /// Everything up to the checkpoint, into `target`.
    pub fn new(target: impl Into<PathBuf>) -> Self {
        RestoreOptions {
            restored_ts: None,
            target: target.into(),
            memory: DEFAULT_MEMORY,
            concurrency: DEFAULT_CONCURRENCY,
            range: None,
            temp_dir: None,
            threads: None,
            allow_inexact: false,
            keys: Arc::default(),
        }
    }

    /// Everything up to the checkpoint, into a sink.
    pub fn for_sink() -> Self {
        RestoreOptions::new(PathBuf::new())
    }

    /// The directory that the target is in; the system's for temporary files if there is no target.
    pub(crate) fn parent(&self) -> PathBuf {
        match self.target.parent() {
            None => std::env::temp_dir(),
            Some(here) if here.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
        }
    }
}
