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
    /// The epoch in which another process of the store took over.
    superseded: Option<u64>,
}

impl State {
    fn give_up(&mut self) {
        *self = State { superseded: self.superseded, ..State::default() };
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

    /// Another process of the store has taken over from that epoch. This one is not to take it back, whatever task begins.
    pub(crate) fn yield_from(&self, epoch: u64) {
        self.0.lock().superseded = Some(epoch);
    }

    /// The epoch from which another process has taken over.
    pub(crate) fn superseded(&self) -> Option<u64> {
        self.0.lock().superseded
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

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_coordinator::MemoryStore;
    use logtide_model::{Compression, KeyRange, Ts};
    use std::sync::Arc;

    fn task(name: &str, incarnation: u64) -> Task {
        Task {
            name: TaskName::new(name).unwrap(),
            incarnation: Incarnation(incarnation),
            storage: "memory://".to_owned(),
            start_ts: Ts::new(1),
            ranges: vec![KeyRange::ALL],
            compression: Compression::Zstd,
            encryption: None,
        }
    }

    #[test]
    fn a_life_of_a_task_shares_its_epoch_with_other_tasks_and_never_with_another_life() {
        let (boot, tasks) = (Boot::default(), Tasks::new(Arc::new(MemoryStore::new())));
        let epoch = |task: &Task| boot.epoch(&tasks, 7, task).unwrap();
        let (a, b) = (task("a", 1), task("b", 2));
        assert_eq!((epoch(&a), epoch(&b), boot.held()), (1, 1, Some(1)));
        assert_eq!(epoch(&a), 2, "it was paused and goes on");
        assert!(boot.moved_on_from(1) && !boot.moved_on_from(2));
        assert_eq!((epoch(&b), epoch(&task("a", 3))), (2, 2), "who was superseded, and a new task of an old name");
        boot.give_up(1);
        assert_eq!(boot.held(), Some(2), "another one has done so already");
        boot.give_up(2);
        assert_eq!((boot.held(), epoch(&b)), (None, 3));
    }
}
