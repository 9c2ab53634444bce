//! What the benchmarks share: workloads, the floors' own code, and ratios between what is measured in turns.
//!
//! Every figure is a ratio against a floor of the same run, measured in turns with it, so that it holds on a noisy
//! machine: a neighbour slows both.

mod floor;
mod turns;
mod workload;

pub use floor::Floor;
pub use turns::{Took, Turns};
pub use workload::{Event, Workload};
