//! Files whose disk fails as it is told to.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use logtide_temp_file::{Files, RawFile};

/// What fails, with which error of the system.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) create: Option<i32>,
    /// After half of the bytes.
    pub(crate) write: Option<i32>,
    pub(crate) read: Option<i32>,
    /// What is read is not what was written.
    pub(crate) lies: bool,
    pub(crate) remove: Option<i32>,
}

pub(crate) const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EROFS: i32 = 30;

/// Cloning shares the faults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faulty {
    faults: Arc<Mutex<Faults>>,
    tries: Arc<Mutex<usize>>,
}

#[derive(Debug)]
struct FaultyFile(Box<dyn RawFile>, Faulty);

impl Faulty {
    pub(crate) fn set(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
    }

    /// How often something was asked of the disk.
    pub(crate) fn tries(&self) -> usize {
        *self.tries.lock().unwrap()
    }

    fn now(&self) -> Faults {
        *self.tries.lock().unwrap() += 1;
        *self.faults.lock().unwrap()
    }
}

impl Faults {
    /// A disk that is full: there is room for names, not for bytes.
    pub(crate) fn full() -> Self {
        Faults { write: Some(ENOSPC), ..Faults::default() }
    }

    pub(crate) fn read_only() -> Self {
        Faults { create: Some(EROFS), write: Some(EROFS), remove: Some(EROFS), ..Faults::default() }
    }

    pub(crate) fn broken() -> Self {
        Faults { create: Some(EIO), write: Some(EIO), read: Some(EIO), remove: Some(EIO), lies: false }
    }
}

fn fail(code: Option<i32>) -> io::Result<()> {
    code.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
}

impl Files for Faulty {
    fn create(&self, path: &Path) -> io::Result<Box<dyn RawFile>> {
        fail(self.now().create)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Box::new(FaultyFile(Box::new(file), self.clone())))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fail(self.now().remove)?;
        fs::remove_file(path)
    }
}

impl RawFile for FaultyFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let fault = self.1.now().write;
        if fault.is_some() {
            self.0.write_all_at(&bytes[..bytes.len() / 2], offset)?;
        }
        fail(fault)?;
        self.0.write_all_at(bytes, offset)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let faults = self.1.now();
        fail(faults.read)?;
        self.0.read_exact_at(bytes, offset)?;
        if faults.lies
            && let Some(first) = bytes.first_mut()
        {
            *first ^= 1;
        }
        Ok(())
    }
}
