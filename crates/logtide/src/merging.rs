//! Merges the small metadata objects of a task in the background: when, under which lock, and what is told of it. What is
//! merged, and how, is the flusher's. It is polled, and never waits.
//!
//! It disturbs nothing: what fails is tried again, less and less often, and makes no task degraded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use logtide_checkpoint::Backoff;
use logtide_flusher::{Exclusive, Flusher, MergeDone, MergeError, NotExclusive};
use logtide_model::TaskName;
use logtide_storage::{LockError, LockOwner, Storage, WriteLock};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use crate::node::Node;

/// How soon, and how late, an attempt that failed is repeated: what is not merged yet does no harm.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(300) };
/// How long a lock may take, with all its requests.
const PATIENCE: Duration = Duration::from_secs(120);

type Ended = (Result<Option<MergeDone>, MergeError>, bool);

/// See the module.
pub(crate) struct Merging {
    node: Node,
    task: TaskName,
    runtime: Handle,
    merging: logtide_flusher::Merging,
    right: Arc<Right>,
    failures: u32,
    state: State,
}

enum State {
    /// Nothing is done before.
    Idle(Instant),
    /// An attempt is under way. With it comes whether the lock could not be given back.
    Busy(oneshot::Receiver<Ended>),
}

impl Merging {
    /// For what `flusher` commits in a boot epoch.
    pub(crate) fn new(
        node: &Node,
        task: &TaskName,
        runtime: &Handle,
        flusher: &Flusher,
        storage: &Storage,
        boot: u64,
        now: Instant,
    ) -> Self {
        let owner = LockOwner { store_id: node.host.store_id(), boot };
        let lock = WriteLock::new(storage.clone(), owner);
        Merging {
            node: node.clone(),
            task: task.clone(),
            runtime: runtime.clone(),
            merging: flusher.merging(),
            right: Arc::new(Right { lock, now_ms: AtomicU64::new(0) }),
            failures: 0,
            state: State::Idle(now),
        }
    }

    /// Does what is due.
    pub(crate) fn poll(&mut self, now: Instant) {
        match &mut self.state {
            State::Busy(answer) => match answer.try_recv() {
                Ok((ended, is_left)) => self.ended(&ended, is_left, now),
                Err(oneshot::error::TryRecvError::Empty) => {}
                // The runtime goes down.
                Err(oneshot::error::TryRecvError::Closed) => self.state = State::Idle(now + BACKOFF.cap),
            },
            State::Idle(after) if now >= *after => {
                if self.merging.is_due(self.node.config().metadata_merge_count) || self.failures > 0 {
                    self.begin();
                }
            }
            State::Idle(_) => {}
        }
    }

    fn begin(&mut self) {
        // For people who find the lock; without a timestamp it says 1970.
        let now_ms = self.node.host.timestamp().map_or(0, |ts| ts.physical_ms());
        self.right.now_ms.store(now_ms, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let (merging, right) = (self.merging.clone(), self.right.clone());
        self.runtime.spawn(async move {
            let ended = merging.run(&*right).await;
            let mut is_left = right.lock.is_begun().await && !merging.is_open();
            if is_left {
                is_left = right.release().await.is_err();
            }
            // Nobody has to listen.
            let _ = sender.send((ended, is_left));
        });
        self.state = State::Busy(answer);
    }

    fn ended(&mut self, ended: &Result<Option<MergeDone>, MergeError>, is_left: bool, now: Instant) {
        let outcome = self.tell(ended);
        if let Some(outcome) = outcome {
            self.node.metrics.metadata_merges.with_label_values(&[outcome]).inc();
        }
        let failed = is_left || !matches!(ended, Ok(_) | Err(MergeError::GivenUp(_)));
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        self.state = State::Idle(now + BACKOFF.delay(self.failures, self.node.host.store_id()));
    }

    fn tell(&self, ended: &Result<Option<MergeDone>, MergeError>) -> Option<&'static str> {
        let task = &self.task;
        match ended {
            Ok(None) => return None,
            Ok(Some(MergeDone { objects, bytes, took })) => {
                self.node.metrics.merged_metadata_objects.inc_by(*objects as u64);
                info!(%task, objects, bytes, took_ms = took.as_millis() as u64, "merged metadata objects");
                return Some("merged");
            }
            Err(error @ (MergeError::Busy(_) | MergeError::NoMemory { .. } | MergeError::Stopped)) => {
                debug!(%task, %error, "metadata objects are merged later");
            }
            Err(error) => warn!(%task, %error, "metadata objects are not merged"),
        }
        ended.as_ref().err().map(|error| match error {
            MergeError::Busy(_) => "busy",
            MergeError::NoMemory { .. } => "no-memory",
            MergeError::GivenUp(_) => "given-up",
            MergeError::Stopped => "stopped",
            _ => "failed",
        })
    }
}

/// The locks of the prefix.
struct Right {
    lock: WriteLock,
    now_ms: AtomicU64,
}

impl Right {
    async fn in_time(work: impl Future<Output = Result<(), LockError>>) -> Result<(), NotExclusive> {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error @ LockError::Taken { .. })) => Err(NotExclusive::Busy(error.to_string())),
            Ok(Err(error)) => Err(NotExclusive::Failed(error.to_string())),
            Err(_) => Err(NotExclusive::Failed(format!("the lock of the storage took more than {PATIENCE:?}"))),
        }
    }
}

impl Exclusive for Right {
    fn acquire(&self) -> BoxFuture<'_, Result<(), NotExclusive>> {
        Right::in_time(self.lock.acquire(self.now_ms.load(Ordering::Relaxed))).boxed()
    }

    fn confirm(&self) -> BoxFuture<'_, Result<(), NotExclusive>> {
        Right::in_time(self.lock.confirm()).boxed()
    }

    fn release(&self) -> BoxFuture<'_, Result<(), NotExclusive>> {
        Right::in_time(self.lock.release()).boxed()
    }
}
