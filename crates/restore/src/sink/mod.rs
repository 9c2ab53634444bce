//! Where a restore ends: a host's own store, a RocksDB directory, or memory.
//!
//! A restore takes a [`Sink`] by value, asks it for one [`SinkPart`] per key range that it merges on its own, and gives
//! it all parts back when every record was put. A sink that is dropped before that has to be as if it had never been:
//! so nobody sees half a restore.

mod memory;

use std::path::PathBuf;

use logtide_model::{Cf, KeyRange};

pub use memory::{MemoryPart, MemorySink, MemoryState};

use crate::{RestoreError, RestoreSummary, Window};

/// Receives a restored state. Its methods are called on a thread that may block.
///
/// Failures of its own are [`RestoreError::Sink`].
pub trait Sink: Send + 'static {
    /// Takes the records of one key range.
    type Part: SinkPart;
    /// What a complete restore leaves behind.
    type Output: Send + 'static;

    /// The plan is made, and parts follow. By default nothing.
    ///
    /// # Errors
    /// Any; the restore ends with it.
    fn begin(&mut self, window: &Window) -> Result<(), RestoreError> {
        let _ = window;
        Ok(())
    }

    /// A part for the encoded keys in `range`; parts are filled side by side, and their ranges, in the order of
    /// `index` (from 0), follow each other without overlap.
    ///
    /// # Errors
    /// Any; the restore ends with it.
    fn part(&mut self, index: usize, range: KeyRange) -> Result<Self::Part, RestoreError>;

    /// All parts are complete, in the order of their index: makes the restored state visible, as a whole. `told` takes
    /// how many of the bytes that the parts spoke of are done.
    ///
    /// # Errors
    /// Any; nothing is then restored.
    fn finish(self, done: Finish<'_, Self::Part>) -> Result<Self::Output, RestoreError>;

    /// Where temporary files go if the options do not say; `None` for the system's directory.
    fn temp_dir(&self) -> Option<PathBuf> {
        None
    }
}

/// Takes the records of one key range: those of the write column family in key order, then those of the default column
/// family in key order. It can outlive its sink for a moment when a restore is given up.
pub trait SinkPart: Send + 'static {
    /// What the sink gets back.
    type Done: Send + 'static;

    /// Takes a record: encoded key with ts, and what the column family holds at it.
    ///
    /// # Errors
    /// Any; the restore ends with it.
    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> Result<(), RestoreError>;

    /// There are no more.
    ///
    /// # Errors
    /// Any; the restore ends with it.
    fn finish(self) -> Result<(Self::Done, Made), RestoreError>;
}

/// What a part made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Files.
    pub files: u64,
    /// Bytes that [`Sink::finish`] has yet to deal with.
    pub bytes: u64,
}

/// What [`Sink::finish`] gets.
pub struct Finish<'a, P: SinkPart> {
    /// What the parts made, in key order.
    pub parts: Vec<P::Done>,
    /// What was restored, but for what only the end shows.
    pub summary: &'a RestoreSummary,
    /// Takes how many more bytes are done; its error says that the restore was given up.
    pub told: &'a dyn Fn(u64) -> Result<(), RestoreError>,
}
