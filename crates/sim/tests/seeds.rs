//! Some hundreds of seeds, a few of them twice, and a few planted bugs; `make sim` and `make sim-planted` run more.
#![allow(clippy::panic, reason = "tests")]

use logtide_model::planted::Bug;
use logtide_sim::{Schedule, hunt, simulate};

/// What seeds found.
fn run(seeds: std::ops::Range<u64>) -> Vec<(u64, String)> {
    seeds
        .filter_map(|seed| simulate(&Schedule::of(seed)).found.map(|(at, v)| (seed, format!("step {at}: {v}"))))
        .collect()
}

#[test]
fn two_hundred_schedules_find_nothing() {
    assert_eq!(run(0..200), []);
}

#[test]
fn two_hundred_others_find_nothing() {
    assert_eq!(run(1_000_000..1_000_200), []);
}

#[test]
fn a_seed_has_one_history() {
    for seed in 0..40 {
        let (one, two) = (simulate(&Schedule::of(seed)), simulate(&Schedule::of(seed)));
        assert_eq!(one.digest, two.digest, "seed {seed}");
        assert_eq!(one.counts, two.counts, "seed {seed}");
    }
}

#[test]
fn schedules_do_something() {
    let counts: Vec<_> = (0..40).map(|seed| simulate(&Schedule::of(seed)).counts).collect();
    assert!(counts.iter().map(|c| c.committed).sum::<u64>() > 400, "{counts:?}");
    assert!(counts.iter().map(|c| c.restores).sum::<u64>() > 100, "{counts:?}");
    assert!(counts.iter().all(|c| c.advances > 0 && c.versions > 0), "{counts:?}");
}

/// Those that few seeds show; `make sim-planted` hunts all of them.
#[test]
fn planted_bugs_are_found() {
    for bug in [
        Bug::FailedFlushCounts,
        Bug::EqualNames,
        Bug::StopOvertakesStart,
        Bug::ParentSpeaksForChild,
        Bug::ScanQueueLost,
        Bug::ScanEndsAtLocks,
        Bug::ScanGivesUp,
        Bug::DropUnnoticed,
        Bug::ReRegistrationWipes,
        Bug::ClockForBarrier,
    ] {
        assert!(hunt(bug, 0, 60).is_some(), "{bug:?} survives 60 seeds");
    }
}
