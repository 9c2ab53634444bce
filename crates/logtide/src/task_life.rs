//! The life of one task on this store: prepare the storage (for as long as it takes), begin observing, run, end. It
//! does what is due when it is polled, and never waits; a thread or a simulation polls it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, unbounded};
use logtide_checkpoint::Backoff;
use logtide_format::proto::StreamBackupError;
use logtide_model::message::ShardMessage;
use logtide_model::{Diagnose, ErrorCode, Task, TaskName};
use logtide_shard::SealedShard;
use logtide_storage::{Storage, redacted};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::checkpoint_object::CheckpointObject;
use crate::flushing::{Flushing, NotReady, Opened};
use crate::heartbeat::ms;
use crate::merging::Merging;
use crate::node::{Node, StopFlag};
use crate::progress::TaskProgress;
use crate::runner::{Command, Ended, Runner};

/// How to talk to a task, and to see how it fares.
#[derive(Clone)]
pub(crate) struct TaskHandle {
    pub(crate) task: Arc<Task>,
    pub(crate) progress: Arc<TaskProgress>,
    pub(crate) commands: Sender<Command>,
    /// Raised when it is over.
    pub(crate) ended: StopFlag,
}

/// See the module.
pub(crate) struct TaskLife {
    node: Node,
    flushing: Flushing,
    task: Arc<Task>,
    progress: Arc<TaskProgress>,
    commands: Receiver<Command>,
    failures: u32,
    lost: Lost,
    state: State,
    ended: StopFlag,
}

enum State {
    /// Keys are opened, and the storage is looked at.
    Opening(oneshot::Receiver<Result<Opened, NotReady>>),
    /// It could not be opened; tried again then.
    Waiting(Instant),
    Running(Box<Running>),
    /// The checkpoint object gets its last word.
    Finishing(JoinHandle<()>),
    /// Another process runs as this store: it keeps still until it is asked to end.
    Yielding,
    Over,
}

/// Generations that were lost and nothing uploaded in between: what the disk of the spool does not give back now it may not
/// give back after the next scan either.
#[derive(Default)]
struct Lost {
    in_a_row: u32,
    /// Bytes uploaded when the last one was lost.
    uploaded: u64,
}

impl Lost {
    /// One more; how many before it were in a row.
    fn again(&mut self, uploaded: u64) -> u32 {
        let before = if uploaded > self.uploaded { 0 } else { self.in_a_row };
        *self = Lost { in_a_row: before.saturating_add(1), uploaded };
        before
    }
}

struct Running {
    runner: Runner,
    parts: Receiver<SealedShard>,
    object: Arc<CheckpointObject>,
    keeper: JoinHandle<()>,
    merging: Merging,
}

impl TaskLife {
    /// A task that begins.
    pub(crate) fn new(node: &Node, flushing: &Flushing, task: Task) -> (TaskHandle, TaskLife) {
        let task = Arc::new(task);
        let progress = Arc::new(TaskProgress::new(task.name.clone(), node.shards.clone()));
        let (commands, receiver) = unbounded();
        info!(task = %task.name, storage = %redacted(&task.storage), start_ts = %task.start_ts, "task begins");
        let state = State::Opening(flushing.open(node, &task));
        let (node, flushing) = (node.clone(), flushing.clone());
        let (ended, lost) = (StopFlag::default(), Lost::default());
        let handle = TaskHandle { task: task.clone(), progress: progress.clone(), commands, ended: ended.clone() };
        (handle, TaskLife { node, flushing, task, progress, commands: receiver, failures: 0, lost, state, ended })
    }

    /// The task's name.
    pub(crate) fn name(&self) -> &TaskName {
        &self.task.name
    }

    /// Does what is due; false once it is over.
    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        self.take_commands(now);
        match &mut self.state {
            State::Opening(answer) => match answer.try_recv() {
                Ok(Ok(opened)) => self.begin(opened, now),
                Ok(Err(not_ready)) => self.back_off(&not_ready, now),
                Err(oneshot::error::TryRecvError::Empty) => {}
                Err(oneshot::error::TryRecvError::Closed) => self.back_off(&NotReady::gone(), now),
            },
            State::Waiting(until) if now >= *until => {
                self.state = State::Opening(self.flushing.open(&self.node, &self.task));
            }
            State::Running(running) => {
                running.parts.try_iter().for_each(|part| running.runner.part(part));
                running.merging.poll(now);
                if let Some(ended) = running.runner.poll(now) {
                    self.ended(ended, now);
                }
            }
            State::Finishing(last_word) if last_word.is_finished() => self.over(),
            State::Waiting(_) | State::Finishing(_) | State::Yielding => {}
            State::Over => return false,
        }
        !matches!(self.state, State::Over)
    }

    /// Waits until there may be something to do, at most so long.
    pub(crate) fn wait(&self, at_most: Duration) {
        let mut select = Select::new();
        select.recv(&self.commands);
        if let State::Running(running) = &self.state {
            select.recv(&running.parts);
        }
        // Too late is as good.
        let _ = select.ready_timeout(at_most);
    }

    fn take_commands(&mut self, now: Instant) {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.command(command, now),
                Err(TryRecvError::Empty) => return,
                // Whoever started it is gone: nobody would ask it to end.
                Err(TryRecvError::Disconnected) => return self.command(Command::Stop { flush: None }, now),
            }
        }
    }

    fn command(&mut self, command: Command, now: Instant) {
        match (&mut self.state, command) {
            (State::Running(running), command) => running.runner.command(command, now),
            (State::Finishing(_) | State::Over, _) => {}
            (_, Command::Stop { .. }) => self.over(),
            (_, Command::Flush(answer)) => {
                let _ = answer.send(Err("the task has not begun on this store yet".to_owned()));
            }
        }
    }

    /// The order binds: the keys are there before the shards know the task; the shards know the task before its regions are
    /// observed, and forget it after.
    fn begin(&mut self, mut opened: Opened, now: Instant) {
        if let Some(boot) = self.node.boot.superseded() {
            return self.yield_to_newer_process(boot);
        }
        let boot = match self.node.boot.epoch(&self.node.tasks, self.node.host.store_id(), &self.task) {
            Ok(boot) => boot,
            Err(error) => return self.back_off(&NotReady::of(&error), now),
        };
        self.clear_error();
        self.failures = 0;
        self.progress.storage_is(opened.capabilities.shortcoming());
        if let Some(keys) = opened.keys.take() {
            self.flushing.encryption.tasks.insert(&self.task, keys);
        }
        let (node, name) = (&self.node, &self.task.name);
        let flusher = self.flushing.flusher(node, &opened, &self.progress);
        let runtime = &self.flushing.runtime;
        let merging = Merging::new(node, name, runtime, &flusher, &opened.storage, boot, now);
        let (sender, parts) = unbounded();
        node.shards.register(name, sender);
        node.observer.broadcast(|_| ShardMessage::StartTask(self.task.clone()));
        node.interest.add(&self.task, &node.observer, &*node.host);
        let object = self.checkpoint_object(opened.storage);
        let keeper = object.keep_up(&self.flushing.runtime);
        let runner = Runner::new(node.clone(), self.task.clone(), flusher, boot, self.progress.clone(), now);
        self.state = State::Running(Box::new(Running { runner, parts, object, keeper, merging }));
    }

    fn checkpoint_object(&self, storage: Storage) -> Arc<CheckpointObject> {
        CheckpointObject::new(&self.node, storage, self.task.clone(), self.flushing.blocking)
    }

    fn ended(&mut self, ended: Ended, now: Instant) {
        let State::Running(running) = std::mem::replace(&mut self.state, State::Over) else { return };
        running.keeper.abort();
        let name = &self.task.name;
        self.node.interest.remove(name, &self.node.observer);
        self.node.observer.broadcast(|_| ShardMessage::StopTask(name.clone()));
        self.node.shards.unregister(name);
        let boot = running.runner.boot();
        match ended {
            Ended::Stopped if !self.node.stop.is_raised() => {
                let stated = self.progress.snapshot().checkpoint;
                self.state = State::Finishing(running.object.finish(&self.flushing.runtime, stated));
            }
            Ended::Stopped | Ended::TaskGone => self.over(),
            Ended::Poisoned => {
                self.node.boot.give_up(boot);
                let in_a_row = self.lost.again(self.progress.snapshot().bytes);
                self.state = State::Waiting(now + Backoff::default().delay(in_a_row, self.node.host.store_id()));
            }
            Ended::Superseded if self.node.boot.moved_on_from(boot) => self.state = State::Waiting(now),
            Ended::Superseded => self.yield_to_newer_process(boot),
        }
    }

    fn over(&mut self) {
        self.state = State::Over;
        self.node.metrics.forget_task(self.task.name.as_str());
        info!(task = %self.task.name, "task ended on this store");
    }

    fn back_off(&mut self, not_ready: &NotReady, now: Instant) {
        self.tell(not_ready);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting(now + Backoff::default().delay(self.failures, self.node.host.store_id()));
    }

    /// Another process runs as this store (I9). Taking the epoch back would only make it do the same.
    fn yield_to_newer_process(&mut self, boot: u64) {
        self.state = State::Yielding;
        self.node.boot.yield_from(boot);
        let store_id = self.node.host.store_id();
        let message = format!(
            "another process runs as store {store_id} since boot epoch {boot}; this one backs up nothing more: \
             stop one of them, and start the other anew"
        );
        let code = ErrorCode::Coordinator.to_string();
        self.node.metrics.fatal_errors.with_label_values(&[&code]).inc();
        self.tell(&NotReady { code, message });
    }

    fn tell(&self, not_ready: &NotReady) {
        let store = self.node.host.store_id();
        warn!(task = %self.task.name, store, code = not_ready.code, error = not_ready.message, "task cannot begin yet");
        self.node.metrics.errors.with_label_values(&[&not_ready.code]).inc();
        self.progress.degraded(&not_ready.code, not_ready.message.clone());
        let report = StreamBackupError {
            happen_at: ms(SystemTime::now()),
            error_code: not_ready.code.clone(),
            error_message: not_ready.message.clone(),
            store_id: store,
        };
        if let Err(error) = self.node.tasks.report_error(&self.task, &report) {
            warn!(task = %self.task.name, %error, code = %error.code(), "the error could not be reported");
        }
    }

    fn clear_error(&self) {
        if let Err(error) = self.node.tasks.clear_error(&self.task, self.node.host.store_id()) {
            warn!(task = %self.task.name, %error, "an old error could not be cleared");
        }
    }
}

impl Drop for TaskLife {
    /// However it ended: nobody is to wait for it, and nobody needs its keys.
    fn drop(&mut self) {
        if let State::Running(running) = &self.state {
            running.keeper.abort();
        }
        // Before the next life of the task can begin, which sets them anew.
        self.flushing.encryption.tasks.remove(&self.task);
        self.ended.raise();
    }
}
