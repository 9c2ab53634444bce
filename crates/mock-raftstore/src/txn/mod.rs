//! Percolator over a column-family snapshot: commands in, changes out.
//!
//! Owns: what each [`crate::rpc::Command`] means for the records of the column families default, lock and write, after
//! TiKV's rules and in its encodings.
//! Does not own: snapshots, latches' queueing discipline in time, raft. Nothing here waits, reads a clock or draws a
//! random number; the only state is the [`crate::concurrency::ConcurrencyManager`] that is passed in.
//!
//! Where it differs from TiKV: a rollback that meets another transaction's commit record of the same ts always marks
//! that record (TiKV skips unprotected ones); there is no deadlock detector, no pipelined or in-memory pessimistic
//! lock, and no large-transaction flush.

mod changes;
mod commit;
mod executor;
mod import;
mod latches;
mod pessimistic;
mod prewrite;
mod read;
mod reader;
mod rollback;
mod status;

pub use executor::Percolator;
pub use latches::Latches;

#[cfg(test)]
pub(crate) mod tests;
