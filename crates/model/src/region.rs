//! Regions: raft groups that own a key range.

use std::fmt;

use crate::KeyRange;

/// Identifies a raft group; unique in the cluster and never used again.
pub type RegionId = u64;
/// Identifies a storage node.
pub type StoreId = u64;
/// A raft term.
pub type Term = u64;

/// What changed about a region how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionEpoch {
    /// Raised by a membership change. It says nothing about the key range.
    pub conf_ver: u64,
    /// Raised by split and merge: the same version means the same range.
    pub version: u64,
}

impl fmt::Display for RegionEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.conf_ver, self.version)
    }
}

/// A region as it is at one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its id.
    pub id: RegionId,
    /// Its epoch.
    pub epoch: RegionEpoch,
    /// The encoded keys that it owns.
    pub range: KeyRange,
}
