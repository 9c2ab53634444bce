//! The locks of one region that hold its resolved timestamp back.

use std::collections::BTreeMap;

use logtide_model::{KeyRange, Ts};

use crate::LockOp;

/// What an entry costs besides the bytes of its key: 24 bytes in a B-tree node that is two thirds full, and the
/// allocation of the key.
const ENTRY_BYTES: usize = 56;
/// What one distinct start ts costs.
const COUNT_BYTES: usize = 32;

/// Locks by key, and the smallest of their start timestamps.
///
/// It owns copies of the keys (a slice of a raft entry would keep the whole entry alive, unaccounted). It does not
/// know indexes or ranges of regions: [`Subscription`](crate::Subscription) does.
#[derive(Debug, Default)]
pub struct LockTracker {
    locks: BTreeMap<Box<[u8]>, Ts>,
    /// How many locks have a start ts.
    counts: BTreeMap<Ts, usize>,
    key_bytes: usize,
    /// After [`collapse`](Self::collapse), instead of all that.
    collapsed: Option<Collapsed>,
}

/// What is left of locks that took too much memory.
#[derive(Clone, Copy, Debug)]
struct Collapsed {
    /// A lower bound of the start ts of every lock.
    floor: Ts,
    /// How many locks there were.
    base: u64,
    /// Changes since that may have added one.
    added: u64,
    /// Changes since that may have removed one.
    removed: u64,
}

impl LockTracker {
    /// No locks.
    pub fn new() -> Self {
        Self::default()
    }

    /// A key is locked since `start_ts` (whatever it was before).
    pub fn track(&mut self, key: &[u8], start_ts: Ts) {
        if let Some(collapsed) = &mut self.collapsed {
            collapsed.floor = start_ts.min(collapsed.floor);
            collapsed.added += 1;
            return;
        }
        match self.locks.get_mut(key) {
            Some(held) => {
                let before = std::mem::replace(held, start_ts);
                self.uncount(before);
            }
            None => {
                self.key_bytes += key.len();
                self.locks.insert(key.into(), start_ts);
            }
        }
        *self.counts.entry(start_ts).or_default() += 1;
    }

    /// A key is not locked any more.
    pub fn untrack(&mut self, key: &[u8]) {
        if let Some(collapsed) = &mut self.collapsed {
            collapsed.removed += 1;
            return;
        }
        if let Some(start_ts) = self.locks.remove(key) {
            self.key_bytes -= key.len();
            self.uncount(start_ts);
        }
    }

    /// Applies a change.
    pub fn apply(&mut self, op: LockOp<'_>) {
        match op.held {
            Some(start_ts) => self.track(op.key, start_ts),
            None => self.untrack(op.key),
        }
    }

    /// The smallest start ts of the locks, or a lower bound of it; `None` without locks.
    pub fn min_start_ts(&self) -> Option<Ts> {
        let floor = self.collapsed.map(|collapsed| collapsed.floor);
        floor.or_else(|| self.counts.first_key_value().map(|(ts, _)| *ts))
    }

    /// Forgets the locks outside of `range`.
    pub fn restrict(&mut self, range: &KeyRange) {
        if let Some(collapsed) = &mut self.collapsed {
            collapsed.removed += 1;
        }
        let mut inside = self.locks.split_off(&range.start[..]);
        let mut outside = std::mem::take(&mut self.locks);
        if !range.end.is_empty() {
            outside.append(&mut inside.split_off(&range.end[..]));
        }
        self.locks = inside;
        for (key, start_ts) in outside {
            self.key_bytes -= key.len();
            self.uncount(start_ts);
        }
    }

    /// Gives the memory back and keeps a lower bound of the start timestamps: from now on locks only lower it. It
    /// stays true for ever, and too low until the locks are read anew. (Of no locks it is [`Ts::MAX`].)
    pub fn collapse(&mut self) {
        if self.is_exact() {
            let (floor, base) = (self.min_start_ts().unwrap_or(Ts::MAX), self.locks.len() as u64);
            *self = LockTracker { collapsed: Some(Collapsed { floor, base, added: 0, removed: 0 }), ..Self::default() };
        }
    }

    /// A collapsed tracker of which nothing is known but that no lock is older than `floor`.
    pub(crate) fn bounded(floor: Ts) -> Self {
        LockTracker { collapsed: Some(Collapsed { floor, base: 0, added: 0, removed: 1 }), ..Self::default() }
    }

    /// What was tracked up to now are the locks that there are: [`Self::has_halved`] compares with them.
    pub(crate) fn rebase(&mut self) {
        if let Some(collapsed) = &mut self.collapsed {
            collapsed.base += std::mem::take(&mut collapsed.added);
        }
    }

    /// True if reading the locks anew could show a higher minimum: while none was removed, the bound is the minimum.
    pub(crate) fn may_have_risen(&self) -> bool {
        self.collapsed.is_some_and(|collapsed| collapsed.removed > 0)
    }

    /// True if half of the locks that were there at the collapse seem to be gone. It only seems so: a change says which
    /// key, and keys are what was forgotten.
    pub(crate) fn has_halved(&self) -> bool {
        self.collapsed.is_some_and(|collapsed| {
            (collapsed.base + collapsed.added).saturating_sub(collapsed.removed) <= collapsed.base / 2
        })
    }

    /// False after a [`collapse`](Self::collapse).
    pub fn is_exact(&self) -> bool {
        self.collapsed.is_none()
    }

    /// How many locks are known by key.
    pub fn len(&self) -> usize {
        self.locks.len()
    }

    /// True if no lock is known by key.
    pub fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }

    /// Bytes of memory, about.
    pub fn memory(&self) -> usize {
        self.key_bytes + self.locks.len() * ENTRY_BYTES + self.counts.len() * COUNT_BYTES
    }

    fn uncount(&mut self, start_ts: Ts) {
        if let Some(count) = self.counts.get_mut(&start_ts) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&start_ts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ts(n: u64) -> Ts {
        Ts::new(n)
    }

    #[test]
    fn a_collapsed_tracker_only_goes_down() {
        let mut tracker = LockTracker::new();
        tracker.track(b"a", ts(5));
        tracker.track(b"b", ts(9));
        tracker.collapse();
        assert!(!tracker.is_exact() && tracker.memory() == 0);
        tracker.untrack(b"a");
        tracker.track(b"c", ts(7));
        assert_eq!(tracker.min_start_ts(), Some(ts(5)));
        tracker.track(b"d", ts(3));
        assert_eq!(tracker.min_start_ts(), Some(ts(3)));
        tracker.collapse();
        assert_eq!(tracker.min_start_ts(), Some(ts(3)), "again is no harm");
    }

    #[test]
    fn a_collapsed_tracker_knows_when_to_look_again() {
        let mut tracker = LockTracker::new();
        (0..10u8).for_each(|key| tracker.track(&[key], ts(5)));
        tracker.collapse();
        tracker.track(b"more", ts(7));
        assert!(!tracker.may_have_risen() && !tracker.has_halved());
        (0..5).for_each(|_| tracker.untrack(b"some"));
        assert!(tracker.may_have_risen() && !tracker.has_halved(), "6 of 10 may be there");
        tracker.untrack(b"some");
        assert!(tracker.has_halved());
        let mut empty = LockTracker::new();
        empty.collapse();
        assert_eq!((empty.min_start_ts(), empty.may_have_risen()), (Some(Ts::MAX), false));
        empty.restrict(&KeyRange::new("a", "b"));
        assert!(empty.may_have_risen(), "the oldest may have been outside");
    }

    #[test]
    fn a_million_locks_take_a_sane_amount_of_memory() {
        let mut tracker = LockTracker::new();
        for n in 0..1_000_000u64 {
            tracker.track(&n.to_be_bytes(), ts(n % 10));
        }
        assert!(tracker.memory() < 100 << 20, "{}", tracker.memory());
        for n in 0..1_000_000u64 {
            tracker.untrack(&n.to_be_bytes());
        }
        assert_eq!((tracker.memory(), tracker.len(), tracker.min_start_ts()), (0, 0, None));
    }

    proptest! {
        #[test]
        fn equals_a_plain_list(
            ops in prop::collection::vec(("[a-d]{1,2}", prop::option::of(1u64..6)), 0..60),
            start in "[a-d]{0,1}", end in "[a-d]{0,1}",
        ) {
            let mut tracker = LockTracker::new();
            let mut plain: Vec<(String, u64)> = Vec::new();
            for (key, held) in ops {
                plain.retain(|(k, _)| *k != key);
                plain.extend(held.map(|ts| (key.clone(), ts)));
                tracker.apply(LockOp { key: key.as_bytes(), held: held.map(Ts::new) });
                prop_assert_eq!(tracker.min_start_ts(), plain.iter().map(|(_, ts)| Ts::new(*ts)).min());
                prop_assert_eq!(tracker.len(), plain.len());
            }
            let range = KeyRange::new(start, end);
            tracker.restrict(&range);
            plain.retain(|(key, _)| range.contains(key.as_bytes()));
            prop_assert_eq!(tracker.min_start_ts(), plain.iter().map(|(_, ts)| Ts::new(*ts)).min());
            plain.iter().for_each(|(key, _)| tracker.untrack(key.as_bytes()));
            prop_assert_eq!((tracker.memory(), tracker.len()), (0, 0));
        }
    }
}
