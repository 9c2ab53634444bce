//! Tests of the client against a cluster that misbehaves on demand.

mod cluster;
mod outcomes;
mod transactions;
