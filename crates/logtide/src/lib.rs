//! Continuous log backup and point-in-time recovery for Raft + RocksDB storage nodes: the façade.
