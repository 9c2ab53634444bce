//! The second phase of a commit, and rollbacks.

use logtide_mock_raftstore::rpc::{Command, KeyError, KvResponse};
use logtide_model::Ts;

use super::resolve::nothing_done;
use super::route::Tries;
use super::txn::Txn;
use super::{SimClient, Stop};

/// What became of the commit of a primary.
pub(super) enum Decided {
    At(Ts),
    /// It is not committed, and will not be.
    Not(Stop),
    /// An answer was lost, and there was no other.
    Unknown,
}

impl Txn {
    /// Commits the primary, and with it at most `limit` keys in one command.
    pub(super) async fn commit_primary(&self, limit: usize) -> Decided {
        let mut lost = false;
        match self.try_commit_primary(limit, &mut lost).await {
            Ok(ts) | Err(Stop::Committed(ts)) => Decided::At(ts),
            Err(Stop::GaveUp(_)) if lost => Decided::Unknown,
            Err(stop) => Decided::Not(stop),
        }
    }

    async fn try_commit_primary(&self, limit: usize, lost: &mut bool) -> Result<Ts, Stop> {
        let (client, start_ts) = (&self.client, self.start_ts);
        let mut tries = Tries::new(client, "commit");
        let mut commit_ts = client.timestamp().await?;
        let keys = self.keys_primary_first();
        loop {
            let Some((target, n)) = client.group(&keys, limit) else { return Ok(start_ts) };
            let command = Command::Commit { keys: keys[..n].to_vec(), start_ts, commit_ts };
            match client.call(&target, command).await {
                Ok(response) => match committed(client, response)? {
                    Ok(ts) => return Ok(ts),
                    Err(expired) => {
                        tries.again(&expired).await?;
                        commit_ts = client.timestamp().await?;
                    }
                },
                Err(error) => {
                    *lost |= !nothing_done(&error);
                    tries.again(&error).await?;
                }
            }
        }
    }

    /// Commits all keys of a decided transaction. What fails here is left to those who meet the locks.
    pub(super) async fn commit_rest(&self, commit_ts: Ts) {
        let (client, start_ts) = (&self.client, self.start_ts);
        let command = |keys| Command::Commit { keys, start_ts, commit_ts };
        let done = |response| match response {
            KvResponse::Commit { .. } => Ok(()),
            other => Err(client.unexpected("a commit of secondaries", &other)),
        };
        let mut tries = Tries::new(client, "commit the rest");
        let keys = self.keys_primary_first();
        if client.each_group(&mut tries, &keys, self.plan.batch, command, done).await.is_ok() {
            self.without_locks();
        }
    }

    /// Takes keys back, whatever is there of the transaction.
    pub(super) async fn roll_back(&self, keys: &[Vec<u8>]) -> Result<(), Stop> {
        let start_ts = self.start_ts;
        self.take_back(keys, |keys| Command::Rollback { keys, start_ts }).await
    }

    /// Gives pessimistic locks back.
    pub(super) async fn release(&self, keys: &[Vec<u8>]) -> Result<(), Stop> {
        let (start_ts, for_update_ts) = (self.start_ts, self.for_update_ts);
        self.take_back(keys, |keys| Command::PessimisticRollback { keys, start_ts, for_update_ts }).await
    }

    async fn take_back(&self, keys: &[Vec<u8>], command: impl Fn(Vec<Vec<u8>>) -> Command) -> Result<(), Stop> {
        let client = &self.client;
        let done = |response| match response {
            KvResponse::Done => Ok(()),
            other => Err(client.unexpected("a rollback", &other)),
        };
        client.each_group(&mut Tries::new(client, "roll back"), keys, self.plan.batch, command, done).await
    }
}

/// Where a commit says that the transaction committed, or that it needs a later ts.
fn committed(client: &SimClient, response: KvResponse) -> Result<Result<Ts, KeyError>, Stop> {
    match response {
        KvResponse::Commit { commit_ts } => Ok(Ok(commit_ts)),
        KvResponse::Errors(errors) => match errors.into_iter().next() {
            Some(expired @ KeyError::CommitTsExpired { .. }) => Ok(Err(expired)),
            Some(cause @ (KeyError::RolledBack { .. } | KeyError::LockNotFound { .. })) => Err(Stop::Ended(cause)),
            cause => Err(client.unexpected("a commit", &cause)),
        },
        other => Err(client.unexpected("a commit", &other)),
    }
}
