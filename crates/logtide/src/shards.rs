//! The threads of the shards: each feeds its queue to a [`Shard`] and passes on what comes out.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use logtide_coordinator::Tasks;
use logtide_model::message::{ScanRequest, ShardMessage};
use logtide_model::{Diagnose, TaskName};
use logtide_shard::{SealedShard, Shard, ShardEvent, ShardStats};
use logtide_temp_file::SpoolDisk;
use parking_lot::{Mutex, RwLock};
use tracing::{error, warn};

use crate::metrics::Metrics;
use crate::node::StopFlag;
use crate::scan_queue::ScanQueue;

/// How long an idle shard waits before it looks whether the store goes down.
const IDLE: Duration = Duration::from_millis(100);
/// How often a busy shard says how it is.
const STATS_INTERVAL: Duration = Duration::from_millis(100);

/// What shards say to the rest of the store: sealed generations to the task's runner, and how they are.
#[derive(Default)]
pub(crate) struct ShardBoard {
    runners: RwLock<HashMap<TaskName, Sender<SealedShard>>>,
    stats: Mutex<Vec<ShardStats>>,
}

impl ShardBoard {
    /// Sealed generations of the task go to `runner` from now on.
    pub(crate) fn register(&self, task: &TaskName, runner: Sender<SealedShard>) {
        self.runners.write().insert(task.clone(), runner);
    }

    /// The task has no runner any more.
    pub(crate) fn unregister(&self, task: &TaskName) {
        self.runners.write().remove(task);
    }

    /// What each shard last said.
    pub(crate) fn stats(&self) -> Vec<ShardStats> {
        self.stats.lock().clone()
    }

    fn sealed(&self, part: SealedShard) {
        // Without a runner the task is over: the generation is dropped, nothing of it was published.
        if let Some(runner) = self.runners.read().get(&part.task) {
            let _ = runner.send(part);
        }
    }

    fn set_stats(&self, shard: usize, stats: ShardStats) {
        let mut all = self.stats.lock();
        if all.len() <= shard {
            all.resize_with(shard + 1, ShardStats::default);
        }
        all[shard] = stats;
    }
}

/// A shard with its queue, and where what comes out of it goes.
pub(crate) struct ShardWorker {
    pub(crate) number: usize,
    pub(crate) shard: Shard,
    pub(crate) queue: Receiver<ShardMessage>,
    pub(crate) board: Arc<ShardBoard>,
    pub(crate) scans: Arc<ScanQueue>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) metrics: Metrics,
    /// Tried again here if it fails.
    pub(crate) disk: SpoolDisk,
}

impl ShardWorker {
    /// Starts its thread; it ends when the store goes down.
    pub(crate) fn start(mut self, stop: StopFlag) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new().name(format!("logtide-shard-{}", self.number)).spawn(move || {
            let mut told = Instant::now();
            while !stop.is_raised() {
                match self.queue.recv_timeout(IDLE) {
                    Ok(message) => self.handle(message, Instant::now()),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                self.disk.poll(Instant::now());
                if told.elapsed() >= STATS_INTERVAL {
                    told = Instant::now();
                    self.tell_stats();
                }
            }
        })
    }

    /// Handles the next message, if there is one.
    pub(crate) fn step(&mut self, now: Instant) -> bool {
        self.disk.poll(now);
        let Ok(message) = self.queue.try_recv() else { return false };
        self.handle(message, now);
        true
    }

    /// Says how it is.
    pub(crate) fn tell_stats(&self) {
        self.board.set_stats(self.number, self.shard.stats());
    }

    fn handle(&mut self, message: ShardMessage, now: Instant) {
        let kind = kind(&message);
        let begun = Instant::now();
        let mut out = Vec::new();
        if let ShardMessage::Applied(batch) = &message {
            self.metrics.kv_batch.observe(batch.ops.len() as f64);
        }
        self.shard.handle(message, &mut out);
        let took = begun.elapsed().as_secs_f64();
        self.metrics.acting.with_label_values(&[kind]).observe(took);
        if kind == "applied" {
            self.metrics.event_handle.with_label_values(&["save_to_temp_file"]).observe(took);
            self.metrics.on_event.with_label_values(&["write_to_tempfile"]).observe(took);
        }
        out.into_iter().for_each(|event| self.pass_on(event, now));
    }

    fn pass_on(&self, event: ShardEvent, now: Instant) {
        match event {
            ShardEvent::Scan(request) => {
                self.metrics.scan_reason.with_label_values(&[request.reason.as_str()]).inc();
                let due = now + delay(&request);
                let checkpoint = self.tasks.known_start_ts(&request.task, &request.region.range);
                self.scans.push(request, due, checkpoint);
            }
            ShardEvent::CancelScan(id) => self.scans.cancel(&id),
            ShardEvent::Sealed(part) => self.board.sealed(part),
            ShardEvent::Poisoned { task, error } => {
                error!(%task, shard = self.number, %error, "a generation was lost; its regions will be caught up");
                self.metrics.errors.with_label_values(&[error.code().as_str()]).inc();
            }
            other => {
                warn!(shard = self.number, event = ?other, "a change that log backup cannot carry");
                self.metrics.errors.with_label_values(&["unsupported"]).inc();
            }
        }
    }
}

/// The region's id spreads the attempts of many regions that fail together.
fn delay(request: &ScanRequest) -> Duration {
    logtide_checkpoint::Backoff::default().delay(request.failures, request.id.region_id ^ request.id.attempt)
}

fn kind(message: &ShardMessage) -> &'static str {
    match message {
        ShardMessage::Applied(_) => "applied",
        ShardMessage::Lead(_) => "lead",
        ShardMessage::Unlead { .. } => "unlead",
        ShardMessage::RegionChanged(_) => "region_changed",
        ShardMessage::StartTask(_) => "start_task",
        ShardMessage::StopTask(_) => "stop_task",
        ShardMessage::Scan(_) => "scan",
        ShardMessage::Seal(_) => "seal",
    }
}
