//! One pace for all requests of a flusher: when the storage asks for fewer, all of them wait, and nobody storms it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use logtide_checkpoint::Backoff;
use tokio::time::Instant;

/// The longest that a storage may tell us to wait: what asks for more is asked again in between.
const LONGEST: Duration = Duration::from_secs(300);

/// The instant before which nothing is sent.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    until: Option<Instant>,
    /// Rounds of refused requests in a row.
    rounds: u32,
}

impl Pace {
    /// A request was refused. Returns for how long nothing is sent now.
    pub(crate) fn slow_down(&self, now: Instant, backoff: &Backoff, seed: u64, at_least: Option<Duration>) -> Duration {
        let mut state = self.lock();
        // Those that were under way together are refused together: that is one round.
        if state.until.is_none_or(|until| until <= now) {
            state.rounds = state.rounds.saturating_add(1);
        }
        let wait = backoff.delay(state.rounds, seed).max(at_least.unwrap_or_default()).min(LONGEST);
        let until = state.until.map_or(now + wait, |until| until.max(now + wait));
        state.until = Some(until);
        until - now
    }

    /// A request was answered as it should be.
    pub(crate) fn succeeded(&self) {
        self.lock().rounds = 0;
    }

    /// Waits until something may be sent.
    pub(crate) async fn wait(&self) {
        loop {
            let until = self.lock().until;
            match until {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                _ => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(2), cap: Duration::from_secs(16) };

    #[test]
    fn a_round_counts_once_and_rounds_add_up_until_a_success() {
        let (pace, now) = (Pace::default(), Instant::now());
        let ms = Duration::from_millis;
        let first = pace.slow_down(now, &BACKOFF, 1, None);
        assert!(first >= ms(1000) && first <= ms(2000), "{first:?}");
        for seed in 2..50 {
            assert!(pace.slow_down(now, &BACKOFF, seed, None) <= ms(2000), "one round is one step");
        }
        let second = pace.slow_down(now + ms(2000), &BACKOFF, 1, None);
        assert!(second >= ms(2000) && second <= ms(4000), "{second:?}");
        pace.succeeded();
        assert!(pace.slow_down(now + ms(9000), &BACKOFF, 1, None) <= ms(2000));
    }

    #[test]
    fn what_the_storage_says_counts_within_reason() {
        let (pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.slow_down(now, &BACKOFF, 1, Some(Duration::from_secs(9))), Duration::from_secs(9));
        assert_eq!(pace.slow_down(now, &BACKOFF, 1, None), Duration::from_secs(9), "a later word shortens nothing");
        assert_eq!(pace.slow_down(now, &BACKOFF, 1, Some(Duration::MAX)), LONGEST);
    }
}
