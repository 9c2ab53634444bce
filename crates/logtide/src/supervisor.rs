//! Keeps the tasks that run on this store the same as the tasks that there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use logtide_model::{Diagnose, Task, TaskName};
use parking_lot::Mutex;
use tracing::{debug, warn};

use crate::flushing::Flushing;
use crate::node::{Node, StopFlag};
use crate::progress::TaskProgress;
use crate::runner::Command;
use crate::task_thread::{self, TaskThread};

/// How often the tasks are looked at.
const INTERVAL: Duration = Duration::from_millis(200);
/// How often what is observed is compared with what the host leads.
const AUDIT_INTERVAL: Duration = Duration::from_secs(5);
/// How long the last flush of a task may take when the store goes down.
const LAST_FLUSH: Duration = Duration::from_secs(30);

/// The tasks that run here.
#[derive(Default)]
pub(crate) struct TaskBoard(Mutex<BTreeMap<TaskName, TaskThread>>);

impl TaskBoard {
    /// Each running task and how it fares.
    pub(crate) fn progress(&self) -> Vec<(Arc<Task>, Arc<TaskProgress>)> {
        self.0.lock().values().map(|t| (t.task.clone(), t.progress.clone())).collect()
    }

    /// Asks a task to flush, and waits for the answer.
    pub(crate) fn flush(&self, task: &TaskName, limit: Duration) -> Result<(), String> {
        let (sender, answer) = bounded(1);
        match self.0.lock().get(task) {
            Some(running) if running.commands.send(Command::Flush(sender)).is_ok() => {}
            _ => return Err(format!("task {task} does not run on this store")),
        }
        answer.recv_timeout(limit).unwrap_or_else(|_| Err(format!("task {task} was not flushed within {limit:?}")))
    }

    fn end(&self, flush: Option<Duration>, which: impl Fn(&TaskThread) -> bool) {
        let ended: Vec<TaskThread> = {
            let mut running = self.0.lock();
            let names: Vec<_> = running.iter().filter(|(_, t)| which(t)).map(|(name, _)| name.clone()).collect();
            names.iter().filter_map(|name| running.remove(name)).collect()
        };
        // All are asked before any is waited for.
        ended.iter().for_each(|task| drop(task.commands.send(Command::Stop { flush })));
        for task in ended {
            if task.thread.join().is_err() {
                warn!(task = %task.task.name, "the task's thread panicked");
            }
        }
    }
}

/// The supervisor's thread.
pub(crate) struct Supervisor {
    board: Arc<TaskBoard>,
    thread: JoinHandle<()>,
}

impl Supervisor {
    pub(crate) fn board(&self) -> Arc<TaskBoard> {
        self.board.clone()
    }

    /// Waits until all tasks are flushed and ended. The node's stop flag must not be raised yet: shards are needed.
    pub(crate) fn stop(self, closing: &StopFlag) {
        closing.raise();
        join(self.thread);
        self.board.end(Some(LAST_FLUSH), |_| true);
    }

    /// Ends all tasks without a flush.
    pub(crate) fn abandon(self, closing: &StopFlag, stop: &StopFlag) {
        closing.raise();
        stop.raise();
        join(self.thread);
        self.board.end(None, |_| true);
    }
}

fn join(thread: JoinHandle<()>) {
    thread.thread().unpark();
    if thread.join().is_err() {
        warn!("the supervisor panicked");
    }
}

/// Starts the supervisor.
pub(crate) fn start(node: &Node, flushing: Flushing) -> std::io::Result<Supervisor> {
    let board = Arc::<TaskBoard>::default();
    let (node, shared) = (node.clone(), board.clone());
    let thread = thread::Builder::new().name("logtide-tasks".into()).spawn(move || {
        let mut audited = Instant::now();
        while !node.closing.is_raised() && !node.stop.is_raised() {
            reconcile(&node, &flushing, &shared);
            if audited.elapsed() >= AUDIT_INTERVAL {
                audited = Instant::now();
                node.interest.audit(&node.observer, &*node.host);
            }
            thread::park_timeout(INTERVAL);
        }
    })?;
    Ok(Supervisor { board, thread })
}

fn reconcile(node: &Node, flushing: &Flushing, board: &TaskBoard) {
    let wanted = match node.tasks.list() {
        Ok(tasks) if node.config.enable => tasks,
        Ok(_) => Vec::new(),
        Err(error) => {
            node.metrics.errors.with_label_values(&[error.code().as_str()]).inc();
            debug!(%error, "the tasks cannot be read now");
            return;
        }
    };
    // What is gone is published by nobody: there is nothing to flush for.
    board.end(None, |running| running.thread.is_finished() || !wanted.iter().any(|task| *task == *running.task));
    for task in wanted {
        let mut running = board.0.lock();
        if running.contains_key(&task.name) {
            continue;
        }
        match task_thread::start(node, flushing, task) {
            Ok(started) => drop(running.insert(started.task.name.clone(), started)),
            Err(error) => warn!(%error, "a task's thread could not be started"),
        }
    }
}
