//! The boot epoch of this process: one for all tasks of the store, as publishing needs the newest one of the store.
//!
//! Generations of a task are counted from 1 in each of its lives: a task that was paused and goes on would use names, heads
//! and marks a second time in the same epoch (I5). So an epoch serves one life of a task; the next life takes a new epoch, and
//! the other tasks of the process, whose publications it supersedes, begin anew with it.

use logtide_coordinator::{CoordinatorError, Tasks};
use logtide_model::{Incarnation, StoreId, Task, TaskName};
use parking_lot::Mutex;

/// The epoch that this process holds, once it has taken one.
#[derive(Default)]
pub(crate) struct Boot(Mutex<State>);

#[derive(Default)]
struct State {
    epoch: Option<u64>,
    /// Tasks that have begun in it.
    lives: Vec<(TaskName, Incarnation)>,
}

impl State {
    fn give_up(&mut self) {
        *self = State::default();
    }
}

impl Boot {
    /// The epoch for a life of `task`, which begins.
    pub(crate) fn epoch(&self, tasks: &Tasks, store_id: StoreId, task: &Task) -> Result<u64, CoordinatorError> {
        let mut state = self.0.lock();
        let life = (task.name.clone(), task.incarnation);
        if state.lives.contains(&life) {
            state.give_up();
        }
        let epoch = match state.epoch {
            Some(epoch) => epoch,
            None => *state.epoch.insert(tasks.boot_epoch(store_id)?),
        };
        state.lives.push(life);
        Ok(epoch)
    }

    /// The epoch, if one was taken.
    pub(crate) fn held(&self) -> Option<u64> {
        self.0.lock().epoch
    }

    /// Gives an epoch up after a lost generation: the next one is new. Another task may have done so already.
    pub(crate) fn give_up(&self, lost: u64) {
        let mut state = self.0.lock();
        if state.epoch == Some(lost) {
            state.give_up();
        }
    }

    /// True if another task of this process has given that epoch up: being superseded is then its doing, and no other
    /// process of the same store is there.
    pub(crate) fn moved_on_from(&self, epoch: u64) -> bool {
        self.0.lock().epoch != Some(epoch)
    }
}
