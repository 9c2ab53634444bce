//! Following which tasks there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide_model::{Task, TaskName};

use crate::error::CoordinatorError;
use crate::keys;
use crate::store::{Event, Watch};
use crate::tasks::Tasks;

/// A change of the tasks. A task that ended and began anew between two looks is told as both, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskEvent {
    /// A task is there.
    Started(Task),
    /// It is not there any more.
    Removed(Task),
    /// It is paused (told after `Started` if it was paused then).
    Paused(Task),
    /// It is not paused any more.
    Resumed(Task),
}

/// Follows the tasks: begins with all there are. It compares what is there with what it told before, so it misses
/// nothing that still matters, however long nobody looked.
pub struct TaskWatch {
    tasks: Arc<Tasks>,
    watch: Box<dyn Watch>,
    /// Each with whether it was paused.
    known: BTreeMap<TaskName, (Task, bool)>,
    /// Something happened that is not told yet.
    stale: bool,
}

impl TaskWatch {
    /// Begins to follow.
    ///
    /// # Errors
    /// [`CoordinatorError::Store`].
    pub fn new(tasks: Arc<Tasks>) -> Result<Self, CoordinatorError> {
        let revision = tasks.store().list(keys::INFO_PREFIX.as_bytes())?.1;
        let watch = tasks.store().watch(keys::TIDB_PREFIX.as_bytes(), revision + 1)?;
        Ok(TaskWatch { tasks, watch, known: BTreeMap::new(), stale: true })
    }

    /// The next changes; none if nothing changed within `wait`. After an error it may be called again: nothing is
    /// lost.
    ///
    /// # Errors
    /// [`CoordinatorError::Store`].
    pub fn next(&mut self, wait: Duration) -> Result<Vec<TaskEvent>, CoordinatorError> {
        let start = Instant::now();
        loop {
            if self.stale {
                let events = self.look()?;
                self.stale = false;
                if !events.is_empty() {
                    return Ok(events);
                }
            }
            let left = wait.saturating_sub(start.elapsed());
            let events = self.watch.next(left)?;
            self.stale = events.iter().any(is_about_tasks);
            if events.is_empty() && left.is_zero() {
                return Ok(Vec::new());
            }
        }
    }

    fn look(&mut self) -> Result<Vec<TaskEvent>, CoordinatorError> {
        let mut now = BTreeMap::new();
        for task in self.tasks.list()? {
            let paused = self.tasks.pause_of(&task)?.is_some();
            now.insert(task.name.clone(), (task, paused));
        }
        let mut events = Vec::new();
        for (name, (task, _)) in &self.known {
            if now.get(name).is_none_or(|(new, _)| new.incarnation != task.incarnation) {
                events.push(TaskEvent::Removed(task.clone()));
            }
        }
        for (name, (task, paused)) in &now {
            let before = self.known.get(name).filter(|(old, _)| old.incarnation == task.incarnation);
            if before.is_none() {
                events.push(TaskEvent::Started(task.clone()));
            }
            match (before.is_some_and(|(_, paused)| *paused), *paused) {
                (false, true) => events.push(TaskEvent::Paused(task.clone())),
                (true, false) => events.push(TaskEvent::Resumed(task.clone())),
                _ => {}
            }
        }
        self.known = now;
        Ok(events)
    }
}

fn is_about_tasks(event: &Event) -> bool {
    let key = match event {
        Event::Put(kv) => &kv.key,
        Event::Delete { key, .. } => key,
        Event::Reset { .. } => return true,
    };
    key.starts_with(keys::INFO_PREFIX.as_bytes()) || key.starts_with(keys::PAUSE_PREFIX.as_bytes())
}
