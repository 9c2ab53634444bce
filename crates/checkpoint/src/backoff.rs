//! How long to wait before trying again: exponential, with jitter, for ever.

use std::time::Duration;

/// The schedule of retries. It has no last try (I7): a fault of any length ends in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait after the first failure.
    pub first: Duration,
    /// The longest wait ever.
    pub cap: Duration,
}

impl Default for Backoff {
    /// 500 ms, doubled up to 16 s (TiKV's retry of a subscription ends at the same cap).
    fn default() -> Self {
        Backoff { first: Duration::from_millis(500), cap: Duration::from_secs(16) }
    }
}

impl Backoff {
    /// How long to wait after `failures` failures in a row (0: not at all).
    ///
    /// The wait lies between half of the step and the step, `seed` says where: pass something that differs between
    /// those who failed together (a region id, an attempt), so that they do not return together.
    pub fn delay(&self, failures: u32, seed: u64) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let step = self.first.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.cap);
        let half = step / 2;
        let span = u64::try_from((step - half).as_nanos()).unwrap_or(u64::MAX - 1);
        half + Duration::from_nanos(mix(seed ^ u64::from(failures).rotate_left(32)) % (span + 1))
    }
}

/// The finalizer of SplitMix64: spreads neighbouring seeds over all bits.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_up_to_the_cap_and_never_gives_up() {
        let backoff = Backoff::default();
        let steps =
            [(0, 0), (1, 500), (2, 1000), (5, 8000), (6, 16_000), (7, 16_000), (33, 16_000), (u32::MAX, 16_000)];
        for (failures, longest_ms) in steps {
            let longest = Duration::from_millis(longest_ms);
            for seed in 0..50 {
                let delay = backoff.delay(failures, seed);
                assert!(delay <= longest && delay >= longest / 2, "{failures} failures: {delay:?}");
            }
        }
    }

    #[test]
    fn those_who_failed_together_do_not_return_together() {
        let delays: std::collections::BTreeSet<_> =
            (0..1000).map(|region| Backoff::default().delay(4, region)).collect();
        assert!(delays.len() > 990, "{} different delays", delays.len());
    }

    proptest! {
        #[test]
        fn is_a_function_within_bounds(first_ms in 0u64..100_000, cap_ms in 0u64..100_000, failures: u32, seed: u64) {
            let backoff = Backoff { first: Duration::from_millis(first_ms), cap: Duration::from_millis(cap_ms) };
            prop_assert_eq!(backoff.delay(failures, seed), backoff.delay(failures, seed));
            prop_assert!(backoff.delay(failures, seed) <= backoff.cap);
        }
    }
}
