//! Tests of the transaction layer, on a store that applies what it is told.

mod async_commit;
mod commands;
mod random;
mod reads;
mod rollbacks;
pub(crate) mod store;
