//! The tasks that this store carries out now: what the observer is to observe. It keeps observer and host in step, and
//! finds what callbacks missed.

use std::collections::BTreeMap;
use std::sync::Arc;

use logtide_model::{Host, LocalRegion, Role, Task, TaskName};
use logtide_observer::Observer;
use parking_lot::Mutex;

/// See the module.
#[derive(Default)]
pub(crate) struct Interest {
    tasks: Mutex<BTreeMap<TaskName, Arc<Task>>>,
}

impl Interest {
    /// A task began, and the shards know it: observe its regions.
    pub(crate) fn add(&self, task: &Arc<Task>, observer: &Observer, host: &dyn Host) {
        let mut tasks = self.tasks.lock();
        tasks.insert(task.name.clone(), task.clone());
        observer.set_tasks(tasks.values().cloned().collect());
        observe_led(task, observer, host);
    }

    /// A task ended.
    pub(crate) fn remove(&self, task: &TaskName, observer: &Observer) {
        let mut tasks = self.tasks.lock();
        tasks.remove(task);
        observer.set_tasks(tasks.values().cloned().collect());
    }

    /// Compares what is observed with what the host leads (§15.16): a leadership whose callback was missed is found
    /// here, and one that is known already is no news.
    pub(crate) fn audit(&self, observer: &Observer, host: &dyn Host) {
        let tasks = self.tasks.lock();
        for task in tasks.values() {
            observe_led(task, observer, host);
        }
    }
}

fn observe_led(task: &Task, observer: &Observer, host: &dyn Host) {
    let led = |region: &LocalRegion| region.role == Role::Leader;
    for range in &task.ranges {
        host.regions(range).iter().filter(|region| led(region)).for_each(|region| observer.observe(region));
    }
}
