//! The shard worker through its public interface: each rule on its own, then random histories against the true logs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

mod fixture;
mod history;
mod lives;
mod memory;
mod past_mvcc;
mod poison;
mod raft;
mod room;
mod rules;
mod totals;
mod world;
