//! bytes <-> model: event records, protobuf metadata, object names, checksums, compression, encryption.
