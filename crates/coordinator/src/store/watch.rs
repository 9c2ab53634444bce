//! Watches over a state in this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::store::{Event, Revision, State, StoreError, Watch};

/// A store that has its state in this process.
pub(crate) trait Replica: Send + Sync {
    /// Shows the present state.
    fn read<R>(&self, f: impl FnOnce(&State) -> R) -> Result<R, StoreError>;
    /// Returns when the state is newer than `seen`, or may be, or after `wait`; it need not wait so long.
    fn wait(&self, seen: Revision, wait: Duration);
}

/// Follows a prefix of a [`Replica`].
pub(crate) struct StateWatch<R> {
    replica: Arc<R>,
    prefix: Bytes,
    next: Revision,
}

impl<R: Replica> StateWatch<R> {
    pub(crate) fn new(replica: Arc<R>, prefix: &[u8], from: Revision) -> Self {
        StateWatch { replica, prefix: Bytes::copy_from_slice(prefix), next: from.max(1) }
    }
}

impl<R: Replica> Watch for StateWatch<R> {
    fn next(&mut self, wait: Duration) -> Result<Vec<Event>, StoreError> {
        let start = Instant::now();
        loop {
            let (events, seen) =
                self.replica.read(|state| (state.events_since(&self.prefix, self.next), state.revision))?;
            self.next = self.next.max(seen + 1);
            if !events.is_empty() {
                return Ok(events);
            }
            let Some(left) = wait.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else {
                return Ok(events);
            };
            self.replica.wait(seen, left);
        }
    }
}
