//! External sorting within a memory budget: buffers, spilled runs, merging.

mod buffer;
mod merge;
mod record;
mod run;
mod runs;
mod sorter;

pub(crate) use merge::{Cursor, Merge};
pub(crate) use record::len as record_len;
pub(crate) use runs::{RunSet, Runs};
pub(crate) use sorter::Sorter;
