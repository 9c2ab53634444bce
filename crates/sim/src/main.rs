//! Runs seeds: see [`USAGE`].
#![allow(clippy::print_stdout, reason = "a command")]

use std::process::ExitCode;
use std::time::Instant;

use logtide_model::planted::Bug;
use logtide_sim::{Find, STEPS, Schedule, crash_everywhere, hunt, shrink, simulate, simulate_and_tell};

const USAGE: &str =
    "usage: sim [--seeds N] [--base M] [--steps N] [--twice] [--trace] [--planted [--bug NAME]] [--crash-points]
  --seeds N    how many schedules (100); with --planted: how many may be tried for each bug
  --base M     the first seed (0)
  --steps N    steps of a schedule (500)
  --twice      runs each schedule twice and compares the digests
  --trace      tells every step
  --planted    plants known bugs one after the other and fails if one is not found
  --bug NAME   only the bugs whose name contains it
  --crash-points  runs each schedule with a crash before and after every durable step, one after the other";

/// What is asked for.
struct Options {
    seeds: u64,
    base: u64,
    steps: usize,
    twice: bool,
    trace: bool,
    planted: bool,
    crash_points: bool,
    bug: String,
}

fn options() -> Option<Options> {
    let mut options = Options {
        seeds: 100,
        base: 0,
        steps: STEPS,
        twice: false,
        trace: false,
        planted: false,
        crash_points: false,
        bug: String::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seeds" => options.seeds = args.next()?.parse().ok()?,
            "--base" => options.base = args.next()?.parse().ok()?,
            "--steps" => options.steps = args.next()?.parse().ok()?,
            "--bug" => options.bug = args.next()?,
            "--twice" => options.twice = true,
            "--trace" => options.trace = true,
            "--planted" => options.planted = true,
            "--crash-points" => options.crash_points = true,
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    // A panic is a violation, told as one.
    std::panic::set_hook(Box::new(|_| {}));
    match options() {
        None => {
            println!("{USAGE}");
            ExitCode::from(2)
        }
        Some(options) if options.planted => find_planted(&options),
        Some(options) if options.crash_points => crash(&options),
        Some(options) => run(&options),
    }
}

/// Runs seeds; fails at the first violation.
fn run(options: &Options) -> ExitCode {
    let Options { seeds, base, steps, twice, trace, .. } = *options;
    let began = Instant::now();
    let (mut committed, mut restores, mut refusals, mut advances) = (0, 0, 0, 0);
    let (mut lost, mut disk_failures) = (0, 0);
    for seed in base..base + seeds {
        let schedule = Schedule::of_length(seed, steps);
        let outcome = simulate_and_tell(&schedule, &mut |n, step, world| {
            if trace {
                println!("{n} {step}: {}", world.describe());
            }
        });
        if let Some((at, violation)) = &outcome.found {
            println!("seed {seed}, step {at}: {violation}");
            tell_shrunk(&schedule);
            return ExitCode::FAILURE;
        }
        if twice && simulate(&schedule).digest != outcome.digest {
            println!("seed {seed}: two runs have different digests");
            return ExitCode::FAILURE;
        }
        committed += outcome.counts.committed;
        restores += outcome.counts.restores;
        refusals += outcome.counts.refusals;
        lost += outcome.counts.lost_values;
        disk_failures += outcome.counts.disk_failures;
        advances += outcome.counts.advances;
    }
    let took = began.elapsed().as_secs_f64();
    let rate = seeds as f64 / took * 3600.0 * if twice { 2.0 } else { 1.0 };
    println!(
        "{seeds} schedules of {steps} steps from seed {base}{}: no violation; {committed} transactions committed, \
         {advances} steps of the checkpoint, {restores} restores compared ({refusals} of them refused first, with {lost} lost values), {disk_failures} requests to disks failed; {took:.1} s, {rate:.0} schedules an hour",
        if twice { ", each twice with equal digests" } else { "" }
    );
    ExitCode::SUCCESS
}

/// Crashes at every durable step of each seed; fails at the first loss.
fn crash(options: &Options) -> ExitCode {
    let began = Instant::now();
    let (mut points, mut runs, mut orphans) = (0, 0, 0);
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for seed in options.base..options.base + options.seeds {
        let crashes = crash_everywhere(&Schedule::of_length(seed, options.steps), 0, 1);
        if let Some((point, what, violation)) = crashes.found {
            println!("seed {seed}, {point:?}, {what}: {violation}");
            return ExitCode::FAILURE;
        }
        points += crashes.steps.values().sum::<usize>();
        runs += crashes.runs;
        orphans += crashes.with_orphans;
        crashes.steps.into_iter().for_each(|(kind, n)| *kinds.entry(kind).or_default() += n);
    }
    println!(
        "{} schedules of {} steps from seed {}: {points} durable steps, {runs} crashes, nothing lost; after {orphans} of them \
         there are objects that no metadata refers to; {:.1} s",
        options.seeds,
        options.steps,
        options.base,
        began.elapsed().as_secs_f64()
    );
    kinds.into_iter().for_each(|(kind, n)| println!("{n:8}  {kind}"));
    ExitCode::SUCCESS
}

fn tell_shrunk(schedule: &Schedule) {
    let small = shrink(schedule, 300);
    println!("shrunk to {} steps:", small.steps.len());
    small.steps.iter().for_each(|step| println!("  {step}"));
    if let Some((at, violation)) = simulate(&small).found {
        println!("which ends at step {at} with {violation}");
    }
}

/// Hunts every planted bug; fails if one survives.
fn find_planted(options: &Options) -> ExitCode {
    let wanted = |bug: &Bug| format!("{bug:?}").contains(&options.bug);
    let mut survivors = 0;
    for bug in Bug::ALL.into_iter().filter(wanted) {
        match hunt(bug, options.base, options.seeds) {
            Some(Find { seed, tried, at, violation }) => {
                println!("{bug:?}: {tried} seeds (seed {seed}, step {at}): {violation}");
            }
            None => {
                survivors += 1;
                println!("{bug:?}: SURVIVES {} seeds", options.seeds);
            }
        }
    }
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
