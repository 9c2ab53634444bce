//! Opens a task's storage and makes its flusher.

use std::sync::Arc;

use logtide_coordinator::TaskPublisher;
use logtide_flusher::{FlushConfig, FlushEvent, Flusher, ObjectKind};
use logtide_model::{Diagnose, MemoryBudget, Task};
use logtide_storage::{Identity, Storage};
use tokio::runtime::Handle;
use tracing::{debug, warn};

use crate::metrics::Metrics;
use crate::node::Node;
use crate::progress::TaskProgress;

/// What flushers share: the runtime, and the memory for uploads.
#[derive(Clone)]
pub(crate) struct Flushing {
    pub(crate) runtime: Handle,
    pub(crate) memory: MemoryBudget,
}

/// Why a task cannot begin on this store; it is tried again.
pub(crate) struct NotReady {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl NotReady {
    pub(crate) fn of(error: &dyn Diagnose) -> Self {
        let remedy = error.remedy();
        let message = if remedy.is_empty() { error.to_string() } else { format!("{error}; {remedy}") };
        NotReady { code: error.code().to_string(), message }
    }
}

impl Flushing {
    /// Opens the storage, checks that it is this task's, and what it can do.
    pub(crate) fn open(&self, node: &Node, task: &Task) -> Result<(Storage, bool), NotReady> {
        let storage = logtide_storage::open(&task.storage).map_err(|e| NotReady::of(&e))?;
        let identity = Identity::new(node.host.cluster_id(), task.name.clone(), task.incarnation, task.start_ts);
        self.runtime.block_on(async {
            let capabilities = logtide_storage::probe(&storage).await.map_err(|e| NotReady::of(&e))?;
            logtide_storage::claim(&storage, &identity).await.map_err(|e| NotReady::of(&e))?;
            Ok((storage.clone(), capabilities.create_if_absent))
        })
    }

    /// A flusher for one boot epoch of the task.
    pub(crate) fn flusher(
        &self,
        node: &Node,
        storage: &Storage,
        create_if_absent: bool,
        progress: &Arc<TaskProgress>,
    ) -> Flusher {
        let config = FlushConfig {
            file_size_limit: node.config.file_size_limit.as_u64(),
            upload_concurrency: node.config.upload_concurrency,
            upload_memory: self.memory.clone(),
            create_if_absent,
            ..FlushConfig::default()
        };
        let (metrics, progress) = (node.metrics.clone(), progress.clone());
        let publisher = Arc::new(TaskPublisher::new(node.tasks.store().clone()));
        Flusher::new(self.runtime.clone(), storage.store.clone(), publisher, config, move |event| {
            tell(&metrics, &progress, &event)
        })
    }
}

fn tell(metrics: &Metrics, progress: &TaskProgress, event: &FlushEvent) {
    match event {
        FlushEvent::Stored { kind: ObjectKind::Log, bytes, .. } => metrics.flush_file_size.observe(*bytes as f64),
        FlushEvent::Published(flushed) => {
            let stage = |name: &str, took: std::time::Duration| {
                metrics.flush_duration.with_label_values(&[name]).observe(took.as_secs_f64());
            };
            stage("generate_metadata", flushed.took.generate_metadata);
            stage("save_files", flushed.took.save_files);
            stage("clear_temp_files", flushed.took.clear_temp_files);
            metrics.flushed_objects.inc_by(flushed.objects as u64);
            metrics.flushed_bytes.inc_by(flushed.bytes);
            debug!(generation = flushed.generation, objects = flushed.objects, bytes = flushed.bytes, "flushed");
        }
        FlushEvent::Retrying { generation, what, error, next, .. } => {
            metrics.errors.with_label_values(&["KV:LogBackup:Io"]).inc();
            progress.degraded("KV:LogBackup:Io", format!("{what} is tried again: {error}"));
            warn!(generation, what, error, next_ms = next.as_millis() as u64, "flushing is held up");
        }
        FlushEvent::Poisoned { generation, error, .. } => {
            metrics.errors.with_label_values(&["KV:LogBackup:Io"]).inc();
            progress.degraded("KV:LogBackup:Io", format!("generation {generation} was lost: {error}"));
        }
        _ => {}
    }
}
