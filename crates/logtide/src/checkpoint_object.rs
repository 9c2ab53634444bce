//! Keeps the checkpoint object of a storage up: what a restore goes by, which sees the storage alone.

use std::sync::Arc;
use std::time::Duration;

use logtide_coordinator::Tasks;
use logtide_model::{StoreId, Task, Ts};
use logtide_storage::{CheckpointWriter, Storage};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::warn;

use crate::node::Node;

/// How often the global checkpoint is looked at.
const INTERVAL: Duration = Duration::from_millis(250);

/// Starts it on the runtime, until aborted.
pub(crate) fn start(node: &Node, runtime: &Handle, storage: Storage, task: Arc<Task>) -> JoinHandle<()> {
    let store_id = node.host.store_id();
    let writer = CheckpointWriter::new(storage, store_id);
    let tasks = node.tasks.clone();
    let metrics = node.metrics.clone();
    runtime.spawn(async move {
        let mut written = Ts::ZERO;
        loop {
            let (shared, asked) = (tasks.clone(), task.clone());
            let read = spawn_blocking(move || shared.global_checkpoint(&asked.name)).await;
            if let Ok(Ok(Some(checkpoint))) = read
                && checkpoint > written
            {
                metrics.last_checkpoint.with_label_values(&[task.name.as_str()]).set(checkpoint.get() as f64);
                match writer.write(checkpoint).await {
                    Ok(held) => {
                        written = held;
                        tell(&tasks, &task, store_id, held).await;
                    }
                    Err(error) => warn!(task = %task.name, %error, "the checkpoint object is tried again"),
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    })
}

/// TiDB's `br log status` shows this key.
async fn tell(tasks: &Arc<Tasks>, task: &Arc<Task>, store_id: StoreId, checkpoint: Ts) {
    let (tasks, asked) = (tasks.clone(), task.clone());
    let told = spawn_blocking(move || tasks.set_storage_checkpoint(&asked, store_id, checkpoint)).await;
    if let Ok(Err(error)) = told {
        warn!(task = %task.name, %error, "the storage checkpoint is not told");
    }
}
