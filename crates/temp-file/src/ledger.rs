//! What an open generation holds in memory, in the books of the budget.

use logtide_model::{MemoryBudget, Permit};

/// Bytes are taken from the budget in steps, so that its counters are touched once per many chunks.
const STEP: usize = 64 << 10;

/// Bytes in use, and the permit that covers them.
#[derive(Debug)]
pub(crate) struct Ledger {
    budget: MemoryBudget,
    permit: Permit,
    used: usize,
}

impl Ledger {
    pub(crate) fn new(budget: MemoryBudget) -> Self {
        let permit = budget.force_acquire(0);
        Ledger { budget, permit, used: 0 }
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Takes `bytes`, if the budget has them.
    pub(crate) fn try_add(&mut self, bytes: usize) -> bool {
        let missing = (self.used + bytes).saturating_sub(self.permit.bytes());
        if missing > 0 {
            let Some(more) = self.budget.try_acquire(missing.next_multiple_of(STEP)) else { return false };
            self.permit.merge(more);
        }
        self.used += bytes;
        true
    }

    /// Takes `bytes`, whatever the budget has.
    pub(crate) fn add(&mut self, bytes: usize) {
        if !self.try_add(bytes) {
            self.used += bytes;
            self.permit.resize(self.used);
        }
    }

    /// Sets what is in use, whatever the budget has.
    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes > self.used { self.add(bytes - self.used) } else { self.sub(self.used - bytes) }
    }

    /// Gives `bytes` back.
    pub(crate) fn sub(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
        if self.permit.bytes().saturating_sub(self.used) > 4 * STEP {
            self.permit.resize(self.used.next_multiple_of(STEP));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_permit_covers_what_is_used_and_little_more() {
        let budget = MemoryBudget::new(10 * STEP);
        let mut ledger = Ledger::new(budget.clone());
        assert!(ledger.try_add(1) && ledger.try_add(9 * STEP));
        assert!(!ledger.try_add(STEP), "that would pass the limit");
        assert_eq!((ledger.used(), budget.used()), (9 * STEP + 1, 10 * STEP));
        ledger.add(STEP);
        assert_eq!(budget.used(), 10 * STEP + 1);
        ledger.sub(10 * STEP);
        assert!((1..=4 * STEP).contains(&budget.used()));
        drop(ledger);
        assert_eq!(budget.used(), 0);
    }
}
