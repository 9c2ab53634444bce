//! The boot epoch of this process: one for all tasks of the store, as publishing needs the newest one of the store.

use logtide_coordinator::{CoordinatorError, Tasks};
use logtide_model::StoreId;
use parking_lot::Mutex;

/// The epoch that this process holds, once it has taken one.
#[derive(Default)]
pub(crate) struct Boot(Mutex<Option<u64>>);

impl Boot {
    /// The epoch; taken the first time.
    pub(crate) fn epoch(&self, tasks: &Tasks, store_id: StoreId) -> Result<u64, CoordinatorError> {
        let mut epoch = self.0.lock();
        match *epoch {
            Some(epoch) => Ok(epoch),
            None => Ok(*epoch.insert(tasks.boot_epoch(store_id)?)),
        }
    }

    /// The epoch, if one was taken.
    pub(crate) fn held(&self) -> Option<u64> {
        *self.0.lock()
    }

    /// Gives an epoch up after a lost generation: the next one is new. Another task may have done so already.
    pub(crate) fn give_up(&self, lost: u64) {
        let mut epoch = self.0.lock();
        if *epoch == Some(lost) {
            *epoch = None;
        }
    }

    /// True if another task of this process has given that epoch up: being superseded is then its doing, and no other
    /// process of the same store is there.
    pub(crate) fn moved_on_from(&self, epoch: u64) -> bool {
        *self.0.lock() != Some(epoch)
    }
}
