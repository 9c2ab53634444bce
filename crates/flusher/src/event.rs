//! What a flusher tells while it works, for metrics and logs.

use std::time::Duration;

use crate::Setback;

/// Which kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// Records.
    Log,
    /// What no record can tell.
    Marks,
    /// The commit point of a generation.
    Metadata,
}

/// What happened to a generation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FlushEvent {
    /// Its upload began.
    Uploading {
        /// The generation.
        generation: u64,
        /// Data objects.
        objects: usize,
        /// Bytes of data objects.
        bytes: u64,
    },
    /// One of its objects is durable.
    Stored {
        /// The generation.
        generation: u64,
        /// Which kind of object.
        kind: ObjectKind,
        /// Its bytes.
        bytes: u64,
        /// Since the first try.
        took: Duration,
    },
    /// All its data objects are durable.
    Uploaded {
        /// The generation.
        generation: u64,
        /// Bytes of data objects.
        bytes: u64,
        /// Since the upload began.
        took: Duration,
    },
    /// Its metadata object, and that of every earlier generation, is durable.
    Committed {
        /// The generation.
        generation: u64,
    },
    /// Its facts are known and its spool is freed.
    Published(Flushed),
    /// Something failed and will be tried again.
    Retrying {
        /// The generation.
        generation: u64,
        /// An object, or `publish`.
        what: String,
        /// Why it failed.
        error: String,
        /// How often in a row.
        failures: u32,
        /// The wait until the next try.
        next: Duration,
        /// What the error asks for.
        setback: Setback,
    },
    /// It was lost; it and all later ones are discarded.
    Poisoned {
        /// The generation.
        generation: u64,
        /// It and the later ones that were in flight.
        discarded: Vec<u64>,
        /// Why.
        error: String,
    },
}

/// A generation that is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// Its number.
    pub generation: u64,
    /// Objects written, those of marks and metadata included; none for a generation without blocks and marks.
    pub objects: usize,
    /// Bytes of all of them.
    pub bytes: u64,
    /// How long its stages took.
    pub took: StageTimes,
}

/// How long the stages of a flush took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Grouping blocks and building the metadata.
    pub generate_metadata: Duration,
    /// Uploading data objects, and waiting for a place to do so.
    pub save_files: Duration,
    /// Waiting for earlier generations after the upload.
    pub wait_turn: Duration,
    /// Putting the metadata object.
    pub commit: Duration,
    /// Making the facts known.
    pub publish: Duration,
    /// Freeing the spool.
    pub clear_temp_files: Duration,
    /// From the submission to the end.
    pub total: Duration,
}
