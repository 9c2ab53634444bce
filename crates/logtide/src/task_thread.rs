//! The thread of a task: polls its life until it is over.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::task_life::TaskLife;

/// How often a task looks whether something is due.
const TICK: Duration = Duration::from_millis(50);

/// Starts it.
pub(crate) fn start(mut life: TaskLife) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(format!("logtide-{}", life.name())).spawn(move || {
        while life.poll(Instant::now()) {
            life.wait(TICK);
        }
    })
}
