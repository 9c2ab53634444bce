//! How fast snapshots are read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::ReadCounter;

/// Bytes that were saved up while nothing was read are worth at most so long.
const BURST: Duration = Duration::from_millis(100);

/// A limit in bytes per second, shared by all scans of a store; cloning shares it. It never waits itself: what was
/// read is [charged](Self::charge), and [`Self::delay`] says how long to wait before reading on.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    state: Arc<Mutex<State>>,
    counter: Option<Arc<dyn ReadCounter>>,
}

#[derive(Debug)]
struct State {
    /// Bytes per second.
    rate: u64,
    /// Bytes that may be read at once; negative: read ahead of time.
    balance: f64,
    /// When `balance` was brought up to date.
    at: Option<Instant>,
}

impl RateLimiter {
    /// `rate` bytes per second. [`u64::MAX`]: no limit. 0: nothing, until [`Self::set_rate`].
    pub fn new(rate: u64) -> Self {
        RateLimiter { state: Arc::new(Mutex::new(State { rate, balance: 0.0, at: None })), counter: None }
    }

    /// Counts bytes that were really read from disk. Without a counter (or where it does not know) they are those that
    /// the snapshot counts ([`KvSnapshot::read_bytes`](logtide_model::KvSnapshot::read_bytes)), else every byte of a key or
    /// value that an iterator comes by.
    pub fn counting(mut self, counter: Arc<dyn ReadCounter>) -> Self {
        self.counter = Some(counter);
        self
    }

    pub(crate) fn counter(&self) -> Option<&dyn ReadCounter> {
        self.counter.as_deref()
    }

    /// Without limit.
    pub fn unlimited() -> Self {
        RateLimiter::new(u64::MAX)
    }

    /// The limit in bytes per second.
    pub fn rate(&self) -> u64 {
        self.state.lock().rate
    }

    /// Changes the limit, for scans under way too: what was read ahead of time is paid for at the new rate.
    pub fn set_rate(&self, rate: u64, now: Instant) {
        let mut state = self.state.lock();
        state.refill(now);
        state.rate = rate;
    }

    /// Counts `bytes` as read at `now`.
    pub fn charge(&self, bytes: u64, now: Instant) {
        let mut state = self.state.lock();
        state.refill(now);
        if state.rate != u64::MAX {
            state.balance -= bytes as f64;
        }
    }

    /// How long to wait at `now` before reading on; zero: go. [`Duration::MAX`] while the rate is 0.
    pub fn delay(&self, now: Instant) -> Duration {
        let mut state = self.state.lock();
        state.refill(now);
        match state.rate {
            u64::MAX => Duration::ZERO,
            0 => Duration::MAX,
            _ if state.balance >= 0.0 => Duration::ZERO,
            rate => Duration::try_from_secs_f64(-state.balance / rate as f64).unwrap_or(Duration::MAX),
        }
    }
}

impl State {
    fn refill(&mut self, now: Instant) {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
        if self.rate == u64::MAX {
            self.balance = 0.0;
            return;
        }
        let rate = self.rate as f64;
        self.balance = (self.balance + rate * since.as_secs_f64()).min(rate * BURST.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn reading_ahead_is_paid_with_time() {
        let now = Instant::now();
        let limiter = RateLimiter::new(1000);
        assert_eq!(limiter.delay(now), Duration::ZERO);
        limiter.charge(3000, now);
        assert_eq!(limiter.delay(now), 3 * SECOND);
        assert_eq!(limiter.delay(now + SECOND), 2 * SECOND);
        assert_eq!(limiter.delay(now + 3 * SECOND), Duration::ZERO);
    }

    #[test]
    fn idle_time_is_worth_one_burst_only() {
        let now = Instant::now();
        let limiter = RateLimiter::new(1000);
        limiter.charge(0, now);
        let later = now + 3600 * SECOND;
        limiter.charge(1100, later);
        assert_eq!(limiter.delay(later), SECOND);
    }

    #[test]
    fn a_new_rate_counts_at_once() {
        let now = Instant::now();
        let limiter = RateLimiter::new(1);
        limiter.charge(1000, now);
        assert_eq!(limiter.delay(now), 1000 * SECOND);
        limiter.set_rate(1000, now);
        assert_eq!((limiter.rate(), limiter.delay(now)), (1000, SECOND));
        limiter.set_rate(0, now);
        assert_eq!(limiter.delay(now + SECOND), Duration::MAX);
        limiter.set_rate(u64::MAX, now);
        assert_eq!(limiter.delay(now), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn the_rate_holds_over_any_time(rate in 1u64..1 << 40, reads in prop::collection::vec((0u64..1 << 30, 0u64..1000), 1..50)) {
            let start = Instant::now();
            let limiter = RateLimiter::new(rate);
            let (mut now, mut read) = (start, 0u64);
            for (bytes, idle) in reads {
                now += Duration::from_millis(idle);
                now += limiter.delay(now);
                prop_assert!(limiter.delay(now + Duration::from_nanos(1)) < Duration::from_micros(1));
                // What was read before this read fits in the time that passed, plus one burst.
                let allowed = rate as f64 * ((now - start).as_secs_f64() + BURST.as_secs_f64()) * 1.000001 + 1.0;
                prop_assert!(read as f64 <= allowed, "{} read, {} allowed", read, allowed);
                limiter.charge(bytes, now);
                read += bytes;
            }
        }
    }
}
