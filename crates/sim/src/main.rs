//! Runs seeds: `sim [--seeds N] [--base M] [--twice] [--steps N]`.
#![allow(clippy::print_stdout, reason = "a command")]

use std::process::ExitCode;
use std::time::Instant;

use logtide_model::planted::Bug;
use logtide_sim::{Find, STEPS, Schedule, hunt, shrink, simulate, simulate_and_tell};

fn main() -> ExitCode {
    // A panic is a violation, told as one.
    std::panic::set_hook(Box::new(|_| {}));
    let mut args = std::env::args().skip(1);
    let (mut seeds, mut base, mut twice, mut steps, mut trace) = (100u64, 0u64, false, STEPS, false);
    let mut planted = false;
    while let Some(arg) = args.next() {
        let mut number = |name: &str| -> Option<u64> {
            let value = args.next().and_then(|v| v.parse().ok());
            if value.is_none() {
                println!("{name} takes a number");
            }
            value
        };
        match arg.as_str() {
            "--seeds" => match number("--seeds") {
                Some(n) => seeds = n,
                None => return ExitCode::from(2),
            },
            "--base" => match number("--base") {
                Some(n) => base = n,
                None => return ExitCode::from(2),
            },
            "--steps" => match number("--steps") {
                Some(n) => steps = n as usize,
                None => return ExitCode::from(2),
            },
            "--twice" => twice = true,
            "--trace" => trace = true,
            "--planted" => planted = true,
            other => {
                println!("unknown argument {other}; usage: sim [--seeds N] [--base M] [--steps N] [--twice]");
                return ExitCode::from(2);
            }
        }
    }
    if planted {
        return find_planted(base, seeds);
    }
    let began = Instant::now();
    let (mut committed, mut restores) = (0, 0);
    for seed in base..base + seeds {
        let schedule = Schedule::of_length(seed, steps);
        let outcome = simulate_and_tell(&schedule, &mut |n, step, world| {
            if trace {
                println!("{n} {step}: {}", world.describe());
            }
        });
        if let Some((at, violation)) = &outcome.found {
            println!("seed {seed}, step {at}: {violation}");
            let small = shrink(&schedule, 300);
            println!("shrunk to {} steps:", small.steps.len());
            small.steps.iter().for_each(|step| println!("  {step}"));
            if let Some((at, violation)) = simulate(&small).found {
                println!("which ends at step {at} with {violation}");
            }
            return ExitCode::FAILURE;
        }
        if twice && simulate(&schedule).digest != outcome.digest {
            println!("seed {seed}: two runs have different digests");
            return ExitCode::FAILURE;
        }
        committed += outcome.counts.committed;
        restores += outcome.counts.restores;
    }
    let took = began.elapsed().as_secs_f64();
    let rate = seeds as f64 / took * 3600.0;
    println!(
        "{seeds} schedules of {steps} steps from seed {base}: no violation; {committed} transactions committed, {restores} \
         restores compared; {took:.1} s, {rate:.0} schedules an hour"
    );
    ExitCode::SUCCESS
}

/// Hunts every planted bug; fails if one survives.
fn find_planted(base: u64, limit: u64) -> ExitCode {
    let mut survivors = 0;
    for bug in Bug::ALL {
        match hunt(bug, base, limit) {
            Some(Find { seed, tried, at, violation }) => {
                println!("{bug:?}: {tried} seeds (seed {seed}, step {at}): {violation}");
            }
            None => {
                survivors += 1;
                println!("{bug:?}: SURVIVES {limit} seeds");
            }
        }
    }
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
