//! A running digest of what happened: equal histories have equal ones.

use std::hash::{DefaultHasher, Hasher};

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Digest(DefaultHasher);

impl Digest {
    /// Adds bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.write_usize(bytes.len());
        self.0.write(bytes);
    }

    /// Adds a number.
    pub(crate) fn add_number(&mut self, number: u64) {
        self.0.write_u64(number);
    }

    /// The digest so far.
    pub(crate) fn value(&self) -> u64 {
        self.0.finish()
    }
}
