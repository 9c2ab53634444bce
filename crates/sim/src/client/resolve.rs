//! Ends the transactions of others whose locks are in the way.

use logtide_mock_raftstore::rpc::{
    CheckTxnStatus, Command, KeyError, KvResponse, LockInfo, RegionError, SecondaryStatus, TxnStatus,
};
use logtide_model::Ts;

use super::route::Tries;
use super::{SimClient, Stop};

/// Keys of one command.
const RESOLVE_KEYS: usize = 64;

/// What became of a lock that was in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// It is gone: its transaction is ended on so many keys.
    Gone(usize),
    /// Its transaction will commit above the reader, who may pass.
    Pass,
    /// Its transaction is under way, or what became of it cannot be learned now.
    Wait,
}

/// What became of an async-commit transaction.
enum Decision {
    Committed(Ts),
    RolledBack,
    /// One of its locks says that it commits in two phases after all.
    FellBack,
}

/// Locks of one transaction that are to go.
pub(super) struct Lost {
    pub(super) primary: Vec<u8>,
    pub(super) start_ts: Ts,
    pub(super) ttl_ms: u64,
    pub(super) keys: Vec<Vec<u8>>,
}

impl Lost {
    pub(super) fn of(lock: &LockInfo) -> Self {
        let (primary, keys) = (lock.primary.clone(), vec![lock.key.clone()]);
        Lost { primary, start_ts: lock.start_ts, ttl_ms: lock.ttl, keys }
    }
}

fn expired(start_ts: Ts, ttl_ms: u64, now: Ts) -> bool {
    start_ts.physical_ms().saturating_add(ttl_ms) < now.physical_ms()
}

impl SimClient {
    /// Tries to get locks of one transaction out of the way of a reader at `reader_ts` (zero: of a writer). A cluster
    /// that cannot be asked just now is no reason to stop for whoever met them.
    pub(super) async fn resolve(&self, lost: &Lost, reader_ts: Ts) -> Result<Resolved, Stop> {
        match self.try_resolve(lost, reader_ts).await {
            Err(Stop::GaveUp(_)) => Ok(Resolved::Wait),
            outcome => outcome,
        }
    }

    async fn try_resolve(&self, lost: &Lost, reader_ts: Ts) -> Result<Resolved, Stop> {
        let mut tries = Tries::new(self, "resolve a lock");
        let current_ts = self.timestamp().await?;
        let mut ask = CheckTxnStatus {
            primary: lost.primary.clone(),
            start_ts: lost.start_ts,
            caller_start_ts: reader_ts,
            current_ts,
            // Before its time is over, the primary may just not have been locked yet.
            rollback_if_missing: expired(lost.start_ts, lost.ttl_ms, current_ts),
            force_sync_commit: false,
        };
        let mut status = self.ask(&mut tries, &ask).await?;
        if let Some(TxnStatus::Locked { lock: primary, pushed: false }) = &status
            && primary.async_commit
            && expired(primary.start_ts, primary.ttl, current_ts)
        {
            let end = match self.decide(&mut tries, primary).await? {
                Decision::Committed(ts) => Some(Some(ts)),
                Decision::RolledBack => Some(None),
                Decision::FellBack => None,
            };
            if let Some(commit_ts) = end {
                let mut keys = vec![primary.primary.clone()];
                keys.extend(primary.secondaries.iter().cloned());
                return self.end(&mut tries, &keys, lost.start_ts, commit_ts).await;
            }
            ask.force_sync_commit = true;
            status = self.ask(&mut tries, &ask).await?;
        }
        match status {
            Some(TxnStatus::Locked { pushed: true, .. }) => Ok(Resolved::Pass),
            Some(TxnStatus::Locked { .. }) | None => Ok(Resolved::Wait),
            Some(TxnStatus::Committed { commit_ts }) => {
                self.end(&mut tries, &lost.keys, lost.start_ts, Some(commit_ts)).await
            }
            Some(TxnStatus::RolledBack) => self.end(&mut tries, &lost.keys, lost.start_ts, None).await,
        }
    }

    /// What the primary says; `None` if it does not know the transaction (yet).
    async fn ask(&self, tries: &mut Tries, ask: &CheckTxnStatus) -> Result<Option<TxnStatus>, Stop> {
        match self.call_key(tries, &ask.primary, &Command::CheckTxnStatus(ask.clone())).await?.1 {
            KvResponse::TxnStatus(status) => Ok(Some(status)),
            KvResponse::Errors(errors) if matches!(errors[..], [KeyError::TxnNotFound { .. }]) => Ok(None),
            other => Err(self.unexpected("a status check", &other)),
        }
    }

    /// Asks the secondaries of an async-commit transaction what became of it.
    async fn decide(&self, tries: &mut Tries, primary: &LockInfo) -> Result<Decision, Stop> {
        let start_ts = primary.start_ts;
        let mut decision = Decision::Committed(primary.min_commit_ts);
        let mut certain = false;
        let command = |keys| Command::CheckSecondaryLocks { keys, start_ts };
        let keys = &primary.secondaries[..];
        let see = |response| {
            match response {
                KvResponse::SecondaryLocks(_) if certain => {}
                KvResponse::SecondaryLocks(SecondaryStatus::Committed { commit_ts }) => {
                    (decision, certain) = (Decision::Committed(commit_ts), true);
                }
                KvResponse::SecondaryLocks(SecondaryStatus::RolledBack) => {
                    (decision, certain) = (Decision::RolledBack, true);
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
                other => return Err(self.unexpected("a check of secondary locks", &other)),
            }
            Ok(())
        };
        self.each_group(tries, keys, RESOLVE_KEYS, command, see).await?;
        Ok(decision)
    }

    async fn end(
        &self,
        tries: &mut Tries,
        keys: &[Vec<u8>],
        start_ts: Ts,
        commit_ts: Option<Ts>,
    ) -> Result<Resolved, Stop> {
        let command = |keys| Command::ResolveLock { start_ts, commit_ts, keys };
        let done = |response| match response {
            KvResponse::Done => Ok(()),
            other => Err(self.unexpected("the resolution of locks", &other)),
        };
        self.each_group(tries, keys, RESOLVE_KEYS, command, done).await?;
        self.0.ledger.borrow_mut().resolved(start_ts, keys);
        Ok(Resolved::Gone(keys.len()))
    }

    /// Gets the lock out of a writer's way that an error tells of; any other error ends the transaction.
    ///
    /// # Errors
    /// [`Stop::Blocked`] if the lock stays, and the number of attempts is up.
    pub(super) async fn make_way(&self, waits: &mut Tries, error: KeyError) -> Result<(), Stop> {
        match error {
            KeyError::Locked(lock) => match self.resolve(&Lost::of(&lock), Ts::ZERO).await? {
                Resolved::Gone(_) => Ok(()),
                Resolved::Pass | Resolved::Wait => match waits.again(&KeyError::Locked(lock)).await {
                    Err(stop) => Err(Stop::Blocked(stop.why())),
                    ok => ok,
                },
            },
            KeyError::Committed { commit_ts, .. } => Err(Stop::Committed(commit_ts)),
            cause @ (KeyError::Corrupt { .. } | KeyError::LockMismatch { .. }) => {
                Err(self.unexpected("a write", &cause))
            }
            cause => Err(Stop::Ended(cause)),
        }
    }
}

/// True if it is certain that the command did nothing, and will not.
pub(super) fn nothing_done(error: &RegionError) -> bool {
    !error.is_undetermined()
}
