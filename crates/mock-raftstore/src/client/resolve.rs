//! Ends the transactions of others whose locks are in the way.

use logtide_model::Ts;

use super::retry::Attempts;
use super::{Client, ClientError};
use crate::rpc::{CheckTxnStatus, Command, KeyError, KvResponse, LockInfo, SecondaryStatus, TxnStatus};

/// Bytes of keys in one command.
const RESOLVE_BYTES: usize = 64 << 10;

/// What became of a lock that was in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// It is gone.
    Gone,
    /// Its transaction will commit above the reader, who may pass.
    Pass,
    /// Its transaction is under way.
    Wait,
}

/// What became of an async-commit transaction.
enum Decision {
    Committed(Ts),
    RolledBack,
    /// One of its locks says that it commits in two phases after all.
    FellBack,
}

impl Client {
    /// Tries to get a lock out of the way of a reader at `reader_ts` (zero: of a writer).
    pub(crate) fn resolve(&self, lock: &LockInfo, reader_ts: Ts) -> Result<Resolved, ClientError> {
        let mut attempts = self.retry("resolve a lock");
        let current_ts = self.timestamp()?;
        let expired = |lock: &LockInfo| lock.start_ts.physical_ms().saturating_add(lock.ttl) < current_ts.physical_ms();
        let mut ask = CheckTxnStatus {
            primary: lock.primary.clone(),
            start_ts: lock.start_ts,
            caller_start_ts: reader_ts,
            current_ts,
            // Before its time is over, the primary may just not have been locked yet.
            rollback_if_missing: expired(lock),
            force_sync_commit: false,
        };
        match self.ask(&mut attempts, &ask)? {
            Some(TxnStatus::Locked { lock: primary, pushed: false }) if primary.async_commit && expired(&primary) => {
                match self.decide(&mut attempts, &primary)? {
                    Decision::Committed(ts) => self.end_all(&mut attempts, &primary, Some(ts)),
                    Decision::RolledBack => self.end_all(&mut attempts, &primary, None),
                    Decision::FellBack => {
                        ask.force_sync_commit = true;
                        let status = self.ask(&mut attempts, &ask)?;
                        self.follow(&mut attempts, lock, status)
                    }
                }
            }
            status => self.follow(&mut attempts, lock, status),
        }
    }

    /// Does with a lock what its primary says.
    fn follow(
        &self,
        attempts: &mut Attempts<'_>,
        lock: &LockInfo,
        status: Option<TxnStatus>,
    ) -> Result<Resolved, ClientError> {
        let commit_ts = match status {
            Some(TxnStatus::Locked { pushed: true, .. }) => return Ok(Resolved::Pass),
            Some(TxnStatus::Locked { .. }) | None => return Ok(Resolved::Wait),
            Some(TxnStatus::Committed { commit_ts }) => Some(commit_ts),
            Some(TxnStatus::RolledBack) => None,
        };
        self.end(attempts, vec![lock.key.clone()], lock.start_ts, commit_ts)
    }

    /// What the primary says; `None` if it does not know the transaction (yet).
    fn ask(&self, attempts: &mut Attempts<'_>, ask: &CheckTxnStatus) -> Result<Option<TxnStatus>, ClientError> {
        let command = Command::CheckTxnStatus(ask.clone());
        match self.call_key(attempts, &ask.primary, &command)?.1 {
            KvResponse::TxnStatus(status) => Ok(Some(status)),
            KvResponse::Errors(errors) if matches!(errors[..], [KeyError::TxnNotFound { .. }]) => Ok(None),
            other => Err(ClientError::unexpected("a status check", &other)),
        }
    }

    /// Asks the secondaries of an async-commit transaction what became of it.
    fn decide(&self, attempts: &mut Attempts<'_>, primary: &LockInfo) -> Result<Decision, ClientError> {
        let start_ts = primary.start_ts;
        let mut decision = Decision::Committed(primary.min_commit_ts);
        let mut decided = false;
        self.each_group(
            attempts,
            primary.secondaries.clone(),
            RESOLVE_BYTES,
            &mut |keys| Command::CheckSecondaryLocks { keys: keys.to_vec(), start_ts },
            &mut |_, response| {
                match response {
                    KvResponse::SecondaryLocks(_) if decided => {}
                    KvResponse::SecondaryLocks(SecondaryStatus::Committed { commit_ts }) => {
                        (decision, decided) = (Decision::Committed(commit_ts), true);
                    }
                    KvResponse::SecondaryLocks(SecondaryStatus::RolledBack) => {
                        (decision, decided) = (Decision::RolledBack, true);
                    }
                    KvResponse::SecondaryLocks(SecondaryStatus::Locked(locks)) => {
                        for lock in locks {
                            decision = match decision {
                                Decision::Committed(ts) if lock.async_commit => {
                                    Decision::Committed(ts.max(lock.min_commit_ts))
                                }
                                _ => Decision::FellBack,
                            };
                        }
                    }
                    other => return Err(ClientError::unexpected("a check of secondary locks", &other)),
                }
                Ok(Vec::new())
            },
        )?;
        Ok(decision)
    }

    /// Ends an async-commit transaction on all its keys.
    fn end_all(
        &self,
        attempts: &mut Attempts<'_>,
        primary: &LockInfo,
        commit_ts: Option<Ts>,
    ) -> Result<Resolved, ClientError> {
        let mut keys = vec![primary.primary.clone()];
        keys.extend(primary.secondaries.iter().cloned());
        self.end(attempts, keys, primary.start_ts, commit_ts)
    }

    fn end(
        &self,
        attempts: &mut Attempts<'_>,
        keys: Vec<Vec<u8>>,
        start_ts: Ts,
        commit_ts: Option<Ts>,
    ) -> Result<Resolved, ClientError> {
        self.each_group(
            attempts,
            keys,
            RESOLVE_BYTES,
            &mut |keys| Command::ResolveLock { start_ts, commit_ts, keys: keys.to_vec() },
            &mut |_, response| match response {
                KvResponse::Done => Ok(Vec::new()),
                other => Err(ClientError::unexpected("the resolution of locks", &other)),
            },
        )?;
        Ok(Resolved::Gone)
    }
}
