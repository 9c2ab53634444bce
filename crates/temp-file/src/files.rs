//! The narrow way to the local disk: what a spool asks of it, and nothing else. Tests put faults behind it.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The files of a directory. All calls may block.
pub trait Files: Debug + Send + Sync {
    /// Makes a new file that can be read and written, and its directory if that is gone.
    ///
    /// # Errors
    /// What the system says; there is no file then.
    fn create(&self, path: &Path) -> io::Result<Box<dyn RawFile>>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system says; the file may be there still.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// An open file.
pub trait RawFile: Debug + Send + Sync {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// What the system says; a part may be written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Fills `bytes` with what is at `offset`.
    ///
    /// # Errors
    /// What the system says, or that the file ends before.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
}

/// The files of the system.
#[derive(Clone, Copy, Debug)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn RawFile>> {
        let new = || OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = match new() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                new()?
            }
            file => file?,
        };
        Ok(Box::new(file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

impl RawFile for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, offset)
    }
}
