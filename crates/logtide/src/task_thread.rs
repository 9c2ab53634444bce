//! The life of one task on this store: prepare the storage (for as long as it takes), begin observing, run, end.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use logtide_checkpoint::Backoff;
use logtide_format::proto::StreamBackupError;
use logtide_model::message::ShardMessage;
use logtide_model::{Diagnose, ErrorCode, Task};
use logtide_storage::Storage;
use tracing::{info, warn};

use crate::checkpoint_object::CheckpointObject;
use crate::flushing::{Flushing, NotReady};
use crate::heartbeat::ms;
use crate::node::Node;
use crate::progress::TaskProgress;
use crate::runner::{Command, Ended, Runner};

/// A task's thread, and how to talk to it.
pub(crate) struct TaskThread {
    pub(crate) task: Arc<Task>,
    pub(crate) progress: Arc<TaskProgress>,
    pub(crate) commands: Sender<Command>,
    pub(crate) thread: JoinHandle<()>,
}

/// What the thread has.
struct Life {
    node: Node,
    flushing: Flushing,
    task: Arc<Task>,
    progress: Arc<TaskProgress>,
    commands: Receiver<Command>,
}

/// Starts a task on this store.
pub(crate) fn start(node: &Node, flushing: &Flushing, task: Task) -> std::io::Result<TaskThread> {
    let task = Arc::new(task);
    let progress = Arc::new(TaskProgress::new(task.name.clone(), node.shards.clone()));
    let (commands, receiver) = unbounded();
    let life = Life {
        node: node.clone(),
        flushing: flushing.clone(),
        task: task.clone(),
        progress: progress.clone(),
        commands: receiver,
    };
    let thread = thread::Builder::new().name(format!("logtide-{}", task.name)).spawn(move || life.live())?;
    Ok(TaskThread { task, progress, commands, thread })
}

impl Life {
    fn live(self) {
        info!(task = %self.task.name, storage = %self.task.storage, start_ts = %self.task.start_ts, "task begins");
        loop {
            let Some((storage, create_if_absent, boot)) = self.prepare() else { return };
            match self.run(&storage, create_if_absent, boot) {
                Ended::Poisoned => self.node.boot.give_up(boot),
                Ended::Superseded if self.node.boot.moved_on_from(boot) => {}
                Ended::Superseded => {
                    self.yield_to_newer_process(boot);
                    break;
                }
                Ended::Stopped | Ended::TaskGone => break,
            }
        }
        self.node.metrics.forget_task(self.task.name.as_str());
        info!(task = %self.task.name, "task ended on this store");
    }

    /// Tries until it works; `None` if asked to end before.
    fn prepare(&self) -> Option<(Storage, bool, u64)> {
        let mut failures = 0;
        loop {
            match self.try_prepare() {
                Ok(ready) => {
                    self.clear_error();
                    return Some(ready);
                }
                Err(not_ready) => self.tell(&not_ready),
            }
            failures += 1;
            let pause = Backoff::default().delay(failures, self.node.host.store_id());
            if self.told_to_stop(pause) {
                return None;
            }
        }
    }

    fn try_prepare(&self) -> Result<(Storage, bool, u64), NotReady> {
        let (storage, create_if_absent) = self.flushing.open(&self.node, &self.task)?;
        let boot = self.node.boot.epoch(&self.node.tasks, self.node.host.store_id()).map_err(|e| NotReady::of(&e))?;
        Ok((storage, create_if_absent, boot))
    }

    fn told_to_stop(&self, pause: Duration) -> bool {
        match self.commands.recv_timeout(pause) {
            Ok(Command::Stop { .. }) | Err(RecvTimeoutError::Disconnected) => true,
            Ok(Command::Flush(answer)) => {
                let _ = answer.send(Err("the task has not begun on this store yet".to_owned()));
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
        }
    }

    /// Another process runs as this store (I9). Taking the epoch back would only make it do the same: this one keeps
    /// still until it is asked to end.
    fn yield_to_newer_process(&self, boot: u64) {
        let store_id = self.node.host.store_id();
        let message = format!(
            "another process runs as store {store_id} since boot epoch {boot}; this one backs up nothing more: \
             stop one of them, and start the other anew"
        );
        let code = ErrorCode::Coordinator.to_string();
        self.node.metrics.fatal_errors.with_label_values(&[&code]).inc();
        self.tell(&NotReady { code, message });
        while !self.told_to_stop(Duration::from_secs(60)) {}
    }

    /// The order binds: the shards know the task before its regions are observed, and forget it after.
    fn run(&self, storage: &Storage, create_if_absent: bool, boot: u64) -> Ended {
        let name = &self.task.name;
        let flusher = self.flushing.flusher(&self.node, storage, create_if_absent, &self.progress);
        let (sealed_sender, sealed) = unbounded();
        self.node.shards.register(name, sealed_sender);
        self.node.observer.broadcast(|_| ShardMessage::StartTask(self.task.clone()));
        self.node.interest.add(&self.task, &self.node.observer, &*self.node.host);
        let object = CheckpointObject::new(&self.node, storage.clone(), self.task.clone());
        let keeper = object.keep_up(&self.flushing.runtime);
        let runner = Runner {
            node: self.node.clone(),
            task: self.task.clone(),
            flusher,
            boot,
            commands: self.commands.clone(),
            sealed,
            progress: self.progress.clone(),
        };
        let ended = runner.run();
        keeper.abort();
        if ended == Ended::Stopped && !self.node.stop.is_raised() {
            object.finish(&self.flushing.runtime, self.progress.snapshot().checkpoint);
        }
        self.node.interest.remove(name, &self.node.observer);
        self.node.observer.broadcast(|_| ShardMessage::StopTask(name.clone()));
        self.node.shards.unregister(name);
        ended
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
