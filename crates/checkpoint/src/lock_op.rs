//! Changes of the lock column family, as far as they hold a resolved timestamp back.

use logtide_model::Ts;
use logtide_model::mvcc::{Lock, LockKind};

/// A change of the lock column family, as far as tracking cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockOp<'a> {
    /// The encoded key.
    pub key: &'a [u8],
    /// The start ts of the lock that is there now, if it holds the resolved ts back; `None` if none does.
    pub held: Option<Ts>,
}

impl<'a> LockOp<'a> {
    /// A record was written. One that cannot be read (a kind that this version does not know, damage) may hide any
    /// start ts, so it counts as held since [`Ts::ZERO`]: the checkpoint waits until it is gone.
    pub fn put(key: &'a [u8], value: &[u8]) -> Self {
        let held = match Lock::peek(value) {
            // The kinds of `Lock::holds_resolved_ts`; a pessimistic lock becomes another one before it commits.
            Ok((LockKind::Put | LockKind::Delete, start_ts)) => Some(start_ts),
            Ok(_) => None,
            Err(_) => Some(Ts::ZERO),
        };
        LockOp { key, held }
    }

    /// A record was removed.
    pub fn delete(key: &'a [u8]) -> Self {
        LockOp { key, held: None }
    }

    /// True for a record that could not be read.
    pub fn is_unreadable(&self) -> bool {
        self.held == Some(Ts::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LockTracker;

    #[test]
    fn only_locks_that_change_data_hold_the_resolved_ts() {
        for (kind, held) in [
            (LockKind::Put, Some(Ts::new(7))),
            (LockKind::Delete, Some(Ts::new(7))),
            (LockKind::Lock, None),
            (LockKind::Pessimistic, None),
        ] {
            let record = Lock::new(kind, b"p".to_vec(), Ts::new(7), 10);
            assert_eq!(LockOp::put(b"k", &record.to_bytes()).held, held, "{kind:?}");
            assert_eq!(held.is_some(), record.holds_resolved_ts());
        }
    }

    #[test]
    fn a_lock_that_cannot_be_read_holds_from_the_beginning() {
        let op = LockOp::put(b"k", b"?");
        assert!(op.is_unreadable());
        let mut tracker = LockTracker::new();
        tracker.apply(op);
        assert_eq!(tracker.min_start_ts(), Some(Ts::ZERO));
        tracker.apply(LockOp::delete(b"k"));
        assert_eq!(tracker.min_start_ts(), None);
    }
}
