//! Says regularly how this store is: the status records in the coordinator, and the gauges.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use logtide_coordinator::{Degraded, LastFlush, NodeRecord, StoreStatus};
use logtide_model::{Diagnose, Task};
use tracing::debug;

use crate::budgets::Budgets;
use crate::node::Node;
use crate::progress::{Snapshot, TaskProgress};
use crate::scan_queue::ScanQueue;
use crate::supervisor::TaskBoard;

/// How often gauges are set.
const GAUGES: Duration = Duration::from_millis(200);
/// How often records are written.
const RECORDS: Duration = Duration::from_secs(1);

struct Heartbeat {
    node: Node,
    budgets: Budgets,
    scans: Arc<ScanQueue>,
    board: Arc<TaskBoard>,
    skipped: u64,
    dropped: u64,
    /// Since when something is the matter with the disk of the spool.
    spool_trouble: Option<SystemTime>,
}

/// Starts it; it ends when the store goes down.
pub(crate) fn start(
    node: &Node,
    budgets: Budgets,
    scans: Arc<ScanQueue>,
    board: Arc<TaskBoard>,
) -> std::io::Result<JoinHandle<()>> {
    let (skipped, dropped, spool_trouble) = Default::default();
    let mut heartbeat = Heartbeat { node: node.clone(), budgets, scans, board, skipped, dropped, spool_trouble };
    thread::Builder::new().name("logtide-heartbeat".into()).spawn(move || {
        let mut recorded: Option<Instant> = None;
        while !heartbeat.node.stop.is_raised() {
            heartbeat.set_gauges();
            if recorded.is_none_or(|at| at.elapsed() >= RECORDS) {
                recorded = Some(Instant::now());
                heartbeat.write_records();
            }
            thread::park_timeout(GAUGES);
        }
        // The last word: what was reached is seen after the end.
        heartbeat.set_gauges();
    })
}

impl Heartbeat {
    fn set_gauges(&mut self) {
        let metrics = &self.node.metrics;
        for (name, budget) in self.budgets.named() {
            metrics.memory.with_label_values(&[name]).set(budget.used() as i64);
            metrics.memory_peak.with_label_values(&[name]).set(budget.peak() as i64);
        }
        metrics.heap_memory.set((self.budgets.events.used() + self.budgets.scan.used()) as i64);
        let (waiting, running) = self.scans.counts();
        metrics.pending_scan.with_label_values(&["queuing"]).set(waiting as i64);
        metrics.pending_scan.with_label_values(&["executing"]).set(running as i64);
        let stats = self.node.observer.stats();
        metrics.observed_region.set(stats.observed_regions as i64);
        metrics.skip_kv.inc_by(stats.skipped_ops.saturating_sub(self.skipped));
        metrics.dropped_batches.inc_by(stats.dropped_batches.saturating_sub(self.dropped));
        (self.skipped, self.dropped) = (stats.skipped_ops, stats.dropped_batches);
        self.look_at_the_spool();
        let metrics = &self.node.metrics;
        let paused = self.board.paused();
        for (name, by_error) in &paused {
            // As TiKV has it: 1 is paused, 2 is an error.
            metrics.task_status.with_label_values(&[name.as_str()]).set(if *by_error { 2 } else { 1 });
        }
        for (task, progress) in self.board.progress().into_iter().filter(|(task, _)| !paused.contains_key(&task.name)) {
            metrics.task_status.with_label_values(&[task.name.as_str()]).set(0);
            if let Some(checkpoint) = progress.snapshot().checkpoint {
                metrics.store_checkpoint.with_label_values(&[task.name.as_str()]).set(checkpoint.get() as f64);
            }
        }
    }

    fn look_at_the_spool(&mut self) {
        let (metrics, disk) = (&self.node.metrics, &self.node.room.disk);
        metrics.spool_disk.set(disk.used() as i64);
        metrics.spool_disk_quota.set(disk.quota().min(i64::MAX as u64) as i64);
        metrics.spool_disk_usable.set(i64::from(!disk.is_out()));
        metrics.released_regions.set(self.released_regions() as i64);
        let trouble = self.node.room.trouble().is_some();
        self.spool_trouble = trouble.then(|| self.spool_trouble.unwrap_or_else(SystemTime::now));
    }

    fn released_regions(&self) -> usize {
        self.node.shards.stats().iter().map(|shard| shard.released).sum()
    }

    /// What is tried again. The disk of the spool is told first, for it is this store's; what a flush waits for, which
    /// may be why the spool is full, after it.
    fn degraded(&self, flush: Option<(String, String, SystemTime)>) -> Option<Degraded> {
        let flush = flush.map(|(code, what, since)| Degraded { code, what, since_ms: ms(since), next_try_ms: None });
        let (Some(spool), Some(since)) = (self.node.room.trouble(), self.spool_trouble) else { return flush };
        let released = self.released_regions();
        let mut what = format!("{spool}; {released} regions are released now; {}", spool.remedy());
        if let Some(flush) = flush {
            what = format!("{what}; besides: {} ({})", flush.what, flush.code);
        }
        Some(Degraded { code: spool.code().to_string(), what, since_ms: ms(since), next_try_ms: None })
    }

    fn write_records(&self) {
        if let Ok(now) = self.node.host.timestamp() {
            let record = NodeRecord {
                store_id: self.node.host.store_id(),
                cluster_id: self.node.host.cluster_id(),
                ts: now.get(),
                at_ms: ms(SystemTime::now()),
            };
            if let Err(error) = self.node.tasks.put_node(&record) {
                debug!(%error, "the record of the node could not be written");
            }
        }
        for name in self.board.paused().keys() {
            // Nobody else says how far a paused task has come.
            if let Ok(Some(checkpoint)) = self.node.tasks.global_checkpoint(name) {
                self.node.metrics.last_checkpoint.with_label_values(&[name.as_str()]).set(checkpoint.get() as f64);
            }
        }
        for (task, progress) in self.board.progress() {
            let Some(boot) = self.node.boot.held() else { continue };
            let status = self.status(&task, &progress, boot);
            if let Err(error) = self.node.tasks.put_status(&task, &status) {
                debug!(task = %task.name, %error, "the status could not be written");
            }
        }
    }

    fn status(&self, task: &Task, progress: &TaskProgress, boot: u64) -> StoreStatus {
        let Snapshot { checkpoint, last_flush, objects, bytes, trouble, shortcoming, beat, .. } = progress.snapshot();
        let shards = self.node.shards.stats();
        StoreStatus {
            store_id: self.node.host.store_id(),
            boot,
            at_ms: ms(SystemTime::now()),
            observed_regions: shards.iter().map(|s| s.observing as u64).sum(),
            pending_scans: shards.iter().map(|s| (s.pending + s.scanning) as u64).sum(),
            spool_bytes: shards.iter().map(|s| s.open_bytes(&task.name)).sum(),
            checkpoint: checkpoint.map(|ts| ts.get()),
            last_flush: last_flush.map(|flush| LastFlush {
                at_ms: ms(flush.at),
                generation: flush.generation,
                objects: flush.objects,
                bytes: flush.bytes,
            }),
            objects,
            bytes,
            degraded: self.degraded(trouble),
            storage_shortcoming: shortcoming.map(str::to_owned),
            flush_interval_ms: beat.map(|beat| beat.interval.as_millis() as u64),
            flush_bound_by: beat.map(|beat| beat.bound_by.as_str().to_owned()),
        }
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn ms(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
