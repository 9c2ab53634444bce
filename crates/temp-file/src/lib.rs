//! The spool: append events, compress blocks, memory quota, spill, seal.
