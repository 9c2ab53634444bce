//! The spool: where events wait between the shard that appends them and the flusher that uploads them.
//!
//! It owns: the raw tails and compressed blocks of a generation, in memory within a budget, else in a local file of its
//! own; and that file. It does not own: when a generation is sealed (crate `shard`), or what becomes of the sealed
//! blocks (crate `flusher`).
//!
//! * A *segment* is all records of one [`FileKey`](logtide_format::FileKey) in one generation, in append order.
//! * Its *tail* is plain and grows in chunks of 4 KiB. A full tail becomes a *block*: summarized, compressed, a logical
//!   file of its own.
//! * Over budget, blocks go to the file, and the longest tails become blocks before they are full. Where all tails are
//!   too short for that they go to the file, plain, as *runs*, and are put together again when the generation is sealed.
//!
//! Where the task is encrypted, blocks and runs are encrypted before they leave the tail: nothing plain ever reaches the
//! disk, and an upload that is repeated sends the same bytes.
//!
//! The disk has a quota, and may fail ([`SpoolDisk`]). Nothing that was appended is lost for it: what cannot be written
//! stays in memory. When memory is used up as well a record finds no room ([`SpoolError::NoRoom`]), and nothing else
//! happens. A disk that does not give back what it took loses the generation.
//!
//! Nothing of a spool file is of use to another process: after a crash the events are read again from the node.

mod chunks;
mod disk;
mod encryption;
mod error;
mod file;
mod files;
mod ledger;
mod room;
mod sealed;
mod segment;
mod spool;
mod stale;

pub use disk::SpoolDisk;
pub use encryption::{SpoolEncryption, TaskKeys};
pub use error::SpoolError;
pub use files::{Files, RawFile, SystemFiles};
pub use room::{SpoolRoom, SpoolTrouble};
pub use sealed::{SealedFile, SealedSpool};
pub use spool::{Spool, SpoolConfig};
pub use stale::remove_stale;
