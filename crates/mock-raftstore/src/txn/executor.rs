//! From a command to a plan.

use logtide_model::{HostError, KvSnapshot};

use super::changes::{Changes, UserKey};
use super::import::{delete_range, ingest};
use super::pessimistic::{Acquire, acquire, release};
use super::read::{View, get, scan};
use super::reader::{Fail, MvccReader};
use super::status::{blocks, check_secondary_locks, check_txn_status, resolve_lock};
use super::{commit::commit, prewrite::prewrite, rollback::rollback};
use crate::concurrency::ConcurrencyManager;
use crate::rpc::{Command, KeyError, KvResponse, Plan, TxnExecutor};

/// The [`TxnExecutor`] of this crate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Percolator;

impl TxnExecutor for Percolator {
    fn prepare(&self, command: &Command, concurrency: &ConcurrencyManager) -> Result<(), KvResponse> {
        let lock = match command {
            Command::Get { key, ts, bypass } => {
                concurrency.bump_max_ts(*ts);
                concurrency.lock_of(key).filter(|lock| blocks(lock, *ts, bypass))
            }
            Command::Scan { start, end, ts, bypass, .. } => {
                concurrency.bump_max_ts(*ts);
                concurrency.find_lock(start, end, |lock| blocks(lock, *ts, bypass))
            }
            other => {
                announce(other, concurrency);
                None
            }
        };
        lock.map_or(Ok(()), |lock| Err(KvResponse::Errors(vec![KeyError::Locked(lock)])))
    }

    fn execute(
        &self,
        command: &Command,
        snapshot: &dyn KvSnapshot,
        concurrency: &ConcurrencyManager,
    ) -> Result<Plan, HostError> {
        match run(command, MvccReader { snapshot }, concurrency) {
            Ok((Changes { ops, guards, files, range_deleted }, response)) => {
                Ok(Plan { ops, files, response, range_deleted, guards })
            }
            Err(Fail::Keys(errors)) => {
                let (ops, files, guards) = (Vec::new(), Vec::new(), Vec::new());
                Ok(Plan { ops, files, response: KvResponse::Errors(errors), range_deleted: None, guards })
            }
            Err(Fail::Host(error)) => Err(error),
        }
    }
}

/// A commit that chooses its own ts may not choose one at which a rollback is being recorded, nor one that a
/// transaction was pushed above.
fn announce(command: &Command, concurrency: &ConcurrencyManager) {
    match command {
        Command::Rollback { start_ts, .. }
        | Command::CheckSecondaryLocks { start_ts, .. }
        | Command::ResolveLock { start_ts, commit_ts: None, .. } => concurrency.bump_max_ts(*start_ts),
        Command::CheckTxnStatus(ask) => {
            for ts in [ask.start_ts, ask.caller_start_ts, ask.current_ts] {
                concurrency.bump_max_ts(ts);
            }
        }
        _ => {}
    }
}

fn run(
    command: &Command,
    reader: MvccReader<'_>,
    concurrency: &ConcurrencyManager,
) -> Result<(Changes, KvResponse), Fail> {
    let mut changes = Changes::default();
    let out = &mut changes;
    let response = match command {
        Command::Prewrite(request) => return prewrite(request, reader.snapshot, concurrency),
        Command::Ingest { pairs, start_ts, min_commit_ts } => {
            return ingest(pairs, *start_ts, *min_commit_ts, reader.snapshot, concurrency);
        }
        Command::DeleteRange { cfs, start, end } => {
            delete_range(cfs, start, end, reader.snapshot, concurrency, out)?;
            KvResponse::Done
        }
        Command::Commit { keys, start_ts, commit_ts } => {
            let mut at = *commit_ts;
            for key in keys {
                at = commit(reader, out, &UserKey::new(key), *start_ts, *commit_ts)?;
            }
            KvResponse::Commit { commit_ts: at }
        }
        Command::Rollback { keys, start_ts } => {
            keys.iter().try_for_each(|key| rollback(reader, out, &UserKey::new(key), *start_ts))?;
            KvResponse::Done
        }
        Command::PessimisticLock { keys, primary, start_ts, for_update_ts, ttl } => {
            let by = Acquire { primary, start_ts: *start_ts, for_update_ts: *for_update_ts, ttl: *ttl };
            let values = keys.iter().map(|key| acquire(reader, out, &UserKey::new(key), &by));
            KvResponse::PessimisticLock { values: values.collect::<Result<_, _>>()? }
        }
        Command::PessimisticRollback { keys, start_ts, for_update_ts } => {
            keys.iter().try_for_each(|key| release(reader, out, &UserKey::new(key), *start_ts, *for_update_ts))?;
            KvResponse::Done
        }
        Command::CheckTxnStatus(ask) => KvResponse::TxnStatus(check_txn_status(reader, out, ask)?),
        Command::CheckSecondaryLocks { keys, start_ts } => {
            KvResponse::SecondaryLocks(check_secondary_locks(reader, out, keys, *start_ts)?)
        }
        Command::ResolveLock { start_ts, commit_ts, keys } => {
            resolve_lock(reader, out, *start_ts, *commit_ts, keys)?;
            KvResponse::Done
        }
        Command::Get { key, ts, bypass } => KvResponse::Get { value: get(reader, key, View { ts: *ts, bypass })? },
        Command::Scan { start, end, limit, ts, bypass } => {
            let (pairs, more) = scan(reader, start, end, *limit, View { ts: *ts, bypass })?;
            KvResponse::Scan { pairs, more }
        }
    };
    Ok((changes, response))
}
