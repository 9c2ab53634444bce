//! What a storage's error asks of a flusher.

use std::time::Duration;

use object_store::Error;

/// What an error asks for, besides trying again: that happens always (I7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setback {
    /// Nothing: it passes.
    #[default]
    Passing,
    /// Fewer requests: all of the flusher wait together.
    SlowDown {
        /// How long at least, if the storage says.
        retry_after: Option<Duration>,
    },
    /// Somebody who does something; until then all tries fail.
    Lasting {
        /// What, for people.
        remedy: &'static str,
    },
}

/// Judges an error of the storage.
pub type Judge = fn(&Error) -> Setback;

/// Takes every error for one that passes.
pub(crate) fn all_pass(_: &Error) -> Setback {
    Setback::Passing
}
