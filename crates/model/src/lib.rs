//! The vocabulary of logtide.
//!
//! Timestamps, keys, regions, raft events, tasks and MVCC records, and the traits at which the host
//! meets logtide ([`RaftObserver`], [`Host`], [`KvSnapshot`]) and at which the stages meet each other
//! ([`message`], [`Publisher`]). No IO, no clock, no randomness, no threads.
//!
//! Keys in this crate are *encoded* keys (memcomparable, as a TiKV region boundary or a raft command
//! has them) unless a name says *raw*; the `z` prefix of keys on disk never gets here.

pub mod codec;
mod encryption;
mod error;
mod event;
mod host;
mod key;
mod memory;
pub mod message;
pub mod mvcc;
pub mod planted;
mod progress;
mod range;
mod region;
mod secret;
mod task;
mod ts;

pub use encryption::{
    Cipher, Kms, KmsDataKey, KmsError, KmsKey, KmsVendor, MasterKeyRef, Random, RandomError, TaskEncryption,
};
pub use error::{Class, Diagnose, ErrorCode};
pub use event::{ApplyBatch, Cf, Op, RegionChange, Role};
pub use host::{
    Confirmed, Host, HostError, KvIter, KvSnapshot, LocalRegion, LogBatch, LogEntries, RANGE_DELETE_ON_ITS_WAY,
    RaftObserver,
};
pub use key::{RAW_META_PREFIX, append_ts, decode_raw_key, encode_raw_key, split_ts, truncate_ts};
pub use memory::{MemoryBudget, Permit};
pub use progress::{Publication, PublishError, Publisher, RegionFact};
pub use range::KeyRange;
pub use region::{Region, RegionEpoch, RegionId, StoreId, Term};
pub use secret::{InvalidKey, SecretKey, without_credentials};
pub use task::{Compression, Incarnation, InvalidTaskName, Task, TaskName};
pub use ts::Ts;
