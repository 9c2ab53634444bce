//! Tasks, errors, checkpoints and safepoints in a shared store, and the advancer of the global checkpoint.
//!
//! [`Store`] is what nodes and the command share; [`Tasks`] and the other types give its keys their meaning. The keys and values
//! of tasks, pauses, errors and the global checkpoint are TiDB's (`/tidb/br-stream/…`), so that its tools see our
//! tasks; facts, covers and status records are ours (`/logtide/v1/…`).

mod directory;
pub mod store;

pub use directory::DirectoryStore;
pub use store::{MemoryStore, Store, StoreError};
