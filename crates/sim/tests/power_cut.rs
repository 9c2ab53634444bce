//! One real power cut (the whole of it: `make test-power-cut`), where the machine allows it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "in tests, also in what tests share")]

use std::process::Command;

/// What the command answers where something is missing on the machine.
const NOT_TESTED: i32 = 3;

#[test]
fn what_was_published_before_the_power_went_is_there() {
    let cut = Command::new(env!("CARGO_BIN_EXE_power-cut")).args(["--runs", "1", "--fs", "ext4"]).output().unwrap();
    let said = [&cut.stdout[..], &cut.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    println!("{said}");
    match cut.status.code() {
        Some(NOT_TESTED) => assert!(said.contains("NOT tested; missing:"), "{said}"),
        code => assert!(code == Some(0) && said.contains("ext4: 1 cuts, 0 with something missing"), "{said}"),
    }
}
