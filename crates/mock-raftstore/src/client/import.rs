//! What a client does past transactions: ingests sorted files, and removes ranges.

use std::collections::BTreeMap;

use bytes::Bytes;
use logtide_model::{Cf, Ts, decode_raw_key};

use super::route::Keyed;
use super::{Client, ClientError};
use crate::rpc::{Command, KeyError, KvResponse};

/// Bytes of one ingestion.
const INGEST_BYTES: usize = 64 << 20;

impl Keyed for (Vec<u8>, Bytes) {
    fn key(&self) -> &[u8] {
        &self.0
    }

    fn bytes(&self) -> usize {
        self.0.len() + self.1.len()
    }
}

impl Client {
    /// Ingests versions of keys, by sorted files: one command, and one commit ts, for the keys of each region (and each
    /// 1,024 of them); returns where each key was committed. What is ingested before an error stays.
    ///
    /// # Errors
    /// [`ClientError::RolledBack`] if somebody wrote one of the keys meanwhile; [`ClientError::GaveUp`]: whether the last
    /// part was ingested is not known then.
    pub fn ingest(&self, pairs: Vec<(Vec<u8>, Bytes)>) -> Result<BTreeMap<Vec<u8>, Ts>, ClientError> {
        let sorted: BTreeMap<Vec<u8>, Bytes> = pairs.into_iter().collect();
        let start_ts = self.timestamp()?;
        let min_commit_ts = self.timestamp()?;
        let mut waits = self.retry("ingest locked keys");
        let mut at = BTreeMap::new();
        self.each_group(
            &mut self.retry("ingest"),
            sorted.into_iter().collect(),
            INGEST_BYTES,
            &mut |pairs| Command::Ingest { pairs: pairs.to_vec(), start_ts, min_commit_ts },
            &mut |pairs, response| {
                let commit_ts = match response {
                    KvResponse::Commit { commit_ts } => commit_ts,
                    KvResponse::Errors(errors) => match done_before(&errors) {
                        Some(commit_ts) => commit_ts,
                        None => {
                            for error in errors {
                                self.make_way(&mut waits, error, start_ts)?;
                            }
                            return Ok(pairs);
                        }
                    },
                    other => return Err(ClientError::unexpected("an ingestion", &other)),
                };
                at.extend(pairs.into_iter().map(|(key, _)| (key, commit_ts)));
                Ok(Vec::new())
            },
        )?;
        Ok(at)
    }

    /// Removes all records of raw keys in `[start, end)` (an empty end is +inf) from some column families, at once and
    /// past MVCC, region by region.
    ///
    /// # Errors
    /// [`ClientError::GaveUp`]: the regions before are done.
    pub fn delete_range(&self, cfs: &[Cf], start: &[u8], end: &[u8]) -> Result<(), ClientError> {
        let mut attempts = self.retry("delete a range");
        let mut from = start.to_vec();
        while end.is_empty() || &from[..] < end {
            let command = Command::DeleteRange { cfs: cfs.to_vec(), start: from.clone(), end: end.to_vec() };
            let (region, response) = self.call_key(&mut attempts, &from, &command)?;
            if response != KvResponse::Done {
                return Err(ClientError::unexpected("a range delete", &response));
            }
            if region.range.end.is_empty() {
                break;
            }
            from = decode_raw_key(&region.range.end).map_err(|e| ClientError::unexpected("a range delete", &e))?;
        }
        Ok(())
    }
}

/// Where an attempt whose answer was lost had committed.
fn done_before(errors: &[KeyError]) -> Option<Ts> {
    errors.iter().find_map(|error| match error {
        KeyError::Committed { commit_ts, .. } => Some(*commit_ts),
        _ => None,
    })
}
