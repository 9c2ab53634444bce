//! The shard worker: lock trackers, subscriptions and spools of the regions that one thread owns.
//!
//! Owns: which regions are led and in which term, a [`Subscription`](logtide_checkpoint::Subscription) for every pair
//! of task and region, one spool for every task, the numbers of scan attempts.
//! Does not own: the queue that feeds it, its thread, the scanners, what becomes of a sealed generation.
//!
//! [`Shard::handle`] takes one message and says what follows from it. It has no clock, no randomness and no lock: equal
//! messages give equal events, so that a thread and a simulator run the same code.
//!
//! # What is appended
//! Puts and deletes of the column families default and write inside a task's ranges, at once and in every state of the
//! region: a record in the spool states nothing by itself, and whatever a scan misses because it came later must be
//! there. Records of a scan go to the spool of the task that asked. Records twice are no harm.
//!
//! # Locks
//! Every subscription has a lock tracker of its own, although the changes that it follows are the region's. A scan reads
//! the locks of its task's ranges only, and they are exact at the index of its own snapshot; trackers of two tasks agree
//! only where both ranges and indexes do. What sharing would save (memory, with several tasks over one range) does not pay
//! for the proof that it would cost.
//!
//! # When there is no room
//! Neither memory nor the disk may have any left ([`SpoolError::NoRoom`](logtide_temp_file::SpoolError::NoRoom)): the storage
//! is away for long, or the disk is. Then the region of the record is *released*: it is pending, as after a gap, and all
//! others go on. Its scan is asked for at once and begins when there is room: whoever runs scans holds them back while
//! [`SpoolRoom::is_tight`](logtide_temp_file::SpoolRoom::is_tight). Until then nothing of a pending region is appended, for
//! the snapshot will have it; so what room there is belongs to regions that can use it. What the spool has stays valid.
//!
//! # Why no fact lies after data was lost
//! If a spool cannot append or seal, what its open generation had is gone, and with it what its regions saw since the
//! last seal. From then on must hold, and does:
//! 1. No region of the task states anything in that generation, and the answer to its seal says
//!    [`lost`](SealedShard::lost). The other shards' parts of the generation stay valid: a region is in one shard only.
//! 2. Every region of the task is pending in the same step. Attempts that are under way are given up, so their later
//!    steps are stale. A region states something again only after a scan that began later, whose start ts is the
//!    *published* checkpoint of its range: one that came with a committed generation, thus an earlier one than the lost.
//! 3. Until the seal that closes the lost generation nothing of the task is appended and no scan is requested; after it
//!    the spool is open again *before* the scans are requested. So what is applied after a scan's snapshot is in the
//!    spool. (What fails for long thus costs one try at each seal, not one at each write.)
//! 4. Generations sealed before own their files, and keep their facts.
//!
//! The same holds for a sealed generation that its receiver drops: it must then end the task on this store, or hand over
//! nothing later ([`Generations`](logtide_checkpoint::Generations) refuses a number that is left out).
//!
//! # Changes past MVCC
//! An ingested file sends its region back to be scanned, from a snapshot that has it: the host promises that its versions
//! are above every checkpoint that was stated ([`Op::IngestSst`](logtide_model::Op::IngestSst)), so the scan finds all of
//! them, and they are records as any other. Until then the checkpoint stays. A range delete among locks does the same.
//! If a file says that it has older versions, or does not say how old they are, the region is marked.
//!
//! A range delete among data, or a record that is none of MVCC, cannot be told by log records. It is never silent: a
//! [`Mark`](logtide_format::Mark) of it goes into the generation ([`SealedShard::marks`]), [`ShardEvent::Unsupported`] names
//! region and index, a warning is logged, and the region goes on. Marks outlive a generation that is lost here. What is not
//! seen cannot be marked: if a batch is dropped, or the process ends before the generation with the mark is durable, a
//! catch-up from the raft log meets the range delete again and marks it, but a scan of a snapshot does not show it.

mod account;
mod apply;
mod event;
mod marks;
mod record;
mod region;
mod scan;
mod seal;
mod shard;
mod stats;
mod task;

pub use event::{SealedRegion, SealedShard, ShardConfig, ShardEvent, UnsupportedChange};
pub use shard::Shard;
pub use stats::ShardStats;
