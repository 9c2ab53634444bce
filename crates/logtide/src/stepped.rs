//! The log backup of one store that does nothing by itself: its owner makes each step happen, in the order and at the
//! time that it chooses, and the same order gives the same history. The parts are those that threads run otherwise.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use logtide_coordinator::{Advancer, AdvancerConfig, CoordinatorError, TickReport};
use logtide_initial_scan::{Cancel, Scanner, Waiter};
use logtide_model::message::{ScanEvent, ScanRequest};
use logtide_model::{MemoryBudget, RaftObserver, TaskName};

use crate::Config;
use crate::builder::Parts;
use crate::flush_requests::FlushRequests;
use crate::flushing::Flushing;
use crate::node::Node;
use crate::online::Online;
use crate::runner::Command;
use crate::scan_queue::ScanQueue;
use crate::scanners;
use crate::shards::ShardWorker;
use crate::supervisor::TaskBoard;
use crate::task_life::TaskLife;

/// See the module; made by [`Builder::stepped`](crate::Builder::stepped). Dropping it is a crash: nothing is flushed.
pub struct Stepped {
    // Dropped first: tasks end before what they use.
    lives: Vec<TaskLife>,
    node: Node,
    workers: Vec<ShardWorker>,
    scans: Arc<ScanQueue>,
    scanner: Scanner,
    running: Vec<ScanRun>,
    board: TaskBoard,
    requests: FlushRequests,
    flushing: Flushing,
    advancer: Advancer,
    online: Online,
}

/// A scan whose snapshot was read; what it found goes to the shard step by step.
struct ScanRun {
    request: ScanRequest,
    cancel: Cancel,
    found: VecDeque<ScanEvent>,
}

impl Stepped {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { node, budgets, workers, scans, scanner, flushing } = parts;
        let config = AdvancerConfig::new(node.host.store_id());
        let advancer = Advancer::new(node.tasks.store().clone(), node.host.clone(), config);
        let limiter = scanner.limiter.clone();
        let online = Online { settings: node.settings.clone(), budgets, scans: scans.clone(), limiter };
        let (board, requests, running, lives) = <(TaskBoard, FlushRequests, _, _)>::default();
        Stepped { lives, node, workers, scans, scanner, running, board, requests, flushing, advancer, online }
    }

    /// What the host registers with its raft store.
    pub fn observer(&self) -> Arc<dyn RaftObserver> {
        Arc::new(self.node.observer.clone())
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.workers.len()
    }

    /// A shard handles its next message; false if it has none.
    pub fn step_shard(&mut self, shard: usize, now: Instant) -> bool {
        let Some(worker) = self.workers.get_mut(shard) else { return false };
        let stepped = worker.step(now);
        worker.tell_stats();
        stepped
    }

    /// Begins, flushes and ends tasks as the coordinator has it.
    pub fn reconcile(&mut self) {
        self.requests.poll(&self.node, &self.board);
        self.lives.extend(self.board.reconcile(&self.node, &self.flushing));
    }

    /// Compares what is observed with what the host leads.
    pub fn audit(&mut self) {
        self.node.interest.audit(&self.node.observer, &*self.node.host);
    }

    /// Tasks do what is due: prepare, seal, take back what was flushed. Returns how many there are.
    pub fn step_tasks(&mut self, now: Instant) -> usize {
        self.lives.retain_mut(|life| life.poll(now));
        self.lives.len()
    }

    /// Takes the snapshot of the next scan that is due, if there is one and fewer than the limit are under way.
    pub fn begin_scan(&mut self, now: Instant) -> bool {
        let Some((request, cancel)) = self.scans.try_take(now) else { return false };
        let mut found = VecDeque::new();
        scanners::attempt(&self.node, &self.scanner, &request, &cancel, &mut |event| {
            found.push_back(event);
            true
        });
        self.running.push(ScanRun { request, cancel, found });
        true
    }

    /// How many scans are under way.
    pub fn scanning(&self) -> usize {
        self.running.len()
    }

    /// What the `n`th scan under way would tell its shard next.
    pub fn next_of_scan(&self, n: usize) -> Option<&ScanEvent> {
        self.running.get(n)?.found.front()
    }

    /// The `n`th scan under way tells its shard one thing more; false if there is no such scan.
    pub fn step_scan(&mut self, n: usize) -> bool {
        let Some(run) = self.running.get_mut(n) else { return false };
        let next = run.found.pop_front();
        if run.cancel.is_cancelled() {
            // A scanner that is about to send something sends it.
            run.found.clear();
        }
        match next {
            Some(event) => {
                scanners::send(&self.node, &run.request, event);
            }
            None => {
                let run = self.running.remove(n);
                self.scans.done(&run.request.id);
            }
        }
        true
    }

    /// Takes part in the election of the advancer, and advances the global checkpoints if elected.
    ///
    /// # Errors
    /// [`CoordinatorError`]; the next call tries again.
    pub fn advance(&mut self, now: Instant) -> Result<TickReport, CoordinatorError> {
        self.advancer.tick(now)
    }

    /// Asks a task to flush; the answer comes when what was observed before is published (in which
    /// generation), or certain not to be. `None`
    /// if the task does not run here.
    pub fn flush(&mut self, task: &TaskName) -> Option<Receiver<Result<u64, String>>> {
        let (sender, answer) = bounded(1);
        self.board.ask(task, Command::Flush(sender)).then_some(answer)
    }

    /// The most bytes that applied events on their way to the shards ever took at once.
    pub fn events_peak(&self) -> usize {
        self.online.budgets.events.peak()
    }

    /// Changes the memory for applied events on their way to the shards, in bytes.
    pub fn limit_events(&self, bytes: usize) {
        self.online.budgets.events.set_limit(bytes);
    }

    /// Puts in force what can change of `config` while it runs; limits are not checked.
    pub fn configure(&self, config: Config, now: Instant) {
        self.online.apply(config, now);
    }

    /// The accounted budgets, by the names that the metrics have for them.
    pub fn budgets(&self) -> [(&'static str, &MemoryBudget); 5] {
        self.online.budgets.named()
    }

    /// Asks all tasks to end, with a last flush that may take so long. They do it in their steps.
    pub fn end_tasks(&mut self, flush: Option<Duration>) {
        self.node.closing.raise();
        self.board.end_all(flush);
    }
}
