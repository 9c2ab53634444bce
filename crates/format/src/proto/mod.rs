//! The protobuf messages of a log backup, written by hand against kvproto (`brpb.proto`, `encryptionpb.proto`,
//! `metapb.proto`, revision `b6cdca19`). Field numbers: `reference/log-backup-format.md` §3.
//!
//! Only the messages that a backup consists of, or that a task is described with, are here. Unknown fields are dropped
//! when a message is decoded.

mod encryption;
mod metadata;
mod storage;
mod task;

pub use encryption::*;
pub use metadata::*;
pub use storage::*;
pub use task::*;
