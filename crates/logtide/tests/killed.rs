//! A storage node is killed at every durable step of its log backup, and right after it, each time for real: a process
//! of its own on RocksDB, ended by SIGKILL. What a checkpoint covered must be in the storage then, and after a restart all
//! goes on. `cargo test --test killed` takes each step once; with `LOGTIDE_TEST_LONG` its later occurrences too.
//!
//! It has a `main` of its own, for the process that is killed is this same program.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "in tests, also in what tests share")]

#[path = "killed/deadly.rs"]
mod deadly;
#[path = "killed/node.rs"]
mod node;
#[path = "killed/proof.rs"]
mod proof;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use deadly::{Death, STEPS, Step};

const SIGKILL: i32 = 9;
/// Nodes at once.
const AT_ONCE: usize = 8;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--node") => node::run(Path::new(&args[1]), args.get(2).map(|death| Death::parse(death))),
        // As the harness of Rust does: only what a filter names.
        Some(filter) if !filter.starts_with('-') && !"killed".contains(filter) => {}
        Some("--list") => {}
        _ => kill_all(),
    }
}

/// Every death has a node of its own.
fn kill_all() {
    let long = std::env::var_os("LOGTIDE_TEST_LONG").is_some();
    let deaths: Vec<Death> = STEPS.iter().flat_map(|step| deaths_of(*step, long)).collect();
    let (begun, next) = (Instant::now(), AtomicUsize::new(0));
    let kill = || {
        while let Some(death) = deaths.get(next.fetch_add(1, Ordering::Relaxed)) {
            let begun = Instant::now();
            die_and_live_on(*death);
            println!("test killed {death} ... ok ({:.1} s)", begun.elapsed().as_secs_f64());
        }
    };
    // Most of the time they wait until the lease of the dead advancer has expired. A panic of one is one of all.
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(kill))));
    println!("killed at {} moments, nothing lost, in {:.0} s", deaths.len(), begun.elapsed().as_secs_f64());
}

fn deaths_of(step: Step, long: bool) -> Vec<Death> {
    // The first one is often special: nothing was there before.
    let times: &[u64] = if long { &[1, 2, 3, 7] } else { &[2] };
    let times = times.iter().filter(|nth| **nth <= step.at_most());
    let times: Vec<u64> = times.copied().collect();
    let times = if times.is_empty() { vec![1] } else { times };
    times.iter().flat_map(|&nth| [false, true].map(|done| Death { step, nth, done })).collect()
}

fn die_and_live_on(death: Death) {
    let dir = tempfile::tempdir().unwrap();
    let killed = run(dir.path(), Some(death));
    let signal = killed.status.signal();
    assert_eq!(signal, Some(SIGKILL), "it was not killed {death}: {}", said(&killed));
    let after = run(dir.path(), None);
    assert!(after.status.success(), "after it was killed {death}: {}", said(&after));
}

fn run(dir: &Path, death: Option<Death>) -> Output {
    let mut node = Command::new(std::env::current_exe().unwrap());
    node.arg("--node").arg(dir).args(death.map(|death| death.to_string()));
    node.output().unwrap()
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    format!("{:?}\n{}", output.status, String::from_utf8_lossy(&text))
}
