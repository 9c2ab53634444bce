//! MVCC records as TiKV stores them in the column families write and lock.

mod lock;
mod write;

pub use lock::{Lock, LockKind};
pub use write::{LastChange, Write, WriteKind};
