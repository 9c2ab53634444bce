//! The journal file: replaying what others wrote, appending, rewriting.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::directory::frame::{self, Found, Payload};
use crate::store::{Change, State, StoreError};

/// A new snapshot is written when the changes take this many bytes more than twice the snapshot.
const SLACK: u64 = 4 << 20;

/// A journal and the state that it comes to. Locking is the caller's business.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    path: PathBuf,
    tail: Tail,
    /// A write failed: what the file holds is not known, so the next writer begins a new one.
    suspect: bool,
    state: State,
}

/// An open journal file, and how far it is read.
#[derive(Debug)]
struct Tail {
    file: File,
    /// Length of the snapshot's frame.
    snapshot: u64,
    /// Up to where the file is replayed.
    replayed: u64,
    /// How long the file was then: more than `replayed` if its last frame was cut off.
    seen: u64,
}

impl Journal {
    /// Opens the journal of `dir`; makes it if there is none. Needs the exclusive lock.
    pub(crate) fn open_or_create(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("journal");
        if !path.try_exists().map_err(StoreError::io("look for", &path))? {
            replace(dir, &path, &frame::encode_snapshot(&State::default()))?;
        }
        let (tail, state) = load(&path)?;
        Ok(Journal { dir: dir.to_path_buf(), path, tail, suspect: false, state })
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// True if the file is not the one that was read, or not as long. Needs no lock.
    pub(crate) fn is_behind(&self) -> Result<bool, StoreError> {
        Ok(self.suspect || self.was_replaced()? || self.len()? != self.tail.seen)
    }

    fn len(&self) -> Result<u64, StoreError> {
        Ok(self.tail.file.metadata().map_err(StoreError::io("look at", &self.path))?.len())
    }

    fn was_replaced(&self) -> Result<bool, StoreError> {
        let there = match fs::metadata(&self.path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(true),
            other => other.map_err(StoreError::io("look at", &self.path))?,
        };
        let ours = self.tail.file.metadata().map_err(StoreError::io("look at", &self.path))?;
        Ok((there.dev(), there.ino()) != (ours.dev(), ours.ino()))
    }

    /// Reads what is new. Needs the lock, shared at least.
    pub(crate) fn refresh(&mut self) -> Result<(), StoreError> {
        if self.suspect || self.was_replaced()? {
            (self.tail, self.state) = load(&self.path)?;
        } else if self.len()? != self.tail.seen {
            replay(&self.path, &mut self.tail, &mut self.state)?;
        }
        Ok(())
    }

    /// Writes a change down, durably, and applies it. Needs the exclusive lock, and [`Journal::refresh`] before.
    pub(crate) fn append(&mut self, change: Change) -> Result<(), StoreError> {
        if self.suspect {
            self.rewrite()?;
        }
        let bytes = frame::encode_change(&change);
        if let Err(e) = self.write(&bytes) {
            self.suspect = true;
            // So that readers do not see what its writer was told to be unsure of. If this fails too, they do.
            let _ = self.tail.file.set_len(self.tail.replayed);
            return Err(StoreError::io("append to", &self.path)(e));
        }
        self.tail.replayed += bytes.len() as u64;
        self.tail.seen = self.tail.replayed;
        self.state.apply(change);
        if self.tail.replayed > 2 * self.tail.snapshot + SLACK
            && let Err(error) = self.rewrite()
        {
            // The change itself is safe; the next writer tries again.
            tracing::warn!(%error, "cannot shorten the coordinator's journal");
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        let tail = &self.tail;
        if tail.seen > tail.replayed {
            tail.file.set_len(tail.replayed)?;
        }
        tail.file.write_all_at(bytes, tail.replayed)?;
        tail.file.sync_data()
    }

    /// Begins a new file with a snapshot of the state.
    fn rewrite(&mut self) -> Result<(), StoreError> {
        let bytes = frame::encode_snapshot(&self.state);
        self.suspect = true;
        replace(&self.dir, &self.path, &bytes)?;
        let (file, len) = (open(&self.path)?, bytes.len() as u64);
        self.tail = Tail { file, snapshot: len, replayed: len, seen: len };
        self.suspect = false;
        Ok(())
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().read(true).write(true).open(path).map_err(StoreError::io("open", path))
}

/// Puts a file in the place of another, so that a crash leaves one of them, whole.
fn replace(dir: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let new = dir.join("journal.new");
    let mut file = File::create(&new).map_err(StoreError::io("create", &new))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(StoreError::io("write", &new))?;
    fs::rename(&new, path).map_err(StoreError::io("replace", path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync", dir))
}

/// Reads a journal from its beginning.
fn load(path: &Path) -> Result<(Tail, State), StoreError> {
    let mut tail = Tail { file: open(path)?, snapshot: 0, replayed: 0, seen: 0 };
    let mut state = State::default();
    replay(path, &mut tail, &mut state)?;
    if tail.snapshot == 0 {
        return Err(corrupt(path, 0, "there is no snapshot in front"));
    }
    Ok((tail, state))
}

/// Applies the frames behind what is replayed.
fn replay(path: &Path, tail: &mut Tail, state: &mut State) -> Result<(), StoreError> {
    let len = tail.file.metadata().map_err(StoreError::io("look at", path))?.len();
    let mut bytes = vec![0; len.saturating_sub(tail.replayed) as usize];
    tail.file.read_exact_at(&mut bytes, tail.replayed).map_err(StoreError::io("read", path))?;
    let mut rest = &bytes[..];
    while let Found::Frame { payload, len } = frame::find(rest) {
        let at = tail.replayed;
        match frame::decode(payload).map_err(|e| corrupt(path, at, &e.to_string()))? {
            Payload::Snapshot(snapshot) if at == 0 => {
                *state = snapshot;
                tail.snapshot = len as u64;
            }
            Payload::Change(change) if at > 0 && change.revision.wrapping_sub(state.revision) <= 1 => {
                state.apply(change);
            }
            _ => return Err(corrupt(path, at, "the frame does not belong there")),
        }
        tail.replayed += len as u64;
        rest = &rest[len..];
    }
    tail.seen = tail.replayed + rest.len() as u64;
    if frame::any_frame(rest) {
        return Err(corrupt(path, tail.replayed, "a frame is malformed, and others follow it"));
    }
    Ok(())
}

fn corrupt(path: &Path, offset: u64, what: &str) -> StoreError {
    StoreError::Corrupt { path: path.to_path_buf(), offset, what: what.to_owned() }
}
