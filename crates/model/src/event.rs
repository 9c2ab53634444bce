//! What raft applies, as the host tells it.

use bytes::Bytes;

use crate::{Region, RegionEpoch, RegionId, Term, Ts};

/// A column family of the host's key-value engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cf {
    /// Values, by `key ++ start_ts`.
    Default,
    /// Locks, by key. Never part of a backup; they hold the checkpoint back.
    Lock,
    /// Commit records, by `key ++ commit_ts`.
    Write,
}

impl Cf {
    /// The name that RocksDB, the raft commands and the backup format use.
    pub const fn name(self) -> &'static str {
        match self {
            Cf::Default => "default",
            Cf::Lock => "lock",
            Cf::Write => "write",
        }
    }

    /// The column family of that name; the empty name is `default`, as in raft commands.
    pub fn from_name(name: &str) -> Option<Cf> {
        match name {
            "" | "default" => Some(Cf::Default),
            "lock" => Some(Cf::Lock),
            "write" => Some(Cf::Write),
            _ => None,
        }
    }
}

/// One change that an applied raft entry made. Keys are encoded keys without the `z` prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A key was set.
    Put {
        /// Where.
        cf: Cf,
        /// The encoded key, with its timestamp in [`Cf::Default`] and [`Cf::Write`].
        key: Bytes,
        /// The value of the column family.
        value: Bytes,
    },
    /// A key was removed.
    Delete {
        /// Where.
        cf: Cf,
        /// The encoded key, with its timestamp in [`Cf::Default`] and [`Cf::Write`].
        key: Bytes,
    },
    /// All keys of a range were removed at once, past MVCC.
    DeleteRange {
        /// Where.
        cf: Cf,
        /// First key, inclusive.
        start: Bytes,
        /// Last key, exclusive.
        end: Bytes,
    },
    /// A sorted file was added to the engine.
    ///
    /// # Contract
    /// H2 ([`crate::Host::commit_barrier`]) holds for its versions as for those of any transaction: all of them are
    /// committed above every barrier that was returned before [`crate::RaftObserver::on_apply`] returned for this op, and
    /// a [`crate::Host::snapshot`] with an index at or above the op's has them. (As for a 1PC: the commit ts is chosen
    /// above what readers and barriers were given, and is held until the op is observed.)
    ///
    /// So it is enough to scan the region anew from its checkpoint: every version of the file is above it. That is what
    /// happens; the file itself is not read. What a host ingests *below* a barrier all the same (an import that chose its
    /// timestamp long before) is in no backup as far as it is at or below the region's checkpoint. `min_ts` tells: the region is
    /// marked then, and a restore to a ts at or above it, on a base from before, is refused unless it is forced. **Such a
    /// host should end the tasks of those ranges first**, and begin them anew, each on a base that has the file: a mark
    /// that is not durable when its process ends is not made again.
    IngestSst {
        /// Where.
        cf: Cf,
        /// The file, for logs and the host itself.
        path: String,
        /// No version in the file is older (a property of the file in TiKV); [`Ts::ZERO`] if that is not known, which marks
        /// the region in any case. Only that of a file for [`Cf::Write`] counts.
        min_ts: Ts,
    },
    /// A command that changed no data (leadership, split, membership, …).
    Admin,
}

/// Consecutive raft entries of one region, just applied.
///
/// Entries without data advance the indexes too, so that a gap can be told from silence.
#[derive(Clone, Debug)]
pub struct ApplyBatch<'a> {
    /// The region.
    pub region_id: RegionId,
    /// Its epoch when the entries were applied.
    pub epoch: RegionEpoch,
    /// The term that this store applied the entries in.
    pub term: Term,
    /// Index of the first entry.
    pub first_index: u64,
    /// Index of the last entry.
    pub last_index: u64,
    /// The changes, in order.
    pub ops: &'a [Op],
}

/// What this store's peer of a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads: its writes are the region's.
    Leader,
    /// It does not lead.
    Follower,
}

/// A change of a region's shape, told after it was applied, on the thread that applies the region.
#[derive(Clone, Debug)]
pub enum RegionChange {
    /// `parent` (with its new, smaller range) gave the rest to `children`.
    Split {
        /// The region that was split, as it is now.
        parent: Region,
        /// The new regions.
        children: Vec<Region>,
        /// True if this store led the parent when it applied the split.
        leader: bool,
        /// The parent's term.
        term: Term,
    },
    /// `target` (with its new, larger range) took over `source`.
    Merge {
        /// The region that grew, as it is now.
        target: Region,
        /// The region that is gone.
        source: Region,
    },
    /// Only the epoch changed (membership).
    EpochChange {
        /// The region as it is now.
        region: Region,
    },
    /// This store has no peer of the region any more.
    Destroy {
        /// The region as it was.
        region: Region,
    },
}
