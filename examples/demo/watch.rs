//! Looks at cluster, backup and storage regularly and puts what it sees on the screen.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use logtide_format::MetaLink;
use object_store::ObjectMeta;

use crate::Failed;
use crate::nodes::Nodes;
use crate::screen::{Screen, Vitals};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Counts of clients.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Bytes loaded.
    pub(crate) written: AtomicU64,
    /// Transfers done.
    pub(crate) transfers: AtomicU64,
}

/// Goes on until told to stop; answers the most accounted memory seen, in bytes.
pub(crate) fn watch(nodes: &Nodes, work: &Work, screen: &Screen, stop: &AtomicBool) {
    let mut last = (Instant::now(), 0, 0.0);
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(PAUSE);
        let now = (Instant::now(), work.written.load(Ordering::Relaxed), nodes.metric("logtide_flushed_bytes", false));
        let seconds = (now.0 - last.0).as_secs_f64();
        screen.show(Vitals {
            regions: nodes.cluster.stats().regions,
            write_rate: (now.1 - last.1) as f64 / seconds,
            backup_rate: (now.2 - last.2) / seconds,
            lag: lag(nodes),
            objects: nodes.metric("logtide_flushed_objects", false) as u64,
            bytes: now.2 as u64,
            memory: nodes.metric("logtide_memory_bytes", false) as u64,
            transfers: work.transfers.load(Ordering::Relaxed),
        });
        last = now;
    }
}

/// How far the global checkpoint is behind the cluster's clock.
fn lag(nodes: &Nodes) -> Option<Duration> {
    let checkpoint = nodes.metric("tidb_log_backup_last_checkpoint", true) as u64;
    let behind = nodes.cluster.pd().now_ms().saturating_sub(checkpoint >> 18);
    (checkpoint > 0).then(|| Duration::from_millis(behind))
}

/// What lies in the storage.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stored {
    /// Flushes that had something to flush: each has a metadata object, or is merged with others in one.
    pub(crate) flushes: u64,
    /// Metadata objects.
    pub(crate) metadata: u64,
    /// Data objects.
    pub(crate) data: u64,
    /// Bytes of both.
    pub(crate) bytes: u64,
}

impl Stored {
    /// Counts the objects of a storage.
    pub(crate) fn count(url: &str) -> Result<Stored, Failed> {
        let storage = logtide_storage::open(url)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let objects = storage.store.list(None);
            let count = objects.try_fold(Stored::default(), async |stored, object| Ok(stored.and(&object)));
            Ok(count.await?)
        })
    }

    fn and(mut self, object: &ObjectMeta) -> Stored {
        match object.location.extension() {
            Some("meta") => {
                self.metadata += 1;
                self.flushes += generations(object.location.as_ref());
            }
            Some("log") => self.data += 1,
            _ => return self,
        }
        self.bytes += object.size;
        self
    }
}

/// How many generations a metadata object tells of.
fn generations(path: &str) -> u64 {
    let link = MetaLink::parse(path).ok().flatten();
    link.map_or(1, |link| link.merged.max(1))
}
