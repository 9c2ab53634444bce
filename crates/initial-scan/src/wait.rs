//! The clock and the waiting of a scan.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Where a scan gets its time from. One per scan.
pub trait Waiter {
    /// Now.
    fn now(&self) -> Instant;
    /// True if the scan is to end.
    fn is_cancelled(&self) -> bool;
    /// Waits at most so long, and ends at once on cancellation.
    fn wait(&self, at_most: Duration);
}

/// Cancels a scan, from any thread, and interrupts its waiting; cloning shares it. This is the [`Waiter`] on the real
/// clock.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cancelled: AtomicBool,
    /// Held while the flag is raised, and from a look at the flag to the wait: so no wait misses it.
    gate: Mutex<()>,
    raised: Condvar,
}

impl Cancel {
    /// Ends the scan; it cannot be undone.
    pub fn cancel(&self) {
        let _gate = self.0.gate.lock();
        self.0.cancelled.store(true, Ordering::Release);
        self.0.raised.notify_all();
    }
}

impl Waiter for Cancel {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    fn wait(&self, at_most: Duration) {
        let mut gate = self.0.gate.lock();
        if !self.is_cancelled() {
            self.0.raised.wait_for(&mut gate, at_most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelling_ends_a_long_wait() {
        let cancel = Cancel::default();
        let other = cancel.clone();
        let waiting = std::thread::spawn(move || {
            while !other.is_cancelled() {
                other.wait(Duration::from_secs(3600));
            }
        });
        cancel.cancel();
        waiting.join().unwrap();
        assert!(cancel.is_cancelled());
        cancel.wait(Duration::from_secs(3600));
    }
}
