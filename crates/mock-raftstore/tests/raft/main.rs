//! The raft half against its contracts: engines, H1 and H2, leadership, splits, partitions, restarts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod engine;
mod import;
mod life;
mod merge;
mod recorder;
mod replay;
mod schedule;
mod steps;
mod threads;
