//! The local disks of the stores, in memory, with their troubles: what spools are written to.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use logtide::{Files, RawFile};
use logtide_model::StoreId;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// How likely each kind of request fails, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct DiskFaults {
    /// Making a file.
    pub(crate) create: f64,
    /// Writing: a part may be written.
    pub(crate) write: f64,
    /// Reading.
    pub(crate) read: f64,
    /// Reading, which answers with something else than what was written.
    pub(crate) damage: f64,
    /// Removing a file.
    pub(crate) remove: f64,
}

/// The disks of all stores. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct SimDisks(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rng: SmallRng,
    faults: BTreeMap<StoreId, DiskFaults>,
    /// How often a request failed because of them.
    failures: u64,
}

impl SimDisks {
    pub(crate) fn new(seed: u64) -> Self {
        let (rng, faults) = (SmallRng::seed_from_u64(seed), BTreeMap::new());
        SimDisks(Arc::new(Mutex::new(State { rng, faults, failures: 0 })))
    }

    /// The trouble of a store's disk from now on.
    pub(crate) fn set(&self, store: StoreId, faults: DiskFaults) {
        self.0.lock().faults.insert(store, faults);
    }

    /// All are well again.
    pub(crate) fn heal(&self) {
        self.0.lock().faults.clear();
    }

    /// How often a request failed.
    pub(crate) fn failures(&self) -> u64 {
        self.0.lock().failures
    }

    /// A new disk for a process of a store; nothing is on it.
    pub(crate) fn mount(&self, store: StoreId) -> Arc<dyn Files> {
        Arc::new(SimFiles { disk: Disk { disks: self.clone(), store }, files: Mutex::default() })
    }
}

/// One store's disk.
#[derive(Clone, Debug)]
struct Disk {
    disks: SimDisks,
    store: StoreId,
}

impl Disk {
    /// True if the request is to fail.
    fn fails(&self, kind: impl Fn(&DiskFaults) -> f64) -> bool {
        let mut state = self.disks.0.lock();
        let Some(likely) = state.faults.get(&self.store).map(kind).filter(|likely| *likely > 0.0) else { return false };
        let fails = state.rng.random_bool(likely.min(1.0));
        state.failures += u64::from(fails);
        fails
    }

    /// A number below `end`; 0 for none.
    fn pick(&self, end: usize) -> usize {
        if end == 0 { 0 } else { self.disks.0.lock().rng.random_range(0..end) }
    }
}

type Content = Arc<Mutex<Vec<u8>>>;

/// The files of one process.
#[derive(Debug)]
struct SimFiles {
    disk: Disk,
    files: Mutex<BTreeMap<PathBuf, Content>>,
}

impl Files for SimFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn RawFile>> {
        if self.disk.fails(|faults| faults.create) {
            return Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "simulated: the disk takes no file"));
        }
        let content = Content::default();
        if self.files.lock().insert(path.to_owned(), content.clone()).is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "simulated: there is a file of that name"));
        }
        Ok(Box::new(SimFile { disk: self.disk.clone(), content }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.disk.fails(|faults| faults.remove) {
            return Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "simulated: the file stays"));
        }
        self.files.lock().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: Disk,
    content: Content,
}

impl SimFile {
    fn put(&self, bytes: &[u8], offset: u64) {
        let mut content = self.content.lock();
        let from = offset as usize;
        let length = content.len().max(from + bytes.len());
        content.resize(length, 0);
        content[from..from + bytes.len()].copy_from_slice(bytes);
    }
}

impl RawFile for SimFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.disk.fails(|faults| faults.write) {
            self.put(&bytes[..self.disk.pick(bytes.len())], offset);
            return Err(io::Error::new(io::ErrorKind::StorageFull, "simulated: the disk is full"));
        }
        self.put(bytes, offset);
        Ok(())
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        if self.disk.fails(|faults| faults.read) {
            return Err(io::Error::other("simulated: the disk cannot read"));
        }
        let content = self.content.lock();
        let from = offset as usize;
        let part = content.get(from..from + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(part);
        if self.disk.fails(|faults| faults.damage) {
            let at = self.disk.pick(bytes.len());
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
        }
        Ok(())
    }
}
