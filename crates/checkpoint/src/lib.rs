//! Sans-IO state machines: what may be said about progress, and when.
//!
//! * [`LockTracker`]: the locks of a region that hold its resolved timestamp back.
//! * [`Subscription`]: one task's view of one region; decides what a seal marker may state (I2, I3).
//! * [`Generations`]: sealed generations in flight; committed and published strictly in order (I1).
//! * [`Cover`]: facts about key ranges, merged by maximum, and the global checkpoint over them (I4).
//! * [`Backoff`]: how long to wait before trying again.
//!
//! Nothing here has a clock, a thread, randomness or IO; every input is an argument, and equal inputs give equal
//! outputs. A type that can be misused by calling it in another order refuses or falls back to saying nothing.

mod backoff;
mod cover;
mod generations;
mod lock_op;
mod lock_queue;
mod lock_tracker;
mod subscription;

pub use backoff::Backoff;
pub use cover::Cover;
pub use generations::{Commit, Discarded, Generations, Publish, SealRefused, Uploading};
pub use lock_op::LockOp;
pub use lock_tracker::LockTracker;
pub use subscription::{Phase, Rescan, Silence, Statement, Subscription};
