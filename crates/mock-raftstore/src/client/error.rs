//! How a client's work can end without success.

use logtide_model::{Class, Diagnose, ErrorCode, Ts};
use thiserror::Error;

use crate::rpc::KeyError;

/// How a client's work can end without success.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The transaction is not committed, and never will be: begin it anew.
    #[error("transaction {start_ts} is rolled back: {cause}")]
    RolledBack {
        /// The transaction.
        start_ts: Ts,
        /// Why.
        cause: KeyError,
    },
    /// The transaction may be committed, now or later, or not: the answer was lost and the retry hook gave up.
    #[error("whether transaction {start_ts} is committed is not known: {cause}")]
    Undetermined {
        /// The transaction.
        start_ts: Ts,
        /// What happened last.
        cause: String,
    },
    /// The retry hook gave up. A transaction that was to commit is not committed.
    #[error("gave up to {what} after {attempts} attempts: {cause}")]
    GaveUp {
        /// What was tried.
        what: &'static str,
        /// How often.
        attempts: u32,
        /// What happened last.
        cause: String,
    },
    /// The cluster answered what it must not.
    #[error("unexpected answer to {what}: {answer}")]
    Unexpected {
        /// What was asked.
        what: &'static str,
        /// The answer.
        answer: String,
    },
}

impl ClientError {
    pub(crate) fn unexpected(what: &'static str, answer: &impl std::fmt::Debug) -> Self {
        ClientError::Unexpected { what, answer: format!("{answer:?}") }
    }
}

impl Diagnose for ClientError {
    fn code(&self) -> ErrorCode {
        match self {
            ClientError::Unexpected { .. } => ErrorCode::Unknown,
            _ => ErrorCode::RaftReq,
        }
    }

    fn class(&self) -> Class {
        match self {
            ClientError::Unexpected { .. } => Class::Fatal,
            _ => Class::Retry,
        }
    }
}
