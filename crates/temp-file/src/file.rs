//! The file of a generation: compressed blocks and plain runs, one after the other, found again by place.

use std::io;
use std::path::{Path, PathBuf};

use crc64fast::Digest;
use logtide_model::Permit;

use crate::files::{Files, RawFile};
use crate::{SpoolDisk, SpoolError};

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

/// What is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Block,
    /// It will be read and become a block at the seal: as many bytes are set aside for that.
    Run,
}

/// A spool file that is written. Dropping removes it.
#[derive(Debug)]
pub(crate) struct SpoolWriter {
    file: SpoolFile,
    /// Bytes set aside for the blocks that runs become.
    promised: u64,
}

impl SpoolWriter {
    /// Memory that it holds.
    pub(crate) const MEMORY: usize = WRITE_SIZE;

    /// `None` if the disk takes nothing.
    pub(crate) fn create(path: PathBuf, disk: &SpoolDisk) -> Option<Self> {
        let raw = disk.create(&path).map_err(|error| disk.failed(&error)).ok()?;
        let (bytes, pending) = (Some(disk.permit()), Vec::with_capacity(WRITE_SIZE));
        let file = SpoolFile { path, raw, disk: disk.clone(), bytes, written: 0, pending };
        Some(SpoolWriter { file, promised: 0 })
    }

    /// Appends the parts as one. `None` if the disk does not take them: then nothing was appended, and what was before is
    /// as it was.
    pub(crate) fn append<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]> + Clone, kind: Kind) -> Option<Place> {
        let (mut length, mut crc) = (0, Digest::new());
        parts.clone().for_each(|part| {
            length += part.len();
            crc.write(part);
        });
        let promised = if kind == Kind::Run { self.promised + length as u64 } else { self.promised };
        if !self.file.reserve(self.file.end() + length as u64 + promised) {
            return None;
        }
        if self.file.pending.len() + length > WRITE_SIZE {
            self.file.flush()?;
        }
        let offset = self.file.end();
        self.file.push(parts)?;
        self.promised = promised;
        Some(Place { offset, length, crc64: crc.sum64() })
    }

    /// Runs become blocks from now on: what was set aside for them may be used.
    pub(crate) fn redeem(&mut self) {
        self.promised = 0;
    }

    /// Appends what lies at `place` to `out`.
    pub(crate) fn read(&self, place: Place, out: &mut Vec<u8>) -> Result<(), SpoolError> {
        self.file.read(place, out)
    }

    /// The file, and how many bytes of it stay in memory because the disk does not take them.
    pub(crate) fn finish(mut self) -> (SpoolFile, usize) {
        // What cannot be written is where it can be read all the same.
        if !self.file.disk.is_out() && self.file.flush().is_some() {
            self.file.pending = Vec::new();
        }
        let in_memory = self.file.pending.len();
        if let Some(bytes) = &mut self.file.bytes {
            bytes.resize(usize::try_from(self.file.written).unwrap_or(usize::MAX));
        }
        (self.file, in_memory)
    }
}

/// A spool file that is read. Dropping removes it.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    path: PathBuf,
    raw: Box<dyn RawFile>,
    disk: SpoolDisk,
    /// What the disk has for it; taken when it is removed.
    bytes: Option<Permit>,
    written: u64,
    /// What comes after the bytes that are written.
    pending: Vec<u8>,
}

impl SpoolFile {
    fn end(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    fn reserve(&mut self, bytes: u64) -> bool {
        self.bytes.as_mut().is_some_and(|permit| self.disk.reserve(permit, bytes))
    }

    /// Writes what is pending; `None` if the disk fails, and then all is as it was.
    fn flush(&mut self) -> Option<()> {
        self.write(self.written, &self.pending)?;
        self.written = self.end();
        self.pending.clear();
        Some(())
    }

    /// Appends to what is pending, which has room, or is empty and takes what is larger through to the disk.
    fn push<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>) -> Option<()> {
        let mut at = self.written;
        for part in parts {
            if self.pending.len() + part.len() > WRITE_SIZE {
                at = self.write_through(at, part)?;
            } else {
                self.pending.extend_from_slice(part);
            }
        }
        self.written = at;
        Some(())
    }

    /// Writes what is pending, and `part`, at `at`. Nothing counts as written before all of an append is.
    fn write_through(&mut self, at: u64, part: &[u8]) -> Option<u64> {
        let pending = std::mem::take(&mut self.pending);
        let after = at + pending.len() as u64;
        let done = self.write(at, &pending).and_then(|()| self.write(after, part));
        self.pending = pending;
        self.pending.clear();
        done.map(|()| after + part.len() as u64)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Option<()> {
        if bytes.is_empty() {
            return Some(());
        }
        let written = self.raw.write_all_at(bytes, at).map_err(SpoolError::io("write", &self.path));
        written.map_err(|error| self.disk.failed(&error)).ok()
    }

    /// Appends what lies at `place` to `out`.
    pub(crate) fn read(&self, place: Place, out: &mut Vec<u8>) -> Result<(), SpoolError> {
        let read = self.try_read(place, out);
        read.inspect_err(|error| self.disk.failed(error))
    }

    fn try_read(&self, place: Place, out: &mut Vec<u8>) -> Result<(), SpoolError> {
        let before = out.len();
        out.resize(before + place.length, 0);
        let on_disk = self.written.saturating_sub(place.offset).min(place.length as u64) as usize;
        let (from_disk, from_memory) = out[before..].split_at_mut(on_disk);
        if on_disk > 0 {
            self.raw.read_exact_at(from_disk, place.offset).map_err(SpoolError::io("read", &self.path))?;
        }
        let start = (place.offset + on_disk as u64).saturating_sub(self.written) as usize;
        if let Some(pending) = self.pending.get(start..start + from_memory.len()) {
            from_memory.copy_from_slice(pending);
        }
        let mut crc = Digest::new();
        crc.write(&out[before..]);
        if crc.sum64() == place.crc64 {
            return Ok(());
        }
        Err(SpoolError::Corrupt { path: self.path.clone(), offset: place.offset, length: place.length })
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            self.disk.remove(&self.path, bytes);
        }
    }
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path, files: &dyn Files) -> Result<(), SpoolError> {
    match files.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SpoolError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Writes a file of as many bytes as a spool writes at once, reads it back and removes it.
pub(crate) fn probe(path: &Path, files: &dyn Files) -> Result<(), SpoolError> {
    let content: Vec<u8> = (0..WRITE_SIZE).map(|n| (n ^ (n >> 8)) as u8).collect();
    let mut read = vec![0; WRITE_SIZE];
    let file = files.create(path).map_err(SpoolError::io("create", path))?;
    let written = file.write_all_at(&content, 0).map_err(SpoolError::io("write", path));
    let tried = written.and_then(|()| file.read_exact_at(&mut read, 0).map_err(SpoolError::io("read", path)));
    drop(file);
    let removed = remove(path, files);
    tried.and(removed)?;
    if read == content {
        return Ok(());
    }
    Err(SpoolError::Corrupt { path: path.to_owned(), offset: 0, length: WRITE_SIZE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back_and_verified() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.spool");
        let disk = SpoolDisk::new(dir.path(), u64::MAX);
        let mut writer = SpoolWriter::create(path.clone(), &disk).unwrap();
        let (big, half) = (vec![7; WRITE_SIZE + 1], vec![8; WRITE_SIZE / 2 + 1]);
        let parts: [&[&[u8]]; 6] =
            [&[b"ab", b"c"], &[], &[&big, b"d"], &[b"end"], &[&half, &half, b"x", &half], &[b"last"]];
        let places: Vec<_> = parts.iter().map(|p| writer.append(p.iter().copied(), Kind::Block).unwrap()).collect();
        type Read<'a> = &'a dyn Fn(Place, &mut Vec<u8>) -> Result<(), SpoolError>;
        let check = |read: Read<'_>| {
            for (place, parts) in places.iter().zip(parts) {
                let mut out = b"before".to_vec();
                read(*place, &mut out).unwrap();
                assert_eq!(out, [b"before", &parts.concat()[..]].concat());
            }
        };
        check(&|place, out| writer.read(place, out));
        let (file, in_memory) = writer.finish();
        check(&|place, out| file.read(place, out));
        assert_eq!((in_memory, disk.used()), (0, std::fs::metadata(&path).unwrap().len()));
        file.raw.write_all_at(b"X", 1).unwrap();
        let error = file.read(places[0], &mut Vec::new()).unwrap_err();
        assert!(matches!(error, SpoolError::Corrupt { offset: 0, length: 3, .. }), "{error}");
        assert!(disk.is_out(), "a disk that lies is not trusted until it has proved itself");
        drop(file);
        assert!(!path.exists());
        assert_eq!(disk.used(), 0);
    }

    #[test]
    fn runs_set_aside_what_their_blocks_will_take() {
        let dir = tempfile::tempdir().unwrap();
        let disk = SpoolDisk::new(dir.path(), 1000);
        let mut writer = SpoolWriter::create(dir.path().join("a.spool"), &disk).unwrap();
        let append = |writer: &mut SpoolWriter, kind| writer.append([&[1; 400][..]].into_iter(), kind).is_some();
        assert!(append(&mut writer, Kind::Run));
        assert_eq!(disk.used(), 800);
        assert!(!append(&mut writer, Kind::Block), "it would use what the seal needs");
        assert!(disk.is_full());
        writer.redeem();
        assert!(append(&mut writer, Kind::Block), "full or not: it has been set aside");
        let (file, _) = writer.finish();
        assert_eq!(disk.used(), 800);
        drop(file);
        assert_eq!((disk.used(), disk.is_full()), (0, false));
    }
}
