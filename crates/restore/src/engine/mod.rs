//! All that touches RocksDB: SST files, the new data directory, reading a data directory.

mod directory;
mod dump;
mod options;
mod sst;
mod staging;

pub use directory::{MARKER_FILE, Marker, RocksDir};
pub use dump::dump;
pub use sst::{SstPart, Ssts};

/// First byte of every data key on disk.
const DATA_PREFIX: u8 = b'z';

/// The column families of a restored directory; what a node keeps beside them (raft log) is its own.
const CFS: [logtide_model::Cf; 3] = [logtide_model::Cf::Default, logtide_model::Cf::Lock, logtide_model::Cf::Write];
