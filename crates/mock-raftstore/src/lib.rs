//! A small but real multi-store raftstore, for tests, the demo and the simulator.
//!
//! Several stores in one process, each with peers of many regions: real `raft::RawNode`s whose log and data lie in one
//! engine (memory or RocksDB), connected by a transport that can lose, delay, double and cut. A [`Cluster`] is run by
//! threads and the clock, or step by step by its owner ([`Driver`]); the code of the peers is the same.
//!
//! * [`engine`]: the key-value engines and their snapshots;
//! * [`pd`]: timestamps, ids, the directory of regions, GC safepoints;
//! * [`transport`]: what happens to messages on their way;
//! * [`cluster`]: start, stop, move, split, and look at a cluster; hands out [`logtide_model::Host`]s;
//! * [`rpc`], [`txn`], [`client`], [`concurrency`]: transactions, from the client's call to the raft proposal.

pub mod client;
pub mod cluster;
pub mod concurrency;
pub mod engine;
mod files;
pub mod pd;
mod raftstore;
pub mod rpc;
mod service;
pub mod transport;
pub mod txn;

pub use cluster::{Around, Cluster, ClusterConfig, ClusterError, Driver, EngineKind, HostLayer, Steps};
