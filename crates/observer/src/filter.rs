//! A filter in front of the map of observed regions: "surely not observed" costs one load and no lock.

use std::sync::atomic::{AtomicU32, Ordering};

/// Counters; a power of two. 256 KiB let the filter turn away most followers of a store with 100,000 regions.
const SLOTS: usize = 1 << 16;

/// How many observed regions fall into each slot.
#[derive(Debug)]
pub(crate) struct Filter(Box<[AtomicU32]>);

impl Filter {
    pub(crate) fn new() -> Self {
        Filter((0..SLOTS).map(|_| AtomicU32::new(0)).collect())
    }

    /// False: no region of that hash is observed.
    ///
    /// Sequentially consistent, as are the changes: when `observe` has returned, the next `on_apply` anywhere sees it.
    /// One that runs at the same time may not, and the index comparison of the subscription catches that (I2).
    #[inline]
    pub(crate) fn may_contain(&self, hash: RegionHash) -> bool {
        self.slot(hash).load(Ordering::SeqCst) != 0
    }

    pub(crate) fn add(&self, hash: RegionHash) {
        self.slot(hash).fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn remove(&self, hash: RegionHash) {
        self.slot(hash).fetch_sub(1, Ordering::SeqCst);
    }

    #[inline]
    fn slot(&self, hash: RegionHash) -> &AtomicU32 {
        &self.0[hash.0 as usize & (SLOTS - 1)]
    }
}

/// A region id, mixed; its low bits choose the filter slot, its high bits the shard, those between the bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegionHash(u64);

impl RegionHash {
    /// Multiplicative hashing by 2^64 / φ: ids of neighbours, the common case, spread evenly.
    #[inline]
    pub(crate) fn of(region_id: u64) -> Self {
        RegionHash(region_id.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A number below `n`, from the high bits.
    #[inline]
    pub(crate) fn high(self, n: usize) -> usize {
        ((u128::from(self.0) * n as u128) >> 64) as usize
    }

    /// A number below the power of two `n`, from the middle bits.
    #[inline]
    pub(crate) fn middle(self, n: usize) -> usize {
        debug_assert!(n.is_power_of_two());
        (self.0 >> 24) as usize & (n - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_no_slot_and_counters_count() {
        let filter = Filter::new();
        (0..SLOTS as u64).step_by(2).for_each(|id| filter.add(RegionHash::of(id)));
        let seen = |id| filter.may_contain(RegionHash::of(id));
        assert!((0..SLOTS as u64).all(|id| seen(id) == (id % 2 == 0)));
        filter.add(RegionHash::of(2));
        filter.remove(RegionHash::of(2));
        assert!(seen(2));
        filter.remove(RegionHash::of(2));
        assert!(!seen(2));
    }

    #[test]
    fn shards_get_even_parts() {
        for shards in [1, 2, 3, 8] {
            let mut counts = vec![0_usize; shards];
            (1..=12_000).for_each(|id| counts[RegionHash::of(id).high(shards)] += 1);
            let fair = 12_000 / shards;
            assert!(counts.iter().all(|n| n.abs_diff(fair) < fair / 10), "{counts:?}");
        }
    }
}
