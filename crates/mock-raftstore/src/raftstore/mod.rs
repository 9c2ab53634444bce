//! One store of the cluster: its peers, and the loop that both drivers turn.
//!
//! Everything in here runs on one thread per store (or on the caller's, step by step) and knows no clock: time comes
//! as ticks, messages come in through [`StoreCore::handle`], and go out of [`StoreCore::poll`].

mod apply;
mod births;
mod command;
mod core;
mod deaths;
mod leadership;
mod log;
mod merge;
mod message;
mod peer;
mod persist;
mod records;
mod replay;
mod shared;
mod snapshot;

pub(crate) use command::SplitChild;
pub(crate) use core::StoreCore;
pub(crate) use message::{Action, Done, Proposal, ReadReady, Reply, StoreMessage};
pub(crate) use peer::{PeerConfig, RaftTiming};
pub(crate) use records::{
    Ident, Merged, PeerMeta, RegionMeta, bootstrap_region, read_ident, read_regions, read_tombstones, write_ident,
};
pub(crate) use replay::replay;
pub use shared::StoreStats;
pub(crate) use shared::{PeerView, StoreShared, region_snapshot};

#[cfg(test)]
mod tests;
