//! Plants one bug after the other, and counts how many seeds it takes to find each.

use logtide_model::planted::{Bug, plant};

use crate::schedule::{STEPS, Schedule};
use crate::simulate::simulate;
use crate::violation::Violation;

/// How a planted bug was found.
#[derive(Clone, Debug)]
pub struct Find {
    /// The seed that found it.
    pub seed: u64,
    /// How many seeds were tried.
    pub tried: u64,
    /// At which step.
    pub at: usize,
    /// What it showed as.
    pub violation: Violation,
}

/// Plants `bug` and runs seeds from `base` on until one finds it; `None` if `limit` seeds do not.
///
/// The simulation itself is to go on working: a seed that only breaks it finds nothing.
pub fn hunt(bug: Bug, base: u64, limit: u64) -> Option<Find> {
    plant(Some(bug));
    let found = (0..limit).find_map(|n| {
        let seed = base + n;
        let (at, violation) = simulate(&Schedule::of_length(seed, STEPS)).found?;
        let real = !matches!(violation, Violation::Broken(_));
        real.then_some(Find { seed, tried: n + 1, at, violation })
    });
    plant(None);
    found
}
