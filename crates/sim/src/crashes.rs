//! Crashes at every durable step of a schedule, one after the other.

use std::collections::BTreeMap;

use crate::durable::CrashPoint;
use crate::schedule::Schedule;
use crate::simulate::{simulate, simulate_crashing};
use crate::violation::Violation;

/// What became of the crashes at the durable steps of one schedule.
#[derive(Clone, Debug)]
pub struct Crashes {
    /// How many durable steps there are, by kind.
    pub steps: BTreeMap<String, usize>,
    /// How often it was run with a crash.
    pub runs: usize,
    /// How many of them left objects behind that no metadata refers to.
    pub with_orphans: usize,
    /// The first crash that something was lost by: where, what the step was, and what it showed as.
    pub found: Option<(CrashPoint, String, Violation)>,
}

/// Runs a schedule once, and once more for every durable step with a crash right before it, and one with a crash right
/// after; of these steps every `stride`th, from the `first` on.
pub fn crash_everywhere(schedule: &Schedule, first: usize, stride: usize) -> Crashes {
    let (outcome, done) = simulate_crashing(schedule, None);
    let mut crashes = Crashes { steps: kinds(&done), runs: 0, with_orphans: 0, found: None };
    let nowhere = CrashPoint { step: usize::MAX, after: false };
    if let Some((_, violation)) = outcome.found {
        crashes.found = Some((nowhere, "without any crash".to_owned(), violation));
        return crashes;
    }
    debug_assert_eq!(outcome.digest, simulate(schedule).digest);
    for (step, what) in done.iter().enumerate().skip(first).step_by(stride) {
        for after in [false, true] {
            let point = CrashPoint { step, after };
            let (outcome, _) = simulate_crashing(schedule, Some(point));
            crashes.runs += 1;
            crashes.with_orphans += usize::from(outcome.counts.orphans > 0);
            if let Some((_, violation)) = outcome.found {
                crashes.found = Some((point, what.clone(), violation));
                return crashes;
            }
        }
    }
    crashes
}

/// Steps without who did them, and to which object or key exactly.
fn kinds(done: &[String]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for what in done {
        *kinds.entry(kind(what)).or_default() += 1;
    }
    kinds
}

fn kind(what: &str) -> String {
    const KINDS: [&str; 15] = [
        "probe",
        "v1/backupmeta",
        "v1/logtide/heads",
        "v1/logtide/marks",
        "v1/logtide/identity",
        "v1/global_checkpoint",
        ".log",
        "/boot",
        "/fact/",
        "/gc/",
        "/advancer",
        "central_global",
        "storage-checkpoint",
        "/node/",
        "last-error",
    ];
    let verb = what.split(' ').nth(2).unwrap_or_default();
    let noun = KINDS.into_iter().find(|kind| what.contains(kind));
    format!("{verb} {}", noun.unwrap_or_else(|| what.split(' ').nth(3).unwrap_or_default()))
}
