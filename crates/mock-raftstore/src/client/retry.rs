//! What happens before something is tried again.

use std::sync::Arc;
use std::time::Duration;

use super::{Client, ClientError};
use crate::rpc::{KeyError, LockInfo, RegionError};

/// Called before every retry, on the thread that works: waits as it likes, or returns false to give up.
pub type RetryHook = Arc<dyn Fn(&Retry<'_>) -> bool + Send + Sync>;

/// A retry that is about to be.
#[derive(Clone, Copy, Debug)]
pub struct Retry<'a> {
    /// What is tried.
    pub what: &'static str,
    /// How often it was tried already, from 1.
    pub attempts: u32,
    /// Why it did not work.
    pub reason: RetryReason<'a>,
}

/// Why something has to be tried again.
#[derive(Clone, Copy, Debug)]
pub enum RetryReason<'a> {
    /// The region was not there, or busy, or its answer was lost.
    Region(&'a RegionError),
    /// A lock of a transaction that is under way is in the way.
    Locked(&'a LockInfo),
    /// The keys have changed: it is tried again as of a later ts.
    Key(&'a KeyError),
}

impl RetryReason<'_> {
    fn text(&self) -> String {
        match self {
            RetryReason::Region(error) => error.to_string(),
            RetryReason::Locked(lock) => KeyError::Locked((*lock).clone()).to_string(),
            RetryReason::Key(error) => error.to_string(),
        }
    }
}

/// Most attempts of [`sleeping`]: about a minute.
const ATTEMPTS: u32 = 600;
/// Its longest wait.
const LONGEST: Duration = Duration::from_millis(100);

/// The hook of [`Client::new`].
pub(crate) fn sleeping() -> RetryHook {
    Arc::new(|retry| {
        let wait = Duration::from_millis(1 << retry.attempts.clamp(1, 8) >> 1).min(LONGEST);
        std::thread::sleep(wait);
        retry.attempts < ATTEMPTS
    })
}

/// The attempts at one thing.
pub(crate) struct Attempts<'a> {
    client: &'a Client,
    what: &'static str,
    attempts: u32,
}

impl Client {
    pub(crate) fn retry(&self, what: &'static str) -> Attempts<'_> {
        Attempts { client: self, what, attempts: 0 }
    }
}

impl Attempts<'_> {
    /// Something went well: what comes next begins anew.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// To be called before trying again.
    ///
    /// # Errors
    /// [`ClientError::GaveUp`].
    pub(crate) fn again(&mut self, reason: RetryReason<'_>) -> Result<(), ClientError> {
        self.attempts += 1;
        if (self.client.hook)(&Retry { what: self.what, attempts: self.attempts, reason }) {
            return Ok(());
        }
        Err(ClientError::GaveUp { what: self.what, attempts: self.attempts, cause: reason.text() })
    }
}
