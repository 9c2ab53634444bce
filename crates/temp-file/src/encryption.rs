//! What a spool encrypts with: the same ciphertext lies in memory, on the local disk and in the storage.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use logtide_format::{DataKey, DataKeys, FileEncryption, IV_LEN};
use logtide_model::{Incarnation, Random, Task, TaskName};

use crate::SpoolError;

/// Keys and randomness for the spools of a task.
#[derive(Clone, Debug)]
pub struct SpoolEncryption {
    /// Where data keys come from.
    pub keys: Arc<DataKeys>,
    /// Where IVs and new keys come from.
    pub random: Arc<dyn Random>,
}

/// The keys of the tasks of this store, by task and incarnation. Whoever starts a task opens its keys, which may wait
/// for a network or a disk, and puts them here before the shards hear of the task; without them an encrypted task
/// spools nothing.
#[derive(Clone, Debug, Default)]
pub struct TaskKeys {
    keys: Arc<Mutex<BTreeMap<(TaskName, Incarnation), SpoolEncryption>>>,
}

impl TaskKeys {
    /// Sets the keys of a task.
    pub fn insert(&self, task: &Task, keys: SpoolEncryption) {
        let mut all = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((task.name.clone(), task.incarnation), keys);
    }

    /// Forgets the keys of a task; its open spools keep theirs.
    pub fn remove(&self, task: &Task) {
        let mut all = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&(task.name.clone(), task.incarnation));
    }

    /// What a spool of the task encrypts with; `None` if the task is not encrypted.
    ///
    /// # Errors
    /// [`SpoolError::NoKeys`] if it is, and its keys are not here.
    pub fn of(&self, task: &Task) -> Result<Option<SpoolEncryption>, SpoolError> {
        if task.encryption.is_none() {
            return Ok(None);
        }
        let all = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = all.get(&(task.name.clone(), task.incarnation));
        keys.cloned().map(Some).ok_or_else(|| SpoolError::NoKeys { task: task.name.clone() })
    }
}

/// The encryption of one spool: every generation has a data key of its own, unless the key is the task's.
#[derive(Debug)]
pub(crate) struct SpoolCipher {
    config: SpoolEncryption,
    key: Option<Arc<DataKey>>,
}

impl SpoolCipher {
    pub(crate) fn new(config: SpoolEncryption) -> Self {
        SpoolCipher { config, key: None }
    }

    /// The next block belongs to another generation.
    pub(crate) fn end_generation(&mut self) {
        self.key = None;
    }

    /// Encrypts a block in place.
    pub(crate) fn encrypt(&mut self, bytes: &mut [u8]) -> Result<FileEncryption, SpoolError> {
        let (key, iv) = self.fresh()?;
        key.encrypt(iv, bytes).map_err(SpoolError::Key)
    }

    /// Encrypts a run in place; what it returns decrypts it.
    pub(crate) fn encrypt_run(&mut self, bytes: &mut [u8]) -> Result<RunCipher, SpoolError> {
        let (key, iv) = self.fresh()?;
        key.apply(iv, bytes).map_err(SpoolError::Key)?;
        Ok(RunCipher { key, iv })
    }

    fn fresh(&mut self) -> Result<(Arc<DataKey>, [u8; IV_LEN]), SpoolError> {
        let SpoolEncryption { keys, random } = &self.config;
        let key = match &self.key {
            Some(key) => Arc::clone(key),
            None => Arc::clone(self.key.insert(keys.next(&**random).map_err(SpoolError::Key)?)),
        };
        let mut iv = [0; IV_LEN];
        random.fill(&mut iv).map_err(|e| SpoolError::Key(e.into()))?;
        Ok((key, iv))
    }
}

/// How a run is encrypted.
#[derive(Clone, Debug)]
pub(crate) struct RunCipher {
    key: Arc<DataKey>,
    iv: [u8; IV_LEN],
}

impl RunCipher {
    pub(crate) fn decrypt(&self, bytes: &mut [u8]) -> Result<(), SpoolError> {
        self.key.apply(self.iv, bytes).map_err(SpoolError::Key)
    }
}
