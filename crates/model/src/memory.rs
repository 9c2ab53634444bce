//! Accounted memory: a budget in bytes, parts of it, and permits taken from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A budget of bytes shared by threads. Cloning shares it.
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: AtomicUsize,
    used: AtomicUsize,
    peak: AtomicUsize,
    whole: Option<MemoryBudget>,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self::part_of(limit, None)
    }

    /// A part of this budget, of `limit` bytes at most: what is taken from it is taken from both.
    ///
    /// Parts may add up to more than the whole. Then each can use what the others leave, and none is sure of its limit.
    pub fn within(&self, limit: usize) -> Self {
        Self::part_of(limit, Some(self.clone()))
    }

    fn part_of(limit: usize, whole: Option<MemoryBudget>) -> Self {
        let (used, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
        MemoryBudget(Arc::new(Inner { limit: AtomicUsize::new(limit), used, peak, whole }))
    }

    /// Takes `bytes`, unless that would pass the limit (or that of what this is a part of).
    pub fn try_acquire(&self, bytes: usize) -> Option<Permit> {
        self.try_take(bytes).then(|| Permit { budget: self.clone(), bytes })
    }

    /// Takes `bytes` whatever the limit is: for what is already there and can only be accounted.
    pub fn force_acquire(&self, bytes: usize) -> Permit {
        self.take(bytes);
        Permit { budget: self.clone(), bytes }
    }

    fn try_take(&self, bytes: usize) -> bool {
        let before = self.0.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.limit();
        if fits && self.0.whole.as_ref().is_none_or(|whole| whole.try_take(bytes)) {
            self.0.peak.fetch_max(before + bytes, Ordering::Relaxed);
            return true;
        }
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    fn take(&self, bytes: usize) {
        let before = self.0.used.fetch_add(bytes, Ordering::Relaxed);
        self.0.peak.fetch_max(before + bytes, Ordering::Relaxed);
        if let Some(whole) = &self.0.whole {
            whole.take(bytes);
        }
    }

    fn give(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.0.whole {
            whole.give(bytes);
        }
    }

    /// True if more is taken than the limit, here or from what this is a part of.
    pub fn is_over(&self) -> bool {
        self.used() > self.limit() || self.0.whole.as_ref().is_some_and(MemoryBudget::is_over)
    }

    /// Bytes that could be taken now.
    pub fn room(&self) -> usize {
        let here = self.limit().saturating_sub(self.used());
        self.0.whole.as_ref().map_or(here, |whole| here.min(whole.room()))
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit; permits that are out stay out.
    pub fn set_limit(&self, bytes: usize) {
        self.0.limit.store(bytes, Ordering::Relaxed);
    }

    /// Bytes taken now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The most bytes ever taken at once.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed)
    }
}

/// Bytes taken from a [`MemoryBudget`]; dropping gives them back.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    budget: MemoryBudget,
    bytes: usize,
}

impl Permit {
    /// How many bytes it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes what it holds, whatever the limit is.
    pub fn resize(&mut self, bytes: usize) {
        // By the difference: nobody is to see both sizes taken at once.
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.merge(self.budget.force_acquire(more)),
            None => drop(Permit { budget: self.budget.clone(), bytes: self.bytes - bytes }),
        }
        self.bytes = bytes;
    }

    /// Puts another permit of the same budget into this one.
    pub fn merge(&mut self, mut other: Permit) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_and_drops_give_back() {
        let budget = MemoryBudget::new(10);
        let mut a = budget.try_acquire(6).unwrap();
        assert!(budget.try_acquire(5).is_none());
        a.merge(budget.try_acquire(4).unwrap());
        assert_eq!((budget.used(), a.bytes()), (10, 10));
        a.resize(3);
        assert_eq!(budget.used(), 3);
        a.resize(10);
        assert_eq!((budget.used(), budget.peak(), a.bytes()), (10, 10, 10));
        a.resize(3);
        let forced = budget.force_acquire(100);
        assert_eq!((budget.used(), budget.peak()), (103, 103));
        drop((a, forced));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_part_takes_from_the_whole() {
        let whole = MemoryBudget::new(10);
        let (a, b) = (whole.within(8), whole.within(usize::MAX));
        let permit = a.try_acquire(8).unwrap();
        assert!(a.try_acquire(1).is_none() && b.try_acquire(3).is_none(), "either limit counts");
        assert_eq!((a.used(), b.used(), whole.used()), (8, 0, 8), "what was refused took nothing");
        let mut other = b.try_acquire(2).unwrap();
        assert_eq!((a.room(), b.room(), b.is_over()), (0, 0, false));
        other.resize(3);
        assert_eq!((b.used(), whole.used(), b.is_over(), a.is_over()), (3, 11, true, true));
        drop(permit);
        assert_eq!((a.used(), whole.used(), b.room(), b.is_over()), (0, 3, 7, false));
        other.merge(b.force_acquire(5));
        drop(other);
        assert_eq!((b.used(), b.peak(), whole.used(), whole.peak()), (0, 8, 0, 11));
    }
}
