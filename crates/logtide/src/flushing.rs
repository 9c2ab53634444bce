//! Opens a task's keys and its storage, and makes its flusher.

use std::sync::Arc;

use logtide_coordinator::TaskPublisher;
use logtide_flusher::{Blocking, FlushConfig, FlushEvent, Flusher, ObjectKind, Setback};
use logtide_model::{Diagnose, ErrorCode, MemoryBudget, Task};
use logtide_storage::{Capabilities, Identity, Storage, StorageError, Trouble, classify};
use logtide_temp_file::SpoolEncryption;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::{debug, warn};

use crate::encryption::Encryption;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::progress::TaskProgress;

/// Opens a storage from its URL.
pub(crate) type Opener = Arc<dyn Fn(&str) -> Result<Storage, StorageError> + Send + Sync>;

/// What flushers share: the runtime, the memory for uploads, and the way to storages and keys.
#[derive(Clone)]
pub(crate) struct Flushing {
    pub(crate) runtime: Handle,
    pub(crate) memory: MemoryBudget,
    pub(crate) blocking: Blocking,
    pub(crate) opener: Opener,
    pub(crate) encryption: Encryption,
}

/// A storage that is this task's, and what its objects are encrypted with.
pub(crate) struct Opened {
    pub(crate) storage: Storage,
    pub(crate) capabilities: Capabilities,
    /// `None` if the task is not encrypted.
    pub(crate) keys: Option<SpoolEncryption>,
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

    /// The runtime went down before there was an answer.
    pub(crate) fn gone() -> Self {
        let message = "the storage was not looked at to the end; the store goes down".to_owned();
        NotReady { code: ErrorCode::Io.to_string(), message }
    }
}

impl Flushing {
    /// Opens the keys, then the storage, and checks that it is this task's, and what it can do.
    pub(crate) fn open(&self, node: &Node, task: &Arc<Task>) -> oneshot::Receiver<Result<Opened, NotReady>> {
        let (sender, answer) = oneshot::channel();
        let identity = Identity::new(node.host.cluster_id(), task.name.clone(), task.incarnation, task.start_ts);
        let (flushing, task) = (self.clone(), task.clone());
        self.runtime.spawn(async move {
            // Nobody has to listen.
            let _ = sender.send(flushing.prepare(&task, &identity).await);
        });
        answer
    }

    /// A storage is not claimed for a task whose keys are missing.
    async fn prepare(&self, task: &Arc<Task>, identity: &Identity) -> Result<Opened, NotReady> {
        let keys = self.encryption.open(task, &self.runtime, self.blocking).await?;
        let (storage, capabilities) =
            claim(&self.opener, &task.storage, identity).await.map_err(|e| NotReady::of(&e))?;
        Ok(Opened { storage, capabilities, keys })
    }

    /// A flusher for one boot epoch of the task.
    pub(crate) fn flusher(&self, node: &Node, opened: &Opened, progress: &Arc<TaskProgress>) -> Flusher {
        let config = FlushConfig {
            file_size_limit: node.config().file_size_limit.as_u64(),
            upload_concurrency: node.config().upload_concurrency,
            upload_memory: self.memory.clone(),
            create_if_absent: opened.capabilities.create_if_absent,
            judge,
            blocking: self.blocking,
            ..FlushConfig::default()
        };
        let (metrics, progress) = (node.metrics.clone(), progress.clone());
        let publisher = Arc::new(TaskPublisher::new(node.tasks.store().clone()));
        Flusher::new(self.runtime.clone(), opened.storage.store.clone(), publisher, config, move |event| {
            tell(&metrics, &progress, &event)
        })
    }
}

async fn claim(opener: &Opener, url: &str, identity: &Identity) -> Result<(Storage, Capabilities), StorageError> {
    let storage = opener(url)?;
    let capabilities = logtide_storage::probe(&storage).await?;
    logtide_storage::claim(&storage, identity).await?;
    Ok((storage, capabilities))
}

/// What an error of a storage asks of the flusher. All is tried again, whatever it is.
fn judge(error: &object_store::Error) -> Setback {
    match classify(error) {
        Trouble::RateLimited { retry_after } => Setback::SlowDown { retry_after },
        Trouble::Denied => Setback::Lasting { remedy: "renew the credentials of the storage, or let them write there" },
        Trouble::Full => Setback::Lasting { remedy: "make room in the storage, or raise its quota" },
        Trouble::Permanent => {
            Setback::Lasting { remedy: "check that the bucket is there and the URL of the task fits it" }
        }
        _ => Setback::Passing,
    }
}

fn retry_text(what: &str, error: &str, setback: Setback) -> String {
    match setback {
        Setback::SlowDown { .. } => format!("{what} waits, for the storage asks for fewer requests: {error}"),
        Setback::Lasting { remedy } => {
            format!("{what} is tried again, but until somebody acts it will fail: {error}; {remedy}")
        }
        _ => format!("{what} is tried again: {error}"),
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
        FlushEvent::Retrying { generation, what, error, next, setback, .. } => {
            metrics.errors.with_label_values(&["KV:LogBackup:Io"]).inc();
            progress.degraded("KV:LogBackup:Io", retry_text(what, error, *setback));
            warn!(generation, what, error, next_ms = next.as_millis() as u64, "flushing is held up");
        }
        FlushEvent::Poisoned { generation, error, .. } => {
            metrics.errors.with_label_values(&["KV:LogBackup:Io"]).inc();
            progress.degraded("KV:LogBackup:Io", format!("generation {generation} was lost: {error}"));
        }
        _ => {}
    }
}
