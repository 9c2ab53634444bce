//! How a task fares on this store: written by its runner and the flusher's events, read for status and metrics.

use std::sync::Arc;
use std::time::SystemTime;

use logtide_flusher::Flushed;
use logtide_model::{TaskName, Ts};
use parking_lot::Mutex;

use crate::runner::Beat;
use crate::shards::ShardBoard;

/// Shared by the runner, the flusher's events and the heartbeat.
pub(crate) struct TaskProgress {
    task: TaskName,
    shards: Arc<ShardBoard>,
    state: Mutex<Snapshot>,
}

/// How it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// Regions that stated a checkpoint at the last seal.
    pub(crate) stated_regions: usize,
    /// The smallest of them.
    pub(crate) checkpoint: Option<Ts>,
    /// The last generation that was published, and what it put into the storage.
    pub(crate) last_flush: Option<LastFlush>,
    /// Objects and bytes put into the storage since the task began here.
    pub(crate) objects: u64,
    /// See `objects`.
    pub(crate) bytes: u64,
    /// What is being tried again: code, what, since when.
    pub(crate) trouble: Option<(String, String, SystemTime)>,
    /// What the storage cannot do, if something.
    pub(crate) shortcoming: Option<&'static str>,
    /// How often it is flushed, and what decides that.
    pub(crate) beat: Option<Beat>,
}

/// A flush that is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastFlush {
    pub(crate) generation: u64,
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    pub(crate) at: SystemTime,
}

impl TaskProgress {
    pub(crate) fn new(task: TaskName, shards: Arc<ShardBoard>) -> Self {
        TaskProgress { task, shards, state: Mutex::default() }
    }

    /// Raw bytes in the open generation, as the shards last said.
    pub(crate) fn open_bytes(&self) -> u64 {
        self.shards.stats().iter().map(|shard| shard.open_bytes(&self.task)).sum()
    }

    /// What the probe of the storage found missing.
    pub(crate) fn storage_is(&self, shortcoming: Option<&'static str>) {
        self.state.lock().shortcoming = shortcoming;
    }

    pub(crate) fn sealed(&self, stated_regions: usize, checkpoint: Option<Ts>) {
        let mut state = self.state.lock();
        state.stated_regions = stated_regions;
        state.checkpoint = checkpoint.or(state.checkpoint);
    }

    pub(crate) fn flushed(&self, generation: u64, flushed: &Flushed) {
        let mut state = self.state.lock();
        let (objects, bytes) = (flushed.objects as u64, flushed.bytes);
        state.last_flush = Some(LastFlush { generation, objects, bytes, at: SystemTime::now() });
        state.objects += objects;
        state.bytes += bytes;
        state.trouble = None;
    }

    /// Something is being tried again; the first time counts as its beginning.
    pub(crate) fn degraded(&self, code: &str, what: String) {
        let mut state = self.state.lock();
        let since = state.trouble.take().map_or_else(SystemTime::now, |(_, _, since)| since);
        state.trouble = Some((code.to_owned(), what, since));
    }

    /// How often it is flushed from now on.
    pub(crate) fn flushes_by(&self, beat: Beat) {
        self.state.lock().beat = Some(beat);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.state.lock().clone()
    }
}
