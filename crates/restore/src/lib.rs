//! list → plan → fetch → merge → write SSTs: brings the state of a log backup at any ts into a new RocksDB directory.
//!
//! * [`log_info`]: which moments a storage can be brought back to.
//! * [`plan_restore`]: which ranges of which objects that takes; pure selection over streamed metadata.
//! * [`restore_point`]: the restore. For every ts T with start ≤ T ≤ checkpoint the directory's MVCC state at T is
//!   that of the source, or the restore fails and says why: every byte is verified before it is used, every committed
//!   value must be there, nothing that no read at T sees gets in the way. Memory is a flag.
//! * [`dump`]: the MVCC state at a ts of a restored directory, or of a node's.
//!
//! Bytes of the backup are `format`'s, the storage is `storage`'s. Reading and writing RocksDB is behind the feature
//! `rocksdb` (on by default).

#![cfg_attr(not(feature = "rocksdb"), allow(dead_code, unused_imports, reason = "without RocksDB only plans are made"))]

mod error;
mod log_info;
mod memory;
mod meter;
mod options;
mod origin;
mod plan;
mod planning;
mod resolve;
mod sort;
mod summary;

#[cfg(feature = "rocksdb")]
mod engine;
#[cfg(feature = "rocksdb")]
mod fetch;
#[cfg(feature = "rocksdb")]
mod join;
#[cfg(feature = "rocksdb")]
mod restore;

pub use error::{KeyText, Lost, RestoreError};
pub use log_info::{LogInfo, log_info};
pub use memory::MIN_MEMORY;
pub use options::{DEFAULT_CONCURRENCY, DEFAULT_MEMORY, RestoreOptions};
pub use plan::{PlanObject, PlanSummary, Skip, Window};
pub use planning::{Plan, plan_restore};
pub use summary::{Counts, Dropped, Progress, RestoreSummary, Silent, Stage, StageProgress, Took};

#[cfg(feature = "rocksdb")]
pub use engine::{DumpSummary, Each, MARKER_FILE, Marker, dump};
#[cfg(feature = "rocksdb")]
pub use restore::restore_point;
