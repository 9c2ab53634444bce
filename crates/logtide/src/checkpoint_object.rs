//! Keeps the checkpoint object of a storage up: what a restore goes by, which sees the storage alone.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use logtide_coordinator::Tasks;
use logtide_flusher::Blocking;
use logtide_model::{StoreId, Task, Ts};
use logtide_storage::{CheckpointWriter, Storage};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};
use tracing::warn;

use crate::Config;
use crate::metrics::Metrics;
use crate::node::Node;

/// The longest between two looks at the global checkpoint; with short flush intervals it is a fraction of those.
const SLOWEST: Duration = Duration::from_millis(250);

/// How long the end of a task waits for the last flush to show in the global checkpoint.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Writes a task's checkpoint object for one store.
pub(crate) struct CheckpointObject {
    tasks: Arc<Tasks>,
    metrics: Metrics,
    task: Arc<Task>,
    store_id: StoreId,
    writer: CheckpointWriter,
    blocking: Blocking,
    settings: Arc<ArcSwap<Config>>,
}

impl CheckpointObject {
    pub(crate) fn new(node: &Node, storage: Storage, task: Arc<Task>, blocking: Blocking) -> Arc<Self> {
        let store_id = node.host.store_id();
        let writer = CheckpointWriter::new(storage, store_id);
        let (tasks, metrics) = (node.tasks.clone(), node.metrics.clone());
        let settings = node.settings.clone();
        Arc::new(CheckpointObject { tasks, metrics, task, store_id, writer, blocking, settings })
    }

    /// Keeps it up, until aborted.
    pub(crate) fn keep_up(self: &Arc<Self>, runtime: &Handle) -> JoinHandle<()> {
        let object = self.clone();
        runtime.spawn(async move {
            let mut written = Ts::ZERO;
            loop {
                written = object.bring_up(written).await;
                tokio::time::sleep(object.pause()).await;
            }
        })
    }

    /// The last word: waits a little until the global checkpoint has reached `stated` (other stores may hold it back),
    /// so that the storage alone knows what the last flush brought.
    pub(crate) fn finish(self: &Arc<Self>, runtime: &Handle, stated: Option<Ts>) -> JoinHandle<()> {
        let (object, stated) = (self.clone(), stated.unwrap_or(Ts::ZERO));
        runtime.spawn(async move {
            let last_word = async {
                let mut written = object.bring_up(Ts::ZERO).await;
                while written < stated {
                    tokio::time::sleep(object.pause() / 10).await;
                    written = object.bring_up(written).await;
                }
            };
            // A storage that does not answer must not keep the store from ending; the checkpoint is brought up later.
            let _ = tokio::time::timeout(LAST_WAIT, last_word).await;
        })
    }

    /// Writes the global checkpoint if it is above `written`; what is written then.
    async fn bring_up(self: &Arc<Self>, written: Ts) -> Ts {
        let object = self.clone();
        let read = self.offload(move || object.tasks.global_checkpoint(&object.task.name)).await;
        let Ok(Ok(Some(checkpoint))) = read else { return written };
        if checkpoint <= written {
            return written;
        }
        let name = self.task.name.as_str();
        self.metrics.last_checkpoint.with_label_values(&[name]).set(checkpoint.get() as f64);
        match self.writer.write(checkpoint).await {
            Ok(held) => {
                self.tell(held).await;
                held
            }
            Err(error) => {
                warn!(task = name, %error, "the checkpoint object is tried again");
                written
            }
        }
    }

    fn pause(&self) -> Duration {
        self.settings.load().look_interval().min(SLOWEST)
    }

    async fn offload<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        self.blocking.run(&Handle::current(), work).await
    }

    /// TiDB's `br log status` shows this key.
    async fn tell(self: &Arc<Self>, checkpoint: Ts) {
        let object = self.clone();
        let tell = move || object.tasks.set_storage_checkpoint(&object.task, object.store_id, checkpoint);
        if let Ok(Err(error)) = self.offload(tell).await {
            warn!(task = %self.task.name, %error, "the storage checkpoint is not told");
        }
    }
}
