//! The Raft hook: what the host applies, as messages to the shards.
//!
//! It owns: which regions are observed, the shard queues' sending ends, and the memory permits of what is in flight.
//! It does not own: what becomes of a message (crate `shard`), or when a region is looked at again (the façade).
//!
//! On the apply thread nothing here waits for another stage: a batch that finds no memory raises the gap flag of its
//! region and is dropped, and the shard catches up from a snapshot (invariant I2).

mod filter;
mod hook;
mod observations;
#[cfg(feature = "raft")]
pub mod ready;
mod shard;

pub use hook::{BATCH_OVERHEAD, Observer, ObserverConfig, ObserverStats};
