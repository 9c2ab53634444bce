//! The MVCC delta of a region from a snapshot, rate limited by bytes read.
