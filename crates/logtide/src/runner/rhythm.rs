//! When a task is flushed: by an interval, or so that targets are met. Pure: it is told what happened and when.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::{Duration, Instant};

use logtide_model::StoreId;

use crate::Config;

/// How soon a seal that failed is tried again, at the latest.
const RETRY: Duration = Duration::from_secs(1);
/// A flush is never begun sooner after the one before than this part of the target, however long flushes take.
const LEAST_PART: u32 = 4;
const HOUR: f64 = 3600.0;

/// What decides the interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BoundBy {
    /// `max-flush-interval`.
    #[default]
    Interval,
    /// `rpo-target`.
    RpoTarget,
    /// A flush takes so long that `rpo-target` is not reached.
    FlushTime,
    /// `max-objects-per-hour`: the checkpoint lags behind by more than is wanted otherwise.
    Objects,
}

impl BoundBy {
    /// Its name in a status.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            BoundBy::Interval => "max-flush-interval",
            BoundBy::RpoTarget => "rpo-target",
            BoundBy::FlushTime => "flush-time",
            BoundBy::Objects => "max-objects-per-hour",
        }
    }
}

/// The time from one flush by interval to the next, and what decides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) interval: Duration,
    pub(crate) bound_by: BoundBy,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Rhythm {
    store_id: StoreId,
    generation: u64,
    sealed_at: Instant,
    /// Somebody waits for a flush.
    asked: bool,
    retry_at: Option<Instant>,
    /// From the seal to the publication, as of late.
    delay: Duration,
    /// Objects of the last flush that had any: what the next one is taken to cost until it is known.
    cost: f64,
    /// Objects that are ahead of the rate, as of `debt_at`.
    debt: f64,
    debt_at: Instant,
}

impl Rhythm {
    /// The first flush comes an interval after `now`.
    pub(crate) fn new(store_id: StoreId, now: Instant) -> Self {
        Rhythm {
            store_id,
            generation: 0,
            sealed_at: now,
            asked: false,
            retry_at: None,
            delay: Duration::ZERO,
            cost: 2.0,
            debt: 0.0,
            debt_at: now,
        }
    }

    /// The next flush is due at once.
    pub(crate) fn hurry(&mut self) {
        self.asked = true;
    }

    /// True if a flush is due; with `is_full` it is, unless a seal has just failed.
    pub(crate) fn is_due(&self, now: Instant, config: &Config, is_full: bool) -> bool {
        match self.retry_at {
            Some(at) => now >= at,
            None => self.asked || is_full || now >= self.sealed_at + self.jittered(self.beat(config)),
        }
    }

    /// A seal failed: it is tried again soon.
    pub(crate) fn failed(&mut self, now: Instant, config: &Config) {
        self.retry_at = Some(now + RETRY.min(config.wanted_lag()));
    }

    /// A generation was sealed. What it is taken to cost is for [`Self::flushed`].
    pub(crate) fn sealed(&mut self, generation: u64, now: Instant, config: &Config) -> f64 {
        (self.asked, self.retry_at) = (false, None);
        (self.generation, self.sealed_at) = (generation, now);
        let paid = rate(config).map_or(f64::INFINITY, |rate| rate * (now - self.debt_at).as_secs_f64());
        self.debt = (self.debt - paid).max(0.0) + self.cost;
        self.debt_at = now;
        self.cost
    }

    /// A generation was published: it had so many objects, was taken to cost `taken_for`, and took so long since its seal.
    pub(crate) fn flushed(&mut self, objects: usize, taken_for: f64, took: Duration) {
        let cost = objects as f64;
        self.debt = (self.debt + cost - taken_for).max(0.0);
        if objects > 0 {
            self.cost = cost;
        }
        // Up at once, down slowly: a slow flush will be followed by others.
        self.delay = took.max((self.delay * 7 + took) / 8);
    }

    /// The interval as it is now, without jitter.
    pub(crate) fn beat(&self, config: &Config) -> Beat {
        let wanted = self.wanted(config);
        let Some(rate) = rate(config) else { return wanted };
        let until_paid = self.debt_at + seconds(self.debt / rate);
        let interval = until_paid.saturating_duration_since(self.sealed_at);
        if interval > wanted.interval { Beat { interval, bound_by: BoundBy::Objects } } else { wanted }
    }

    fn wanted(&self, config: &Config) -> Beat {
        let Some(target) = config.rpo_target else {
            return Beat { interval: config.max_flush_interval, bound_by: BoundBy::Interval };
        };
        // What is committed right after a seal is covered when the next one is published and advanced.
        let spare = target.saturating_sub(self.delay + config.look_interval());
        let least = target / LEAST_PART;
        if spare < least {
            return Beat { interval: least, bound_by: BoundBy::FlushTime };
        }
        Beat { interval: spare, bound_by: BoundBy::RpoTarget }
    }

    /// Up to an eighth shorter: stores that began together do not flush together for ever. What a limit decides is only
    /// made longer.
    fn jittered(&self, beat: Beat) -> Duration {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let jitter = hasher.hash_one((self.store_id, self.generation)) % 1024;
        let part = beat.interval / 8 * jitter as u32 / 1024;
        if beat.bound_by == BoundBy::Objects { beat.interval + part } else { beat.interval - part }
    }
}

/// Objects per second.
fn rate(config: &Config) -> Option<f64> {
    config.max_objects_per_hour.map(|objects| objects as f64 / HOUR)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(1 << 32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn targets(rpo: Option<u64>, objects: Option<u64>) -> Config {
        Config { rpo_target: rpo.map(Duration::from_secs), max_objects_per_hour: objects, ..Config::default() }
    }

    /// Flushes by interval for `hours`, every flush with `objects` objects and of `took`; the intervals.
    fn run(config: &Config, hours: u64, objects: usize, took: Duration) -> (Rhythm, Vec<Duration>) {
        let start = Instant::now();
        let mut rhythm = Rhythm::new(7, start);
        let (mut now, mut last, mut intervals) = (start, start, Vec::new());
        while now < start + SECOND * 3600 * u32::try_from(hours).unwrap() {
            now += Duration::from_millis(50);
            if rhythm.is_due(now, config, false) {
                let taken_for = rhythm.sealed(intervals.len() as u64 + 1, now, config);
                rhythm.flushed(objects, taken_for, took);
                intervals.push(now - last);
                last = now;
            }
        }
        (rhythm, intervals)
    }

    #[test]
    fn without_targets_the_interval_is_the_interval() {
        let (rhythm, intervals) = run(&targets(None, None), 2, 3, SECOND);
        assert_eq!(rhythm.beat(&targets(None, None)).bound_by, BoundBy::Interval);
        let limits = Duration::from_secs(157)..=Duration::from_millis(180_050);
        assert!(intervals.iter().all(|interval| limits.contains(interval)), "{intervals:?}");
        assert!(intervals.iter().max() > intervals.iter().min(), "there is jitter");
    }

    #[test]
    fn what_is_committed_is_covered_within_the_target() {
        let config = targets(Some(20), None);
        let took = 4 * SECOND;
        let (rhythm, intervals) = run(&config, 1, 3, took);
        assert_eq!(rhythm.beat(&config), Beat { interval: 15 * SECOND, bound_by: BoundBy::RpoTarget });
        let lag = *intervals.iter().skip(2).max().unwrap() + took + config.look_interval();
        assert!(lag <= 20 * SECOND + Duration::from_millis(50) && lag > 18 * SECOND, "{lag:?}");
    }

    #[test]
    fn a_target_that_flushes_are_too_slow_for_is_said_to_be_so() {
        let config = targets(Some(20), None);
        let (rhythm, _) = run(&config, 1, 3, 18 * SECOND);
        assert_eq!(rhythm.beat(&config), Beat { interval: 5 * SECOND, bound_by: BoundBy::FlushTime });
    }

    #[test]
    fn which_of_two_targets_binds_depends_on_the_objects_of_a_flush() {
        let config = targets(Some(20), Some(720));
        assert_eq!(run(&config, 1, 2, SECOND).0.beat(&config).bound_by, BoundBy::RpoTarget);
        let (rhythm, intervals) = run(&config, 1, 8, SECOND);
        assert_eq!(rhythm.beat(&config), Beat { interval: 40 * SECOND, bound_by: BoundBy::Objects });
        assert!(intervals.len() * 8 <= 720 + 8 && intervals.len() * 8 > 640, "{} flushes", intervals.len());
    }

    #[test]
    fn flushes_without_objects_cost_nothing_and_save_nothing_up() {
        let config = targets(Some(20), Some(36));
        let (mut rhythm, intervals) = run(&config, 1, 0, SECOND);
        assert!(intervals.len() > 160, "{} flushes", intervals.len());
        let now = rhythm.sealed_at + 18 * SECOND;
        let taken_for = rhythm.sealed(1000, now, &config);
        rhythm.flushed(5, taken_for, SECOND);
        assert_eq!(rhythm.beat(&config), Beat { interval: 500 * SECOND, bound_by: BoundBy::Objects });
    }

    #[test]
    fn a_change_counts_at_once_and_who_asks_does_not_wait() {
        let now = Instant::now();
        let mut rhythm = Rhythm::new(1, now);
        rhythm.sealed(1, now, &targets(None, None));
        let later = now + 10 * SECOND;
        let fixed = targets(None, None);
        assert!(!rhythm.is_due(later, &fixed, false) && rhythm.is_due(later, &targets(Some(5), None), false));
        assert!(rhythm.is_due(now, &fixed, true), "what is full does not wait");
        rhythm.hurry();
        assert!(rhythm.is_due(now, &fixed, false));
        rhythm.failed(now, &fixed);
        assert!(!rhythm.is_due(now, &fixed, true), "what fails is not tried at once, full or not");
        assert!(rhythm.is_due(now + SECOND, &fixed, false));
    }

    proptest! {
        /// In any hour no more than the limit, and what one flush costs, and what was not left to the rhythm.
        #[test]
        fn the_limit_of_objects_holds(limit in 1u64..2000, rpo in prop::option::of(1u64..600),
            flushes in prop::collection::vec((0usize..30, 0u64..20_000), 1..200)) {
            let config = targets(rpo, Some(limit));
            let start = Instant::now();
            let mut rhythm = Rhythm::new(3, start);
            let (mut now, mut written) = (start, Vec::<(Instant, usize)>::new());
            for (number, (objects, took)) in (1..).zip(flushes) {
                let took = Duration::from_millis(took);
                while !rhythm.is_due(now, &config, false) {
                    let beat = rhythm.jittered(rhythm.beat(&config));
                    now = now.max(rhythm.sealed_at + beat);
                }
                let taken_for = rhythm.sealed(number, now, &config);
                written.push((now, objects));
                now += took;
                rhythm.flushed(objects, taken_for, took);
            }
            for (i, (from, _)) in written.iter().enumerate() {
                let within = written[i..].iter().take_while(|(at, _)| *at < *from + 3600 * SECOND);
                let sum: usize = within.clone().map(|(_, objects)| objects).sum();
                let last = within.last().unwrap().1;
                prop_assert!((sum - last) as f64 <= limit as f64 + 0.001, "{} and {} objects in an hour", sum - last, last);
            }
        }
    }
}
