//! The Raft hook: apply batches, leadership, region changes into bounded shard channels.
