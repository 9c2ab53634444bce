//! list → plan → fetch → merge → sink: brings the state of a log backup at any ts into a new RocksDB directory, or a store
//! of the host.
//!
//! * [`log_info`]: which moments a storage can be brought back to.
//! * [`inexact_ranges`]: which key ranges it cannot be brought back to exactly.
//! * [`plan_restore`]: which ranges of which objects that takes; pure selection over streamed metadata.
//! * [`restore_to`]: the restore, into a [`Sink`]. For every ts T with start ≤ T ≤ checkpoint the sink's MVCC state at T
//!   is that of the source, or the restore fails and says why: every byte is verified before it is used, every
//!   committed value must be there, nothing that no read at T sees gets in the way. Memory is a flag.
//! * `restore_point`: the restore into a new RocksDB directory. [`MemorySink`]: into memory, for simulations and tests.
//! * [`sweep`](sweep()): finds, and removes, what no restore needs and nobody will refer to any more.
//! * `dump`: the MVCC state at a ts of a restored directory, or of a node's; [`MemoryState::dump`] of one in memory.
//!
//! Bytes of the backup are `format`'s, the storage is `storage`'s. RocksDB is behind the feature `rocksdb` (on by
//! default); nothing else needs it.

mod chain;
mod error;
mod fetch;
mod filling;
mod inexact;
mod join;
mod log_info;
mod lost;
mod memory;
mod meter;
mod options;
mod origin;
mod partition;
mod plan;
mod planning;
mod resolve;
mod restore;
mod sink;
mod sort;
mod summary;
mod sweep;
mod version;
mod view;

#[cfg(feature = "rocksdb")]
mod engine;

pub use error::{KeyText, Lost, RestoreError};
pub use inexact::{Inexact, InexactRanges, inexact_ranges};
pub use log_info::{LogInfo, log_info};
pub use memory::MIN_MEMORY;
pub use options::{DEFAULT_CONCURRENCY, DEFAULT_MEMORY, RestoreOptions};
pub use plan::{PlanObject, PlanSummary, Skip, Window};
pub use planning::{Plan, plan_restore};
pub use restore::restore_to;
pub use sink::{Finish, Made, MemoryPart, MemorySink, MemoryState, Sink, SinkPart};
pub use summary::{Counts, Dropped, Progress, RestoreSummary, Silent, Stage, StageProgress, Took};
pub use sweep::{Kept, SweepOptions, SweepReason, SweepReport, SweepRow, sweep};
pub use view::{DumpSummary, Each};

#[cfg(feature = "rocksdb")]
pub use engine::{MARKER_FILE, Marker, RocksDir, SstPart, Ssts, dump};
#[cfg(feature = "rocksdb")]
pub use restore::restore_point;
