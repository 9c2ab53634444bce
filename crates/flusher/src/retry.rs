//! Until an object is durable: tries, for ever, and the few reasons to give up.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use logtide_model::planted::Bug;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::time::Instant;

use crate::upload::{Failure, Stop, Tries, Upload, Uploader};
use crate::{FlushEvent, Setback};

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
            let mut setback = Setback::Passing;
            let error = match self.attempt(upload, &mut tries).await {
                Ok(()) => return Ok(()),
                Err(Failure::Stopped) => return Err(Lost::Stopped),
                Err(Failure::Different(cause)) => return Err(Lost::Poisoned(cause)),
                Err(Failure::Unreadable(cause)) => {
                    if Bug::LostBlockSkipped.is_planted() {
                        return Ok(());
                    }
                    unreadable += 1;
                    if unreadable == READ_TRIES {
                        return Err(Lost::Poisoned(cause));
                    }
                    cause
                }
                Err(Failure::Again(cause)) => cause,
                Err(Failure::Store(e)) => {
                    setback = (self.config.judge)(&e);
                    e.to_string()
                }
            };
            if Bug::FailedFlushCounts.is_planted() {
                return Ok(());
            }
            tries.failures = tries.failures.saturating_add(1);
            let next = self.pause(setback, tries.failures, seed);
            let (generation, what) = (upload.stop.generation, upload.object.path.clone());
            tell(FlushEvent::Retrying { generation, what, error, failures: tries.failures, next, setback });
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
            let mut setback = Setback::Passing;
            let put = self.store.put(&location, PutPayload::from(content.to_vec()));
            let error = match self.patiently(stop, failures, put).await {
                Ok(_) => return Ok(()),
                Err(Failure::Stopped) => return Err(Lost::Stopped),
                Err(Failure::Again(cause) | Failure::Unreadable(cause) | Failure::Different(cause)) => cause,
                Err(Failure::Store(e)) => {
                    setback = (self.config.judge)(&e);
                    e.to_string()
                }
            };
            failures = failures.saturating_add(1);
            let next = self.pause(setback, failures, seed);
            let (generation, what) = (stop.generation, path.to_owned());
            tell(FlushEvent::Retrying { generation, what, error, failures, next, setback });
            self.wait(stop, next).await?;
        }
    }

    /// How long to wait until the next try, all together if the storage asks for it.
    fn pause(&self, setback: Setback, failures: u32, seed: u64) -> Duration {
        let backoff = &self.config.backoff;
        let own = backoff.delay(failures, seed);
        match setback {
            Setback::SlowDown { retry_after } => {
                own.max(self.pace.slow_down(Instant::now(), backoff, seed, retry_after))
            }
            Setback::Passing | Setback::Lasting { .. } => own,
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
