//! Deterministic simulation: real raft, the real pipeline, a simulated storage and coordinator, one thread, one seed.

pub mod client;
