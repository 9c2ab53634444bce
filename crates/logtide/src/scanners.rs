//! The threads that run initial scans. They own the order of one attempt: clear the gap flag, find where to continue
//! from, take the snapshot, scan, tell the shard how it ended.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use logtide_initial_scan::{Cancel, ScanError, ScanReport, Scanner};
use logtide_model::message::{ScanEvent, ScanRequest, ScanStep, ShardMessage};
use logtide_model::{Diagnose, HostError};
use parking_lot::Mutex;
use tracing::{debug, info};

use crate::node::Node;
use crate::scan_queue::ScanQueue;

/// The threads; there can become more of them, and those that have no turn sleep.
pub(crate) struct Scanners {
    node: Node,
    scanner: Scanner,
    queue: Arc<ScanQueue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Scanners {
    /// Starts as many as scans may run at once; they end when the queue is closed.
    pub(crate) fn start(node: &Node, scanner: &Scanner, queue: &Arc<ScanQueue>) -> std::io::Result<Self> {
        let (node, scanner, queue) = (node.clone(), scanner.clone(), queue.clone());
        let scanners = Scanners { node, scanner, queue, threads: Mutex::default() };
        scanners.grow(scanners.node.config().initial_scan_concurrency)?;
        Ok(scanners)
    }

    /// Starts more, so that there are at least `wanted`.
    pub(crate) fn grow(&self, wanted: usize) -> std::io::Result<()> {
        let mut threads = self.threads.lock();
        for n in threads.len()..wanted {
            let (node, scanner, queue) = (self.node.clone(), self.scanner.clone(), self.queue.clone());
            threads.push(thread::Builder::new().name(format!("logtide-scan-{n}")).spawn(move || {
                while let Some((request, cancel)) = queue.take() {
                    attempt(&node, &scanner, &request, &cancel, &mut |event| {
                        if matches!(event, ScanEvent::Data { .. } | ScanEvent::Replayed { .. }) {
                            queue.wait_for_room(&cancel);
                        }
                        send(&node, &request, event)
                    });
                    queue.done(&request.id);
                }
            })?);
        }
        Ok(())
    }

    /// Closes the queue; the threads, which end then.
    pub(crate) fn close(&self) -> Vec<JoinHandle<()>> {
        self.queue.close();
        std::mem::take(&mut *self.threads.lock())
    }
}

/// One attempt; what it finds goes to `sink`, which answers false to end it.
pub(crate) fn attempt(
    node: &Node,
    scanner: &Scanner,
    request: &ScanRequest,
    cancel: &Cancel,
    sink: &mut dyn FnMut(ScanEvent) -> bool,
) {
    let begun = Instant::now();
    let region = request.region.id;
    match scan(node, scanner, request, cancel, sink) {
        Ok(report) => {
            record(node, &report, begun);
            debug!(region, entries = report.entries, bytes = report.bytes, "initial scan finished");
        }
        Err(ScanError::Cancelled) => {
            node.metrics.skip_retry.with_label_values(&["stale-command"]).inc();
        }
        Err(error) => {
            info!(region, failures = request.failures, %error, "initial scan failed and will be tried again");
            node.metrics.errors.with_label_values(&[error.code().as_str()]).inc();
            node.metrics.skip_retry.with_label_values(&[reason(&error)]).inc();
            sink(ScanEvent::Failed(error.to_host_error()));
        }
    }
}

fn scan(
    node: &Node,
    scanner: &Scanner,
    request: &ScanRequest,
    cancel: &Cancel,
    sink: &mut dyn FnMut(ScanEvent) -> bool,
) -> Result<ScanReport, ScanError> {
    // A batch dropped from here on raises it again, whether or not the snapshot will have its effects.
    request.gap.clear();
    let start = node
        .tasks
        .start_point(&request.task, &request.region)
        .map_err(|e| HostError::Unavailable(format!("cannot read the checkpoint to continue from: {e}")))?;
    let snapshot = node.host.snapshot(request.region.id, request.region.epoch)?;
    let (id, version) = (request.region.id, request.region.epoch.version);
    let log = |from, through| node.host.raft_log(id, version, from, through);
    scanner.catch_up(&*snapshot, &request.task, start, &log, cancel, sink)
}

/// Passes on what an attempt found.
pub(crate) fn send(node: &Node, request: &ScanRequest, event: ScanEvent) -> bool {
    let step = ScanStep { id: request.id.clone(), event };
    node.observer.send(node.observer.shard_of(request.region.id), ShardMessage::Scan(step))
}

fn record(node: &Node, report: &ScanReport, begun: Instant) {
    let metrics = &node.metrics;
    metrics.scan_disk_read.inc_by(report.disk_bytes);
    metrics.scan_source.with_label_values(&[report.source.as_str()]).inc();
    metrics.scan_bytes.observe(report.bytes as f64);
    metrics.scan_duration.observe(begun.elapsed().as_secs_f64());
    metrics.scan_operations.with_label_values(&["write", "seek"]).inc_by(report.seeks);
    metrics.scan_operations.with_label_values(&["write", "emit"]).inc_by(report.entries);
    metrics.scan_operations.with_label_values(&["write", "skip"]).inc_by(report.skipped);
    metrics.scan_operations.with_label_values(&["lock", "emit"]).inc_by(report.locks);
}

fn reason(error: &ScanError) -> &'static str {
    match error {
        ScanError::Host(HostError::RegionNotFound(_)) => "region-absent",
        ScanError::Host(HostError::NotLeader(_)) => "not-leader",
        ScanError::Host(HostError::EpochNotMatch(_)) => "epoch-not-match",
        _ => "unavailable",
    }
}
