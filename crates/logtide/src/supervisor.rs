//! Keeps the tasks that run on this store the same as the tasks that there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use logtide_model::message::ShardMessage;
use logtide_model::planted::Bug;
use logtide_model::{Diagnose, Task, TaskName};
use parking_lot::Mutex;
use tracing::{debug, warn};

use crate::flush_requests::FlushRequests;
use crate::flushing::Flushing;
use crate::metrics::Metrics;
use crate::node::{Node, StopFlag};
use crate::progress::TaskProgress;
use crate::runner::Command;
use crate::task_life::{TaskHandle, TaskLife};
use crate::task_thread;

/// How often the tasks are looked at.
const INTERVAL: Duration = Duration::from_millis(200);
/// How often what is observed is compared with what the host leads.
const AUDIT_INTERVAL: Duration = Duration::from_secs(5);
/// How long the last flush of a task may take when the store goes down.
const LAST_FLUSH: Duration = Duration::from_secs(30);

/// The tasks that run here, and those that are paused.
#[derive(Default)]
pub(crate) struct TaskBoard {
    running: Mutex<BTreeMap<TaskName, TaskHandle>>,
    /// With true, an error has paused it.
    paused: Mutex<BTreeMap<TaskName, bool>>,
}

impl TaskBoard {
    /// Each running task and how it fares.
    pub(crate) fn progress(&self) -> Vec<(Arc<Task>, Arc<TaskProgress>)> {
        self.running.lock().values().map(|t| (t.task.clone(), t.progress.clone())).collect()
    }

    /// Asks a task to flush, and waits for the answer.
    pub(crate) fn flush(&self, task: &TaskName, limit: Duration) -> Result<(), String> {
        let (sender, answer) = bounded(1);
        if !self.ask(task, Command::Flush(sender)) {
            return Err(format!("task {task} does not run on this store"));
        }
        let answer = answer.recv_timeout(limit);
        answer.unwrap_or_else(|_| Err(format!("task {task} was not flushed within {limit:?}"))).map(drop)
    }

    /// Asks a task something; false if it does not run here.
    pub(crate) fn ask(&self, task: &TaskName, command: Command) -> bool {
        self.running.lock().get(task).is_some_and(|running| running.commands.send(command).is_ok())
    }

    /// Asks all tasks to end.
    pub(crate) fn end_all(&self, flush: Option<Duration>) {
        self.running.lock().values().for_each(|task| drop(task.commands.send(Command::Stop { flush })));
    }

    /// The tasks that are paused; with true, by an error.
    pub(crate) fn paused(&self) -> BTreeMap<TaskName, bool> {
        self.paused.lock().clone()
    }

    fn remember(&self, metrics: &Metrics, pauses: &BTreeMap<TaskName, Option<Paused>>) {
        let mut paused = self.paused.lock();
        let over = |name: &TaskName| pauses.get(name).is_none_or(|known| *known == Some(Paused::No));
        paused.keys().filter(|name| over(name)).for_each(|name| metrics.forget_task(name.as_str()));
        paused.retain(|name, _| !over(name));
        for (name, known) in pauses {
            if let Some(Paused::Yes { by_error }) = known {
                paused.insert(name.clone(), *by_error);
            }
        }
    }

    /// Asks tasks to end that there are no more, forgets those that have ended, and makes those that are new: they are
    /// for the caller to poll. A task that came back under its name begins when its former life is over.
    pub(crate) fn reconcile(&self, node: &Node, flushing: &Flushing) -> Vec<TaskLife> {
        let wanted = match node.tasks.list() {
            Ok(tasks) if node.config().enable => tasks,
            Ok(_) => Vec::new(),
            Err(error) => {
                node.metrics.errors.with_label_values(&[error.code().as_str()]).inc();
                debug!(%error, "the tasks cannot be read now");
                return Vec::new();
            }
        };
        register_again(node, &wanted);
        let pauses: BTreeMap<TaskName, Option<Paused>> =
            wanted.iter().map(|task| (task.name.clone(), pause_of(node, task))).collect();
        let known = |task: &Task| pauses.get(&task.name).copied().flatten();
        self.remember(&node.metrics, &pauses);
        let mut running = self.running.lock();
        running.retain(|_, task| !task.ended.is_raised());
        running.values().for_each(|task| end_unwanted(task, &wanted, known));
        let mut begun = Vec::new();
        for task in wanted {
            if !running.contains_key(&task.name) && known(&task) == Some(Paused::No) {
                let (handle, life) = TaskLife::new(node, flushing, task);
                running.insert(handle.task.name.clone(), handle);
                begun.push(life);
            }
        }
        begun
    }
}

/// What [`Bug::ReRegistrationWipes`] does.
fn register_again(node: &Node, wanted: &[Task]) {
    if Bug::ReRegistrationWipes.is_planted() {
        for task in wanted.iter().cloned().map(Arc::new) {
            node.observer.broadcast(|_| ShardMessage::StartTask(task.clone()));
        }
    }
}

/// Asks a task to end that is gone or paused.
fn end_unwanted(running: &TaskHandle, wanted: &[Task], known: impl Fn(&Task) -> Option<Paused>) {
    let flush = match wanted.iter().find(|task| **task == *running.task) {
        // What is gone is published by nobody: there is nothing to flush for.
        None => None,
        // What was observed is flushed before (I8); what comes then is caught up from the checkpoint.
        Some(task) if matches!(known(task), Some(Paused::Yes { .. })) => Some(LAST_FLUSH),
        Some(_) => return,
    };
    drop(running.commands.send(Command::Stop { flush }));
}

/// Whether a task is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paused {
    No,
    Yes { by_error: bool },
}

/// `None` if nobody can be asked: then the task stays as it is.
fn pause_of(node: &Node, task: &Task) -> Option<Paused> {
    let pause = node.tasks.pause_of(task).ok()?;
    Some(pause.map_or(Paused::No, |pause| Paused::Yes { by_error: pause.is_error }))
}

/// The supervisor's thread, which starts those of the tasks.
pub(crate) struct Supervisor {
    board: Arc<TaskBoard>,
    thread: JoinHandle<Vec<JoinHandle<()>>>,
}

impl Supervisor {
    pub(crate) fn board(&self) -> Arc<TaskBoard> {
        self.board.clone()
    }

    /// Waits until all tasks are flushed and ended. The node's stop flag must not be raised yet: shards are needed.
    pub(crate) fn stop(self, closing: &StopFlag) {
        closing.raise();
        self.end(Some(LAST_FLUSH));
    }

    /// Ends all tasks without a flush.
    pub(crate) fn abandon(self, closing: &StopFlag, stop: &StopFlag) {
        closing.raise();
        stop.raise();
        self.end(None);
    }

    fn end(self, flush: Option<Duration>) {
        self.thread.thread().unpark();
        let Ok(tasks) = self.thread.join() else {
            warn!("the supervisor panicked");
            return;
        };
        self.board.end_all(flush);
        for task in tasks {
            if task.join().is_err() {
                warn!("a task's thread panicked");
            }
        }
    }
}

/// Starts the supervisor.
pub(crate) fn start(node: &Node, flushing: Flushing) -> std::io::Result<Supervisor> {
    let board = Arc::<TaskBoard>::default();
    let (node, shared) = (node.clone(), board.clone());
    let thread = thread::Builder::new().name("logtide-tasks".into()).spawn(move || {
        let mut audited = Instant::now();
        let mut requests = FlushRequests::default();
        let mut tasks: Vec<JoinHandle<()>> = Vec::new();
        while !node.closing.is_raised() && !node.stop.is_raised() {
            tasks.retain(|task| !task.is_finished());
            for life in shared.reconcile(&node, &flushing) {
                match task_thread::start(life) {
                    Ok(thread) => tasks.push(thread),
                    Err(error) => warn!(%error, "a task's thread could not be started"),
                }
            }
            requests.poll(&node, &shared);
            if audited.elapsed() >= AUDIT_INTERVAL {
                audited = Instant::now();
                node.interest.audit(&node.observer, &*node.host);
            }
            thread::park_timeout(INTERVAL);
        }
        tasks
    })?;
    Ok(Supervisor { board, thread })
}
