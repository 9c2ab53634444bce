//! The keys of a command: which ones it names, whether they lie in its region, and which latches it needs for them.

use logtide_model::{KeyRange, Region, encode_raw_key};

use super::command::Command;
use super::error::RegionError;

/// Which commands must not run at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LatchKeys {
    /// A read: no latch.
    None,
    /// Commands that share one of these raw keys.
    Keys(Vec<Vec<u8>>),
    /// Every command of the region that writes.
    Region,
}

impl Command {
    /// True if it never changes anything.
    pub fn is_read(&self) -> bool {
        matches!(self, Command::Get { .. } | Command::Scan { .. })
    }

    /// The raw keys that it names; for a range its start.
    pub fn keys(&self) -> Vec<&[u8]> {
        match self {
            Command::Prewrite(p) => p.mutations.iter().map(|m| &m.key[..]).collect(),
            Command::Commit { keys, .. }
            | Command::Rollback { keys, .. }
            | Command::PessimisticLock { keys, .. }
            | Command::PessimisticRollback { keys, .. }
            | Command::CheckSecondaryLocks { keys, .. }
            | Command::ResolveLock { keys, .. } => keys.iter().map(|k| &k[..]).collect(),
            Command::CheckTxnStatus(ask) => vec![&ask.primary],
            Command::Ingest { pairs, .. } => pairs.iter().map(|(key, _)| &key[..]).collect(),
            Command::Get { key, .. } => vec![key],
            Command::DeleteRange { start, .. } | Command::Scan { start, .. } => vec![start],
        }
    }

    /// True if it may choose a timestamp itself: it has to be above what any leader of the region promised.
    pub fn chooses_its_ts(&self) -> bool {
        matches!(self, Command::Prewrite(_) | Command::Ingest { .. } | Command::DeleteRange { .. })
    }

    /// The latches that it needs.
    pub fn latches(&self) -> LatchKeys {
        match self {
            _ if self.is_read() => LatchKeys::None,
            Command::ResolveLock { keys, .. } if keys.is_empty() => LatchKeys::Region,
            Command::DeleteRange { .. } => LatchKeys::Region,
            _ => LatchKeys::Keys(self.keys().into_iter().map(<[u8]>::to_vec).collect()),
        }
    }

    /// Checks that the keys it names lie in the region. A scan may end beyond it: it stops where the region ends.
    ///
    /// # Errors
    /// [`RegionError::KeyNotInRegion`].
    pub fn check_range(&self, region: &Region) -> Result<(), RegionError> {
        let outside = |key: &&[u8]| !in_range(&region.range, key);
        match self.keys().into_iter().find(outside) {
            Some(key) => Err(RegionError::KeyNotInRegion { key: key.to_vec(), region_id: region.id }),
            None => Ok(()),
        }
    }
}

/// True if a raw key lies in an encoded range. The empty raw key (of a scan without bound) is before every other.
fn in_range(range: &KeyRange, raw_key: &[u8]) -> bool {
    if raw_key.is_empty() { range.start.is_empty() } else { range.contains(&encode_raw_key(raw_key)) }
}
