//! One seed, one history: executes schedules, and makes those that fail smaller.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::durable::CrashPoint;
use crate::schedule::{Schedule, Step};
use crate::violation::Violation;
use crate::world::{Counts, World};

/// What became of a schedule.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened.
    pub counts: Counts,
    /// Equal for equal histories.
    pub digest: u64,
    /// What it found, and at which step (the number of steps for the end).
    pub found: Option<(usize, Violation)>,
}

/// Executes a schedule to its end, or to the first violation.
pub fn simulate(schedule: &Schedule) -> Outcome {
    simulate_and_tell(schedule, &mut |_, _, _| {})
}

/// As [`simulate`], with a crash at one durable step of some store's backup; also what the durable steps were.
pub fn simulate_crashing(schedule: &Schedule, point: Option<CrashPoint>) -> (Outcome, Vec<String>) {
    let (mut at, mut done) = (0, Vec::new());
    let run = || {
        execute(schedule, &mut at, &mut |world| world.crash_at(point), &mut |_, _, _| {}, &mut |world| {
            done = world.durable_steps();
        })
    };
    let run = catch_unwind(AssertUnwindSafe(run));
    (run.unwrap_or_else(|panic| panicked(at, &*panic)), done)
}

/// As [`simulate`]; `tell` is called after every step that found nothing.
pub fn simulate_and_tell(schedule: &Schedule, tell: &mut dyn FnMut(usize, Step, &World)) -> Outcome {
    let mut at = 0;
    let run = catch_unwind(AssertUnwindSafe(|| execute(schedule, &mut at, &mut |_| {}, tell, &mut |_| {})));
    run.unwrap_or_else(|panic| panicked(at, &*panic))
}

fn panicked(at: usize, panic: &(dyn Any + Send)) -> Outcome {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
    let found = Some((at, Violation::Broken(format!("it panicked: {text}"))));
    Outcome { counts: Counts::default(), digest: 0, found }
}

fn execute(
    schedule: &Schedule,
    at: &mut usize,
    begin: &mut dyn FnMut(&World),
    tell: &mut dyn FnMut(usize, Step, &World),
    end: &mut dyn FnMut(&World),
) -> Outcome {
    let mut world = match World::new(schedule.seed) {
        Ok(world) => world,
        Err(violation) => return Outcome { counts: Counts::default(), digest: 0, found: Some((0, violation)) },
    };
    begin(&world);
    let mut steps = || -> Result<(), Violation> {
        for (n, step) in schedule.steps.iter().enumerate() {
            *at = n;
            world.step(*step)?;
            tell(n, *step, &world);
        }
        *at = schedule.steps.len();
        world.finish()
    };
    let steps = steps();
    end(&world);
    Outcome { counts: world.counts(), digest: world.digest(), found: steps.err().map(|violation| (*at, violation)) }
}

/// Leaves steps out as long as the same kind of violation shows, within that many tries.
pub fn shrink(schedule: &Schedule, tries: usize) -> Schedule {
    let Some((at, violation)) = simulate(schedule).found else { return schedule.clone() };
    let kind = violation.kind();
    let mut best = schedule.clone();
    best.steps.truncate(at + 1);
    let mut left = tries;
    let mut size = best.steps.len() / 2;
    while size > 0 && left > 0 {
        let mut from = 0;
        while from < best.steps.len() && left > 0 {
            left -= 1;
            let candidate = without(&best, from, size);
            match simulate(&candidate).found {
                Some((at, v)) if v.kind() == kind => {
                    best = candidate;
                    best.steps.truncate(at + 1);
                }
                _ => from += size,
            }
        }
        size /= 2;
    }
    best
}

fn without(schedule: &Schedule, from: usize, size: usize) -> Schedule {
    let keep = |(n, step): (usize, &Step)| (n < from || n >= from + size).then_some(*step);
    Schedule { seed: schedule.seed, steps: schedule.steps.iter().enumerate().filter_map(keep).collect() }
}
