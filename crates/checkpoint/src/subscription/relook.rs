//! When locks that were forgotten under memory pressure are read anew.

use logtide_model::Ts;

use crate::LockTracker;

/// The most markers between two looks.
const LONGEST: u32 = 16;

/// Paces the reading of locks, so that a transaction that is too large for the memory costs few of them while it lives
/// (§15.11: no livelock), and is noticed soon when it is gone.
///
/// It is read anew only if a lock was removed since: else the lower bound is the minimum itself. Then at the first marker
/// at which half of the locks seem to be gone (so that the reading is paid by the removals); else after so many markers as
/// the looks before were in vain: 1, 2, 4, … 16.
#[derive(Debug, Default)]
pub(super) struct Relook {
    /// Markers to let pass.
    wait: u32,
    /// Markers that have passed since the last look.
    passed: u32,
    /// The lower bound at the last look.
    floor: Ts,
}

impl Relook {
    /// At a marker, with the locks as they are known: true if they should be read anew now.
    pub(super) fn is_due(&mut self, locks: &LockTracker) -> bool {
        let Some(floor) = locks.min_start_ts().filter(|_| !locks.is_exact()) else {
            *self = Relook::default();
            return false;
        };
        self.passed = self.passed.saturating_add(1);
        if !locks.may_have_risen() || !(locks.has_halved() || self.passed >= self.wait) {
            return false;
        }
        self.wait = if floor > self.floor { 1 } else { (self.wait * 2).clamp(1, LONGEST) };
        (self.passed, self.floor) = (0, floor);
        true
    }
}
