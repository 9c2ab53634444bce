//! Reads at a timestamp.

use bytes::Bytes;
use logtide_model::{Ts, decode_raw_key};

use super::resolve::Resolved;
use super::retry::{Attempts, RetryReason};
use super::{Client, ClientError};
use crate::rpc::{Command, KeyError, KvResponse};

/// The cluster as it was (or will have been) at a timestamp. Locks of others in the way are resolved.
#[derive(Clone, Debug)]
pub struct Snapshot {
    client: Client,
    ts: Ts,
    /// Transactions that are known to commit above `ts`.
    bypass: Vec<Ts>,
}

impl Snapshot {
    pub(crate) fn new(client: Client, ts: Ts) -> Self {
        Snapshot { client, ts, bypass: Vec::new() }
    }

    /// As of when it reads.
    pub fn ts(&self) -> Ts {
        self.ts
    }

    /// The value of a raw key.
    ///
    /// # Errors
    /// [`ClientError::GaveUp`].
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, ClientError> {
        let client = self.client.clone();
        let mut attempts = client.retry("read a key");
        let mut waits = client.retry("read a locked key");
        loop {
            let command = Command::Get { key: key.to_vec(), ts: self.ts, bypass: self.bypass.clone() };
            match client.call_key(&mut attempts, key, &command)?.1 {
                KvResponse::Get { value } => return Ok(value),
                other => self.pass(&mut waits, other)?,
            }
        }
    }

    /// The pairs with raw keys in `[start, end)` (an empty end is +inf), ascending, at most `limit`.
    ///
    /// # Errors
    /// [`ClientError::GaveUp`].
    pub fn scan(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Bytes)>, ClientError> {
        let client = self.client.clone();
        let mut attempts = client.retry("scan");
        let mut waits = client.retry("scan locked keys");
        let mut found = Vec::new();
        let mut from = start.to_vec();
        while found.len() < limit && (end.is_empty() || &from[..] < end) {
            let command = Command::Scan {
                start: from.clone(),
                end: end.to_vec(),
                limit: limit - found.len(),
                ts: self.ts,
                bypass: self.bypass.clone(),
            };
            let (region, response) = client.call_key(&mut attempts, &from, &command)?;
            let KvResponse::Scan { pairs, more } = response else {
                self.pass(&mut waits, response)?;
                continue;
            };
            let last = pairs.last().map(|(key, _)| key.clone());
            found.extend(pairs);
            from = match last {
                Some(mut next) if more => {
                    next.push(0);
                    next
                }
                _ if region.range.end.is_empty() => break,
                _ => decode_raw_key(&region.range.end).map_err(|e| ClientError::unexpected("a scan", &e))?,
            };
        }
        Ok(found)
    }

    /// Gets the lock out of the way that an answer tells of.
    fn pass(&mut self, waits: &mut Attempts<'_>, response: KvResponse) -> Result<(), ClientError> {
        match response {
            KvResponse::Errors(errors) if matches!(errors[..], [KeyError::Locked(_)]) => {
                let [KeyError::Locked(lock)] = &errors[..] else { return Ok(()) };
                match self.client.resolve(lock, self.ts)? {
                    Resolved::Gone => {}
                    Resolved::Pass => self.bypass.push(lock.start_ts),
                    Resolved::Wait => waits.again(RetryReason::Locked(lock))?,
                }
                Ok(())
            }
            other => Err(ClientError::unexpected("a read", &other)),
        }
    }
}
