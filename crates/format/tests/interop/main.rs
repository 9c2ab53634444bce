//! Backups that TiKV's own code wrote (`tests/data/interop/README.txt`): logtide reads all six, and writes the same.
#![allow(clippy::unwrap_used, clippy::panic)]

mod backup;
mod read;
mod write;
