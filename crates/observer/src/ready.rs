//! From the `raft` crate's `Ready` to the callbacks.
