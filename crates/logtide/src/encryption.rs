//! The keys of encrypted tasks on this store: opened before a task begins, forgotten when it is over.

use std::fmt;
use std::sync::Arc;

use logtide_flusher::Blocking;
use logtide_model::{Kms, KmsError, KmsKey, Random, Task};
use logtide_storage::{OsRandom, open_data_keys, open_kms};
use logtide_temp_file::{SpoolEncryption, TaskKeys};
use tokio::runtime::Handle;

use crate::flushing::NotReady;

/// Makes the client of a key management service.
pub(crate) type KmsOpener = Arc<dyn Fn(&KmsKey) -> Result<Arc<dyn Kms>, KmsError> + Send + Sync>;

/// Opens keys, and hands them to the shards. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Encryption {
    pub(crate) kms: KmsOpener,
    pub(crate) random: Arc<dyn Random>,
    /// Where the shards find the keys.
    pub(crate) tasks: TaskKeys,
}

impl Default for Encryption {
    /// Key files, the services that logtide has clients for, and the system's randomness.
    fn default() -> Self {
        Encryption { kms: Arc::new(open_kms), random: Arc::new(OsRandom), tasks: TaskKeys::default() }
    }
}

impl Encryption {
    /// Opens what a task encrypts with; `None` if it does not encrypt. It may wait for a disk or a network.
    ///
    /// # Errors
    /// [`NotReady`] with the remedy, without key material.
    pub(crate) async fn open(
        &self,
        task: &Arc<Task>,
        runtime: &Handle,
        blocking: Blocking,
    ) -> Result<Option<SpoolEncryption>, NotReady> {
        if task.encryption.is_none() {
            return Ok(None);
        }
        let (task, kms) = (task.clone(), self.kms.clone());
        let open = move || task.encryption.as_ref().map(|encryption| open_data_keys(encryption, &*kms)).transpose();
        let keys = blocking.run(runtime, open).await.map_err(|_| NotReady::gone())?;
        let keys = keys.map_err(|error| NotReady::of(&error))?;
        Ok(keys.map(|keys| SpoolEncryption { keys: Arc::new(keys), random: self.random.clone() }))
    }
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption").finish_non_exhaustive()
    }
}
