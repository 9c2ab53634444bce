//! The times and limits by which a peer lives, and what raft is told of them.

use raft::Config;

/// Largest raft message in bytes of entries, and the most that is applied in one go.
const MAX_BATCH: u64 = 8 << 20;

/// Times of raft in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RaftTiming {
    /// Ticks between heartbeats.
    pub(crate) heartbeat: usize,
    /// Ticks without a heartbeat after which a follower may campaign, at the least.
    pub(crate) election: usize,
    /// `Some(n)`: campaign after exactly `election + n` ticks, so that nothing is drawn at random.
    pub(crate) fixed: Option<usize>,
}

/// How peers live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerConfig {
    /// When raft does what by itself.
    pub(crate) timing: RaftTiming,
    /// Applied entries that stay in the log; a log with twice as many is truncated.
    pub(crate) log_keep: u64,
}

pub(super) fn config(id: u64, applied: u64, timing: &RaftTiming) -> Config {
    let (min, max) = match timing.fixed {
        // Raft draws from [min, max): one apart leaves nothing to draw.
        Some(n) => (timing.election + n, timing.election + n + 1),
        None => (timing.election, 2 * timing.election),
    };
    Config {
        id,
        applied,
        election_tick: timing.election,
        heartbeat_tick: timing.heartbeat,
        min_election_tick: min,
        max_election_tick: max,
        max_size_per_msg: MAX_BATCH,
        max_committed_size_per_ready: MAX_BATCH,
        max_inflight_msgs: 256,
        check_quorum: true,
        pre_vote: true,
        // raft 0.7 adds entries to a queued append without looking where that begins, if it has none so far; the
        // follower then acknowledges indexes that do not exist.
        batch_append: false,
        ..Config::default()
    }
}
