//! The MVCC delta of a region from a snapshot, rate limited by bytes read.
//!
//! Owns: what of a snapshot belongs to a backup that continues from a checkpoint ([`Scanner::scan`]), or of a raft log
//! that still has all of it ([`Scanner::catch_up`]), how fast it is read ([`RateLimiter`]) and how much of it is in
//! memory at once.
//! Also the order in which scans have their turn ([`ScanSchedule`]).
//! Does not own: threads, snapshots, the length of a backoff. The caller takes a snapshot, runs the scan on a thread of its own, and
//! forwards the events.
//!
//! Everything here is a function of its inputs: the clock and the waiting come in through [`Waiter`], which
//! [`Cancel`] implements for real.

mod batch;
mod cursor;
mod delta;
mod error;
mod limiter;
mod meter;
mod replay;
mod scan;
mod schedule;
mod wait;

pub use error::ScanError;
pub use limiter::RateLimiter;
pub use meter::{ReadCounter, ThreadIo};
pub use replay::LogReader;
pub use scan::{ScanReport, Scanner, Source};
pub use schedule::{ScanSchedule, ScheduleCounts};
pub use wait::{Cancel, Waiter};

#[cfg(test)]
mod tests;
