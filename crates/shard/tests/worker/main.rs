//! The shard worker through its public interface: each rule on its own, then random histories against the true logs.

mod fixture;
mod history;
mod memory;
mod poison;
mod rules;
mod world;
