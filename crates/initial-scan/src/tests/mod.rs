//! Tests of whole scans over a snapshot in memory.

mod flow;
mod oracle;
mod replay;
mod schedule;
mod store;
