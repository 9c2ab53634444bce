//! Deterministic simulation: real raft, the real pipeline, a simulated storage and coordinator, one thread, one seed.
//!
//! A [`Schedule`] of steps comes from a seed; a [`World`] executes them: a cluster of `mock-raftstore` in single steps, the
//! log backup of each store as [`logtide::Stepped`], clients that are polled, and faults of every kind. [`History`] is the
//! oracle: it sees what raft applied, and knows what a reader sees at every moment. After each step it is checked that no
//! commit came into being below the checkpoint, and that the checkpoint did not go down; at moments that the schedule
//! chooses the backup is restored and compared with the truth; at the end, when all trouble is over, the checkpoint has
//! to reach the present.
//!
//! There is no thread, no clock of the machine and no randomness but the seed's: running a seed twice gives the same
//! [digest](Outcome::digest).

pub mod client;
mod coordinator;
mod crashes;
mod digest;
mod disk;
mod durable;
mod history;
mod host;
mod mortal;
mod planted;
mod schedule;
mod simulate;
mod storage;
mod violation;
mod workload;
mod world;

pub use crashes::{Crashes, crash_everywhere};
pub use durable::CrashPoint;
pub use history::History;
pub use planted::{Find, hunt};
pub use schedule::{STEPS, Schedule, Step};
pub use simulate::{Outcome, shrink, simulate, simulate_and_tell, simulate_crashing};
pub use violation::Violation;
pub use world::{Counts, World};
