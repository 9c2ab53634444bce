//! The raft half against its contracts: engines, H1 and H2, leadership, splits, partitions, restarts.

mod engine;
mod recorder;
mod schedule;
mod steps;
mod threads;
