//! How transactions end, and why parts of them stop.

use logtide_mock_raftstore::rpc::KeyError;
use logtide_model::Ts;

/// What a client knows of its transaction in the end. Only what is certain is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed at `commit_ts`, though locks of it may be left.
    Committed {
        /// The transaction.
        start_ts: Ts,
        /// Where its writes are visible.
        commit_ts: Ts,
    },
    /// It is not committed, and never will be.
    RolledBack {
        /// The transaction.
        start_ts: Ts,
    },
    /// It may be committed, now or later, or not: an answer was lost.
    Undetermined {
        /// The transaction.
        start_ts: Ts,
    },
    /// It was abandoned on purpose before it was decided. Nobody commits it any more.
    Left {
        /// The transaction.
        start_ts: Ts,
    },
    /// The client's patience was over before the transaction could be committed: it never will be. Locks may be left.
    GaveUp {
        /// What it was about, and the last error.
        why: String,
    },
}

/// Why a part of a transaction did not come to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// Too many attempts.
    GaveUp(String),
    /// A lock of another transaction did not go away.
    Blocked(String),
    /// The cluster says that the transaction cannot be committed any more.
    Ended(KeyError),
    /// The cluster says that it is committed.
    Committed(Ts),
    /// The cluster answered what it must not; noted in [`super::SimClient::violations`].
    Unexpected(String),
}

impl Stop {
    pub(super) fn why(&self) -> String {
        match self {
            Stop::GaveUp(why) | Stop::Blocked(why) | Stop::Unexpected(why) => why.clone(),
            Stop::Ended(cause) => cause.to_string(),
            Stop::Committed(ts) => format!("committed at {ts}"),
        }
    }
}
