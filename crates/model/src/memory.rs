//! Accounted memory: a budget in bytes and permits taken from it.

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
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        MemoryBudget(Arc::new(Inner {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }))
    }

    /// Takes `bytes`, unless that would pass the limit.
    pub fn try_acquire(&self, bytes: usize) -> Option<Permit> {
        let limit = self.limit();
        let before = self.0.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > limit {
            self.0.used.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        self.0.peak.fetch_max(before + bytes, Ordering::Relaxed);
        Some(Permit { budget: self.clone(), bytes })
    }

    /// Takes `bytes` whatever the limit is: for what is already there and can only be accounted.
    pub fn force_acquire(&self, bytes: usize) -> Permit {
        let before = self.0.used.fetch_add(bytes, Ordering::Relaxed);
        self.0.peak.fetch_max(before + bytes, Ordering::Relaxed);
        Permit { budget: self.clone(), bytes }
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
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
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
}
