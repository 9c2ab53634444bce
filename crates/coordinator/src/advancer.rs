//! The advancer: folds what the stores published into the cover, and moves the global checkpoint.
//!
//! One of the stores does it, elected by lease. Every write is conditional on the election and on the life of the
//! task, so one that was deposed cannot write, and nothing of another life is read or written. A crash between two
//! writes is harmless: facts that are folded twice change nothing, and a cover that is not complete is not read.

mod edition;
mod fold;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide_model::{Class, Diagnose, Host, HostError, Incarnation, StoreId, Task, TaskName, Ts};

use crate::election::Election;
use crate::error::CoordinatorError;
use crate::keys;
use crate::last_error::describe_error;
use crate::status::Holder;
use crate::store::{Clock, Condition, Store, Txn, WallClock};
use crate::tasks::Tasks;
use fold::{Folded, Memory};

/// What the advancer asks of the storage node it runs in.
pub trait GcHold: Send + Sync {
    /// As [`Host::hold_gc`].
    ///
    /// # Errors
    /// As [`Host::hold_gc`].
    fn hold_gc(&self, owner: &str, ts: Option<Ts>, ttl: Duration) -> Result<(), HostError>;
}

impl GcHold for Arc<dyn Host> {
    fn hold_gc(&self, owner: &str, ts: Option<Ts>, ttl: Duration) -> Result<(), HostError> {
        (**self).hold_gc(owner, ts, ttl)
    }
}

/// Settings of an [`Advancer`].
#[derive(Clone)]
pub struct AdvancerConfig {
    /// The store that it runs in.
    pub store_id: StoreId,
    /// How long the others wait when the elected one is gone.
    pub lease_ttl: Duration,
    /// How long GC is held without being asked again.
    pub gc_ttl: Duration,
    /// How often the hold is renewed while the checkpoint stands still.
    pub gc_renewal: Duration,
    /// The wall clock, for times that people read.
    pub clock: Arc<dyn Clock>,
}

impl AdvancerConfig {
    /// The defaults: a lease of 10 s; GC held for 24 h (as TiDB's advancer does), renewed every minute.
    pub fn new(store_id: StoreId) -> Self {
        AdvancerConfig {
            store_id,
            lease_ttl: Duration::from_secs(10),
            gc_ttl: Duration::from_secs(24 * 3600),
            gc_renewal: Duration::from_secs(60),
            clock: Arc::new(WallClock),
        }
    }
}

/// What a tick did.
#[derive(Debug, Default)]
pub struct TickReport {
    /// True if this advancer is the elected one.
    pub elected: bool,
    /// What it did, by task; empty if it is not elected.
    pub tasks: Vec<TaskTick>,
}

/// What a tick did about a task.
#[derive(Debug)]
pub struct TaskTick {
    /// The task.
    pub task: Task,
    /// The global checkpoint before; the start ts before the first one.
    pub before: Ts,
    /// The global checkpoint now.
    pub checkpoint: Ts,
    /// What holds it back.
    pub holder: Option<Holder>,
    /// How many publications were folded.
    pub publications: usize,
    /// How many facts were in them.
    pub facts: usize,
    /// How many entries the cover has.
    pub cover: usize,
    /// Why GC could not be held, if it could not.
    pub gc: Option<HostError>,
    /// What else went wrong. Another tick may do better.
    pub error: Option<CoordinatorError>,
}

/// Moves the global checkpoints while it is elected.
pub struct Advancer {
    store: Arc<dyn Store>,
    tasks: Tasks,
    gc: Box<dyn GcHold>,
    config: AdvancerConfig,
    election: Election,
    /// What is known of each life of a task since the election.
    memory: BTreeMap<(TaskName, Incarnation), Memory>,
}

impl Advancer {
    /// An advancer that is not elected yet.
    pub fn new(store: Arc<dyn Store>, gc: impl GcHold + 'static, config: AdvancerConfig) -> Self {
        let me = format!("store {} process {}", config.store_id, std::process::id());
        let election = Election::new(store.clone(), me, config.lease_ttl);
        Advancer {
            tasks: Tasks::new(store.clone()),
            store,
            gc: Box::new(gc),
            config,
            election,
            memory: BTreeMap::new(),
        }
    }

    /// Does what there is to do now. To be called about every second, and at least three times a lease.
    ///
    /// # Errors
    /// [`CoordinatorError::Store`] if not even the tasks can be listed. What goes wrong with one task is in its part of
    /// the report, and does not keep the others back.
    pub fn tick(&mut self, now: Instant) -> Result<TickReport, CoordinatorError> {
        let office = match self.election.campaign(now) {
            Ok(Some(office)) => office,
            other => {
                self.memory.clear();
                return other.map(|_| TickReport::default()).map_err(CoordinatorError::from);
            }
        };
        let tasks = self.tasks.list()?;
        self.memory.retain(|life, _| tasks.iter().any(|task| *life == life_of(task)));
        let mut report = TickReport { elected: true, tasks: Vec::new() };
        for task in &tasks {
            report.tasks.push(self.tick_task(task, &office, now));
        }
        self.let_go_of_gc(&tasks, &office)?;
        if !self.still_elected(&office)? {
            self.election.deposed();
            self.memory.clear();
            report.elected = false;
        }
        Ok(report)
    }

    /// Ends the office, so that another store takes over at its next tick.
    ///
    /// # Errors
    /// [`CoordinatorError::Store`]: then they wait for the lease to expire.
    pub fn resign(&mut self) -> Result<(), CoordinatorError> {
        self.memory.clear();
        Ok(self.election.resign()?)
    }

    fn still_elected(&self, office: &Condition) -> Result<bool, CoordinatorError> {
        let Condition::CreateRevision(key, revision) = office else { return Ok(false) };
        Ok(self.store.get(key)?.is_some_and(|kv| kv.create_revision == *revision))
    }

    fn tick_task(&mut self, task: &Task, office: &Condition, now: Instant) -> TaskTick {
        let mut tick = TaskTick {
            task: task.clone(),
            before: task.start_ts,
            checkpoint: task.start_ts,
            holder: None,
            publications: 0,
            facts: 0,
            cover: 0,
            gc: None,
            error: None,
        };
        if let Err(e) = self.advance(&mut tick, office, now) {
            // What was written before the error is not known for sure: read it again.
            self.memory.remove(&life_of(task));
            tick.error = Some(e);
        }
        tick
    }

    fn advance(&mut self, tick: &mut TaskTick, office: &Condition, now: Instant) -> Result<(), CoordinatorError> {
        let task = tick.task.clone();
        let memory = match self.memory.entry(life_of(&task)) {
            std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
            std::collections::btree_map::Entry::Vacant(empty) => empty.insert(Memory::load(&self.tasks, &task)?),
        };
        let wall_ms = self.config.clock.now_ms();
        let Folded { before, checkpoint, publications, facts } = memory.fold(&self.tasks, &task, office, wall_ms)?;
        (tick.before, tick.checkpoint, tick.publications, tick.facts) = (before, checkpoint, publications, facts);
        (tick.holder, tick.cover) = (memory.holder.clone(), memory.cover.len());
        let renew = memory.gc_held.is_none_or(|(held, since)| {
            held != checkpoint || now.saturating_duration_since(since) >= self.config.gc_renewal
        });
        if renew {
            tick.gc = self.hold_gc(&task, checkpoint, office)?;
            if tick.gc.is_none()
                && let Some(memory) = self.memory.get_mut(&life_of(&task))
            {
                memory.gc_held = Some((checkpoint, now));
            }
        }
        Ok(())
    }

    /// Holds GC right below the persisted global checkpoint (DESIGN §15.7: the advancer is the only one who does).
    fn hold_gc(&self, task: &Task, checkpoint: Ts, office: &Condition) -> Result<Option<HostError>, CoordinatorError> {
        let key = keys::gc_hold(task);
        if self.store.get(&key)?.is_none() {
            self.tasks.for_living(task, Txn::new().when(office.clone()).put(key, gc_owner(task)))?;
        }
        let Err(error) = self.gc.hold_gc(&gc_owner(task), Some(checkpoint.prev()), self.config.gc_ttl) else {
            return Ok(None);
        };
        // Waiting does not bring back what GC has removed: the task is in error (I7), once.
        if error.class() == Class::Fatal && self.tasks.pause_of(task)?.is_none_or(|pause| !pause.is_error) {
            let at_ms = self.config.clock.now_ms();
            self.tasks.fail(task, &describe_error(&error, self.config.store_id, at_ms))?;
        }
        Ok(Some(error))
    }

    /// Lets go of GC for lives of tasks that are over.
    fn let_go_of_gc(&self, tasks: &[Task], office: &Condition) -> Result<(), CoordinatorError> {
        for kv in self.store.list(keys::GC_PREFIX.as_bytes())?.0 {
            if tasks.iter().any(|task| keys::gc_hold(task) == kv.key) {
                continue;
            }
            let owner = String::from_utf8_lossy(&kv.value);
            match self.gc.hold_gc(&owner, None, Duration::ZERO) {
                Ok(()) => {
                    self.store.commit(Txn::new().when(office.clone()).delete(kv.key))?;
                }
                Err(error) => tracing::warn!(%owner, %error, "cannot let go of GC yet"),
            }
        }
        Ok(())
    }
}

/// Each life has its own owner, so that letting go for one that is over cannot touch the next.
fn gc_owner(task: &Task) -> String {
    format!("logtide-{}-{}", task.name, task.incarnation.0)
}

fn life_of(task: &Task) -> (TaskName, Incarnation) {
    (task.name.clone(), task.incarnation)
}
