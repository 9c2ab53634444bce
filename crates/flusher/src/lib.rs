//! Uploads sealed generations in parallel, commits them in order, publishes checkpoints.
//!
//! It owns: the grouping of blocks into data objects and their names, uploads and their retries, the order of commits,
//! the moment of publishing, and the end of the spool. It does not own: sealing, region state, where facts are
//! published, the storage's URL or identity.
//!
//! # The life of a generation
//! 1. **Plan** ([`SealedGeneration`] → objects): blocks in the order (schema or not, table, region, column family, kind)
//!    become data objects of at most `file_size_limit` and one block; schema objects come after and never mix. All names
//!    follow from (store, boot, generation, index), all bytes from the spool: whatever is repeated later is the same name
//!    with the same bytes (I5).
//! 2. **Upload** the data objects, several at once, several generations at once, within [`FlushConfig::upload_memory`].
//! 3. **Commit**: the marks of what no record can tell, if there are some, then the metadata object, strictly in the order
//!    of generations.
//! 4. **Publish**, strictly after the commit of this generation and of all earlier ones (I1): first the *head*, which names
//!    the newest metadata object of the boot: with the predecessor that each name tells, a reader can see that none is
//!    gone. The head is the one object that is overwritten; whichever of its puts comes last, it names an object that was
//!    durable. Then the facts. The next generation is committed meanwhile.
//! 5. **Free** the spool.
//!
//! A generation without any block writes no object, but for its marks: an idle store must not fill the storage with
//! empty metadata, and there is nothing else whose durability its facts would have to wait for. It keeps its place in
//! the order all the same: its facts are published after every earlier generation was.
//!
//! Small metadata objects are merged into fewer larger ones in the background, if somebody polls [`Merging`].
//!
//! # Failures
//! What waiting can repair is retried for ever, with backoff (I7), and told by [`FlushEvent::Retrying`];
//! it is never reported as success. [`FlushConfig::judge`] says what an error asks for: where a storage asks for
//! fewer requests, all of the flusher wait together, as long as it says. A put whose answer was lost is repeated; if
//! the object is there, its content decides. A block that cannot be read back, or an object of a planned name with
//! other bytes, poisons the generation: it and all later ones are discarded, and the flusher takes no more (§15.12);
//! earlier ones go on.

mod blocking;
mod commit;
mod compare;
mod config;
mod error;
mod event;
mod flusher;
mod gate;
mod generation;
mod in_flight;
mod merge;
mod pace;
mod pieces;
mod plan;
mod publish;
mod retry;
mod setback;
mod state;
mod upload;

pub use blocking::Blocking;
pub use config::FlushConfig;
pub use error::FlushError;
pub use event::{FlushEvent, Flushed, ObjectKind, StageTimes};
pub use flusher::{Drained, Flusher};
pub use generation::SealedGeneration;
pub use merge::{Committed, Exclusive, History, MergeDone, MergeError, Merging, NotExclusive, Run};
pub use setback::{Judge, Setback};
