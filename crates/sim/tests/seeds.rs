//! Some hundreds of seeds, a few of them twice, and a few planted bugs; `make sim` and `make sim-planted` run more.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

use logtide_model::planted::{Bug, plant};
use logtide_sim::{Schedule, Step, crash_everywhere, hunt, simulate};

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

/// `logtide-sim --crash-points` does it for as many seeds as one likes.
#[test]
fn a_crash_before_or_after_any_durable_step_loses_nothing() {
    for (schedule, least) in [(Schedule::calm(1, 60), 40), (Schedule::of_length(3, 80), 40)] {
        let crashes = crash_everywhere(&schedule, 0, 1);
        assert!(crashes.found.is_none(), "{:?}", crashes.found);
        let steps: usize = crashes.steps.values().sum();
        assert!(steps >= least && crashes.runs == 2 * steps, "{crashes:?}");
        for kind in ["put .log", "put v1/backupmeta", "put v1/logtide/heads", "put v1/global_checkpoint", "put probe"] {
            assert!(crashes.steps.contains_key(kind), "{kind}: {crashes:?}");
        }
        for kind in ["commit /boot", "commit /fact/", "commit central_global", "commit storage-checkpoint"] {
            assert!(crashes.steps.contains_key(kind), "{kind}: {crashes:?}");
        }
    }
}

/// What a crash in between shows and nothing else.
#[test]
fn facts_that_are_published_before_their_data_are_found_by_a_crash() {
    let schedule = Schedule::calm(1, 60);
    plant(Some(Bug::PublishedTooEarly));
    let (without, with) = (simulate(&schedule), crash_everywhere(&schedule, 0, 1));
    plant(None);
    assert!(without.found.is_none(), "{without:?}");
    let (point, what, violation) = with.found.unwrap();
    assert!(what.contains("/fact/") && point.after || what.contains("put v1/backupmeta"), "{what}: {violation}");
}

/// A task that goes on after a pause begins its generations anew, in the same process: under other names.
#[test]
fn a_pause_repeats_no_name() {
    for seed in 0..12 {
        let mut schedule = Schedule::calm(seed, 160);
        schedule.steps.insert(60, Step::Pause);
        schedule.steps.insert(110, Step::Resume);
        let found = simulate(&schedule).found;
        assert!(found.is_none(), "seed {seed}: {found:?}");
    }
}
