//! Flushing against stores and publishers that fail in every way that they can.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod ahead;
mod bounds;
mod encrypted;
mod ends;
mod fault_store;
mod fixture;
mod merging;
mod objects;
mod order;
mod overload;
mod poison;
