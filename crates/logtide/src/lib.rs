//! Continuous log backup and point-in-time recovery for storage nodes built on Raft and RocksDB.
//!
//! A storage node implements [`Host`], starts log backup with a [`Builder`], and registers the
//! [observer](Executor::observer) with its raft store. Tasks are created with the `logtide` command, or through
//! [`logtide_coordinator::Tasks`].
//!
//! This crate is the façade: it owns threads, wiring and the order of shutdown. The thinking is in the stages. Simulations
//! drive the same parts without threads and clocks: [`Stepped`].

mod advance;
mod boot;
mod budgets;
mod builder;
mod checkpoint_object;
mod config;
mod encryption;
mod error;
mod executor;
mod flush_requests;
mod flushing;
mod heartbeat;
mod interest;
mod merging;
mod metrics;
mod node;
mod online;
mod progress;
mod runner;
mod scan_queue;
mod scanners;
mod shards;
mod stepped;
mod supervisor;
mod task_life;
mod task_thread;

pub use builder::Builder;
pub use config::Config;
pub use error::{ConfigError, StartError};
pub use executor::Executor;
pub use logtide_model::{self as model, Host, RaftObserver};
pub use logtide_temp_file::{Files, RawFile};
pub use stepped::Stepped;
