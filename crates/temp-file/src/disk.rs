//! The file of a generation: compressed blocks and plain runs, one after the other, found again by place.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crc64fast::Digest;

use crate::SpoolError;

/// Bytes that are collected before they are written.
const WRITE_SIZE: usize = 256 << 10;

/// Where something lies in the file, and its checksum: a local disk may lie, and a checksum that is made of what was
/// read back would bless it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) length: usize,
    crc64: u64,
}

/// How a spool file is made; tests make others.
pub(crate) type Create = fn(&Path) -> io::Result<File>;

/// A new file that can be read and written.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// A spool file that is written. Dropping removes it.
#[derive(Debug)]
pub(crate) struct SpoolWriter {
    file: SpoolFile,
    written: u64,
    pending: Vec<u8>,
}

impl SpoolWriter {
    /// Memory that it holds.
    pub(crate) const MEMORY: usize = WRITE_SIZE;

    pub(crate) fn create(path: PathBuf, create: Create) -> Result<Self, SpoolError> {
        let file = create(&path).map_err(SpoolError::io("create", &path))?;
        let pending = Vec::with_capacity(WRITE_SIZE);
        Ok(SpoolWriter { file: SpoolFile { path, file }, written: 0, pending })
    }

    /// Appends the parts as one; it is written at the latest by [`flush`](Self::flush).
    pub(crate) fn append<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>) -> Result<Place, SpoolError> {
        let (offset, mut length, mut crc) = (self.written + self.pending.len() as u64, 0, Digest::new());
        for part in parts {
            length += part.len();
            crc.write(part);
            if self.pending.len() + part.len() > WRITE_SIZE {
                self.flush()?;
            }
            if part.len() >= WRITE_SIZE {
                self.write(part)?;
            } else {
                self.pending.extend_from_slice(part);
            }
        }
        Ok(Place { offset, length, crc64: crc.sum64() })
    }

    /// Writes what is pending: then it can be read.
    pub(crate) fn flush(&mut self) -> Result<(), SpoolError> {
        let pending = std::mem::take(&mut self.pending);
        let done = self.write(&pending);
        self.pending = pending;
        self.pending.clear();
        done
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let SpoolFile { path, file } = &self.file;
        file.write_all_at(bytes, self.written).map_err(SpoolError::io("write", path))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Appends what lies at `place` to `out`. It must have been flushed.
    pub(crate) fn read(&self, place: Place, out: &mut Vec<u8>) -> Result<(), SpoolError> {
        self.file.read(place, out)
    }

    /// The file, all written.
    pub(crate) fn finish(mut self) -> Result<SpoolFile, SpoolError> {
        self.flush()?;
        Ok(self.file)
    }
}

/// A spool file that is read. Dropping removes it.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    path: PathBuf,
    file: File,
}

impl SpoolFile {
    /// Appends what lies at `place` to `out`.
    pub(crate) fn read(&self, place: Place, out: &mut Vec<u8>) -> Result<(), SpoolError> {
        let before = out.len();
        out.resize(before + place.length, 0);
        let bytes = &mut out[before..];
        self.file.read_exact_at(bytes, place.offset).map_err(SpoolError::io("read", &self.path))?;
        let mut crc = Digest::new();
        crc.write(bytes);
        if crc.sum64() == place.crc64 {
            return Ok(());
        }
        Err(SpoolError::Corrupt { path: self.path.clone(), offset: place.offset, length: place.length })
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a spool file; the next start will");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back_and_verified() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.spool");
        let mut writer = SpoolWriter::create(path.clone(), create).unwrap();
        let big = vec![7; WRITE_SIZE + 1];
        let parts: [&[&[u8]]; 4] = [&[b"ab", b"c"], &[], &[&big, b"d"], &[b"end"]];
        let places: Vec<_> = parts.iter().map(|p| writer.append(p.iter().copied()).unwrap()).collect();
        let file = writer.finish().unwrap();
        for (place, parts) in places.iter().zip(parts) {
            let mut out = b"before".to_vec();
            file.read(*place, &mut out).unwrap();
            assert_eq!(out, [b"before", &parts.concat()[..]].concat());
        }
        file.file.write_all_at(b"X", 1).unwrap();
        let error = file.read(places[0], &mut Vec::new()).unwrap_err();
        assert!(matches!(error, SpoolError::Corrupt { offset: 0, length: 3, .. }), "{error}");
        drop(file);
        assert!(!path.exists());
    }
}
