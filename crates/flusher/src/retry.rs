//! Until an object is durable: tries, for ever, and the few reasons to give up.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use logtide_model::planted::Bug;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::FlushEvent;
use crate::upload::{Failure, Stop, Tries, Upload, Uploader};

/// A block that cannot be read so often in a row is lost.
const READ_TRIES: u32 = 3;

/// Why an object will not be durable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Nobody wants it any more.
    Stopped,
    /// It cannot be.
    Poisoned(String),
}

impl Uploader {
    /// Makes an object durable. What waiting can repair is tried again for ever (I7).
    pub(crate) async fn persist(&self, upload: &Upload<'_>, tell: &(dyn Fn(FlushEvent) + Sync)) -> Result<(), Lost> {
        let seed = seed(&upload.object.path);
        let mut tries = Tries::default();
        let mut unreadable = 0;
        loop {
            let error = match self.attempt(upload, &mut tries).await {
                Ok(()) => return Ok(()),
                Err(Failure::Stopped) => return Err(Lost::Stopped),
                Err(Failure::Different(cause)) => return Err(Lost::Poisoned(cause)),
                Err(Failure::Unreadable(cause)) => {
                    unreadable += 1;
                    if unreadable == READ_TRIES {
                        return Err(Lost::Poisoned(cause));
                    }
                    cause
                }
                Err(Failure::Again(cause)) => cause,
                Err(Failure::Store(e)) => e.to_string(),
            };
            if Bug::FailedFlushCounts.is_planted() {
                return Ok(());
            }
            tries.failures = tries.failures.saturating_add(1);
            let next = self.config.backoff.delay(tries.failures, seed);
            let (generation, what) = (upload.stop.generation, upload.object.path.clone());
            tell(FlushEvent::Retrying { generation, what, error, failures: tries.failures, next });
            self.wait(upload.stop, next).await?;
        }
    }

    /// Puts a small object over whatever is there, for ever.
    pub(crate) async fn overwrite(
        &self,
        path: &str,
        content: &[u8],
        stop: &Stop,
        tell: &(dyn Fn(FlushEvent) + Sync),
    ) -> Result<(), Lost> {
        let (seed, location) = (seed(path), Path::from(path));
        let mut failures = 0u32;
        loop {
            let put = self.store.put(&location, PutPayload::from(content.to_vec()));
            let error = match self.patiently(stop, failures, put).await {
                Ok(_) => return Ok(()),
                Err(Failure::Stopped) => return Err(Lost::Stopped),
                Err(Failure::Again(cause) | Failure::Unreadable(cause) | Failure::Different(cause)) => cause,
                Err(Failure::Store(e)) => e.to_string(),
            };
            failures = failures.saturating_add(1);
            let next = self.config.backoff.delay(failures, seed);
            tell(FlushEvent::Retrying { generation: stop.generation, what: path.to_owned(), error, failures, next });
            self.wait(stop, next).await?;
        }
    }

    async fn wait(&self, stop: &Stop, next: Duration) -> Result<(), Lost> {
        tokio::select! {
            biased;
            () = stop.stopped() => Err(Lost::Stopped),
            () = tokio::time::sleep(next) => Ok(()),
        }
    }
}

/// Differs between objects and stores, so that those who failed together do not return together.
pub(crate) fn seed(of: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
