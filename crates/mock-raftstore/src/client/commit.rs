//! The two phases of a commit, and the shorter ways: async commit and 1PC.

mod first_phase;

use logtide_model::Ts;

pub(crate) use first_phase::prewrite;

use super::retry::RetryReason;
use super::{Client, ClientError};
use crate::rpc::{Command, KeyError, KvResponse};

/// Where a commit says that the transaction committed, or that it needs a later ts.
fn committed(response: KvResponse, start_ts: Ts) -> Result<Result<Ts, KeyError>, ClientError> {
    match response {
        KvResponse::Commit { commit_ts } => Ok(Ok(commit_ts)),
        KvResponse::Errors(errors) => match errors.into_iter().next() {
            Some(expired @ KeyError::CommitTsExpired { .. }) => Ok(Err(expired)),
            Some(cause) => Err(ClientError::RolledBack { start_ts, cause }),
            None => Err(ClientError::unexpected("a commit", &"an error without cause")),
        },
        other => Err(ClientError::unexpected("a commit", &other)),
    }
}

/// A transaction whose keys are prewritten. Dropping it leaves its locks to those who meet them.
#[derive(Debug)]
pub struct Prewritten {
    client: Client,
    start_ts: Ts,
    /// The primary first.
    keys: Vec<Vec<u8>>,
    batch_bytes: usize,
    /// Where it is committed, if it is.
    decided: Option<Ts>,
    /// The keys have commit records already (1PC).
    finished: bool,
}

impl Prewritten {
    /// The transaction.
    pub fn start_ts(&self) -> Ts {
        self.start_ts
    }

    /// The raw key that decides it.
    pub fn primary(&self) -> &[u8] {
        self.keys.first().map_or(&[], |key| key)
    }

    /// Its raw keys, the primary first.
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    /// Where it is committed, if that is decided already (1PC, async commit, or its primary is committed).
    pub fn decided(&self) -> Option<Ts> {
        self.decided
    }

    /// Commits all keys.
    ///
    /// # Errors
    /// As [`Txn::commit`](super::Txn::commit).
    pub fn commit(mut self) -> Result<Ts, ClientError> {
        let commit_ts = match self.decided {
            Some(ts) => ts,
            None => self.commit_primary()?,
        };
        if !self.finished {
            self.commit_rest(commit_ts);
        }
        Ok(commit_ts)
    }

    /// Commits the primary (and what goes with it in one command) and leaves the rest, as a client that dies then.
    ///
    /// # Errors
    /// As [`Txn::commit`](super::Txn::commit).
    pub fn commit_primary(&mut self) -> Result<Ts, ClientError> {
        if let Some(ts) = self.decided {
            return Ok(ts);
        }
        let (client, start_ts) = (self.client.clone(), self.start_ts);
        let mut attempts = client.retry("commit");
        let mut commit_ts = client.timestamp()?;
        let mut lost = false;
        loop {
            let command = |keys| Command::Commit { keys, start_ts, commit_ts };
            let again = match client.call_first(self.keys.clone(), self.batch_bytes, command) {
                Some(Ok(response)) => match committed(response, start_ts)? {
                    Ok(ts) => {
                        self.decided = Some(ts);
                        return Ok(ts);
                    }
                    Err(expired) => {
                        commit_ts = client.timestamp()?;
                        attempts.again(RetryReason::Key(&expired))
                    }
                },
                Some(Err(error)) => {
                    lost |= error.is_undetermined();
                    attempts.again(RetryReason::Region(&error))
                }
                None => return Ok(start_ts),
            };
            match again {
                Err(error) if lost => return Err(ClientError::Undetermined { start_ts, cause: error.to_string() }),
                outcome => outcome?,
            }
        }
    }

    /// Commits the other keys. It is decided, so what fails here is left to those who meet the locks.
    fn commit_rest(&self, commit_ts: Ts) {
        let start_ts = self.start_ts;
        let outcome = self.client.each_group(
            &mut self.client.retry("commit the rest"),
            self.keys.clone(),
            self.batch_bytes,
            &mut |keys| Command::Commit { keys: keys.to_vec(), start_ts, commit_ts },
            &mut |_, response| match response {
                KvResponse::Commit { .. } => Ok(Vec::new()),
                other => Err(ClientError::unexpected("a commit of secondaries", &other)),
            },
        );
        if let Err(error) = outcome {
            tracing::debug!(%error, start_ts = start_ts.get(), "left locks of a committed transaction");
        }
    }

    /// Takes it back.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] if it is committed; [`ClientError::GaveUp`].
    pub fn rollback(self) -> Result<(), ClientError> {
        match self.decided {
            Some(ts) => Err(ClientError::unexpected("a rollback", &format_args!("committed at {ts}"))),
            None => self.roll_back(),
        }
    }

    fn roll_back(&self) -> Result<(), ClientError> {
        let start_ts = self.start_ts;
        self.client.each_group(
            &mut self.client.retry("roll back"),
            self.keys.clone(),
            self.batch_bytes,
            &mut |keys| Command::Rollback { keys: keys.to_vec(), start_ts },
            &mut |_, response| match response {
                KvResponse::Done => Ok(Vec::new()),
                other => Err(ClientError::unexpected("a rollback", &other)),
            },
        )
    }
}
