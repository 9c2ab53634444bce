//! The task of a simulation, through its lives: each has a storage of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use logtide_coordinator::{CoordinatorError, Pause, RawRange, TaskSpec, Tasks};
use logtide_format::Keys;
use logtide_model::{Cipher, Compression, SecretKey, TaskEncryption, TaskName, Ts};
use logtide_storage::{Storage, StorageError};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::durable::Process;
use crate::history::History;
use crate::mortal::MortalStorage;
use crate::storage::{SimStorage, StorageFaults};
use crate::violation::Violation;

type Storages = Arc<Mutex<BTreeMap<String, SimStorage>>>;

/// See the module.
pub(crate) struct SimTask {
    pub(crate) name: TaskName,
    /// The global checkpoint as last seen.
    pub(crate) checkpoint: Ts,
    /// The checkpoint of the storage as last seen.
    pub(crate) storage_checkpoint: Option<Ts>,
    /// The data key, if lives are encrypted.
    key: Option<(Cipher, SecretKey)>,
    seed: u64,
    life: u64,
    storages: Storages,
}

impl SimTask {
    pub(crate) fn new(seed: u64) -> Self {
        let name = TaskName::new("t").unwrap_or_else(|_| unreachable!("a good name"));
        let mut rng = SmallRng::seed_from_u64(seed);
        let key = rng.random_bool(0.25).then(|| {
            let cipher = Cipher::ALL[rng.random_range(0..3)];
            (cipher, SecretKey::new((0..cipher.key_len()).map(|_| rng.random()).collect::<Vec<u8>>()))
        });
        let (checkpoint, storage_checkpoint) = (Ts::ZERO, None);
        SimTask { name, checkpoint, storage_checkpoint, key, seed, life: 0, storages: Storages::default() }
    }

    /// What its data can be read with.
    pub(crate) fn keys(&self) -> Keys {
        self.key.iter().fold(Keys::default(), |keys, (_, key)| keys.with_data_key(key.clone()))
    }

    fn url(&self) -> String {
        format!("memory://life-{}", self.life)
    }

    /// Starts a life of the task, with everything that the stores hold.
    pub(crate) fn create(&mut self, tasks: &Tasks, history: &History, faults: StorageFaults) -> Result<(), Violation> {
        self.life += 1;
        self.checkpoint = Ts::ZERO;
        self.storage_checkpoint = None;
        history.forget_completed();
        let storage = SimStorage::new(self.seed ^ self.life);
        storage.set_faults(faults);
        self.storages.lock().insert(self.url(), storage);
        let spec = TaskSpec {
            name: self.name.clone(),
            storage: self.url(),
            start_ts: Ts::ZERO,
            ranges: vec![RawRange::new(vec![], vec![])],
            compression: Compression::Zstd,
            encryption: self.key.clone().map(|(cipher, key)| TaskEncryption::DataKey { cipher, key }),
        };
        tasks.create(&spec).map(drop).map_err(|e| Violation::broken(&e))
    }

    /// Ends this life and starts the next under the same name.
    pub(crate) fn renew(&mut self, tasks: &Tasks, history: &History, faults: StorageFaults) -> Result<(), Violation> {
        tasks.remove(&self.name).map_err(|e| Violation::broken(&e))?;
        self.create(tasks, history, faults)
    }

    /// Pauses or resumes this life.
    pub(crate) fn pause(&self, tasks: &Tasks, paused: bool) -> Result<(), Violation> {
        let broken = |e: CoordinatorError| Violation::broken(&e);
        let task = tasks.require(&self.name).map_err(broken)?;
        if paused {
            tasks.set_pause(&task, &Pause::default()).map_err(broken)
        } else {
            tasks.clear_pause(&task).map_err(broken)
        }
    }

    /// Opens the storages of all lives for a process.
    pub(crate) fn opener(
        &self,
        process: Process,
    ) -> impl Fn(&str) -> Result<Storage, StorageError> + Send + Sync + 'static {
        let storages = self.storages.clone();
        move |url| match storages.lock().get(url) {
            Some(storage) => {
                let store = MortalStorage { inner: Arc::new(storage.clone()), process: process.clone() };
                Ok(Storage { store: Arc::new(store), url: url.to_owned() })
            }
            None => Err(StorageError::BadUrl { url: url.to_owned(), reason: "no life of the task has it".to_owned() }),
        }
    }

    pub(crate) fn set_faults(&self, faults: StorageFaults) {
        self.storages.lock().values().for_each(|storage| storage.set_faults(faults));
    }

    /// The storage of this life, as an auditor sees it.
    pub(crate) fn calm(&self) -> Option<Storage> {
        let url = self.url();
        let store = self.storages.lock().get(&url)?.calm();
        Some(Storage { store, url })
    }

    /// The puts of this life.
    pub(crate) fn puts_of_life(&self) -> Vec<(String, usize)> {
        self.storages.lock().get(&self.url()).map(SimStorage::puts).unwrap_or_default()
    }

    /// All puts of all lives.
    pub(crate) fn puts(&self) -> Vec<(String, usize)> {
        self.storages.lock().values().flat_map(SimStorage::puts).collect()
    }

    pub(crate) fn objects(&self) -> u64 {
        self.puts().len() as u64
    }
}
