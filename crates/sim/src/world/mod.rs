//! A simulated cluster with its log backup, its clients and its troubles, and the execution of steps on it.

mod begin;
mod check;
mod faults;
mod finale;
mod node;
mod objects;
mod run;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide_coordinator::Tasks;
use logtide_coordinator::store::ManualClock as CoordinatorClock;
use logtide_mock_raftstore::Cluster;
use logtide_mock_raftstore::pd::{Clock, ManualClock};
use logtide_model::{RaftObserver, StoreId};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::client::{Scripts, SimClient};
use crate::coordinator::{CoordinatorFaults, Flaky};
use crate::digest::Digest;
use crate::disk::SimDisks;
use crate::durable::{CrashPoint, DurableSteps};
use crate::history::History;
use crate::host::HostFaults;
use crate::schedule::Step;
use crate::storage::StorageFaults;
use crate::violation::Violation;
use node::SimNode;
use task::SimTask;

/// Keys that transactions write, and regions are split at.
pub(crate) const KEYS: u64 = 48;

/// See the module.
pub struct World {
    // Dropped first: nodes end before what they use.
    nodes: BTreeMap<StoreId, SimNode>,
    zombies: Vec<SimNode>,
    scripts: Scripts,
    cluster: Cluster,
    client: SimClient,
    history: History,
    task: SimTask,
    tasks: Tasks,
    coordinator: Flaky,
    host_faults: HostFaults,
    storage_faults: StorageFaults,
    disks: SimDisks,
    settings: node::Settings,
    clock: ManualClock,
    coordinator_clock: CoordinatorClock,
    /// The moment of the machine that stands for the beginning; only differences to it are ever used.
    base: Instant,
    elapsed_ms: u64,
    ticks: u64,
    squeezed: bool,
    stopped: BTreeSet<StoreId>,
    deposed: Vec<faults::Deposed>,
    durable: DurableSteps,
    /// When a store whose process crashed at a durable step starts again, in ticks.
    revival: Option<(StoreId, u64)>,
    auditor: Runtime,
    digest: Digest,
    counts: Counts,
    _dir: TempDir,
}

/// What happened in a simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions that their clients know to be committed.
    pub committed: u64,
    /// Transactions with another end.
    pub uncommitted: u64,
    /// Restores that were compared.
    pub restores: u64,
    /// Of these, how many were refused because of a range delete, and allowed then.
    pub refusals: u64,
    /// Commits that these restored as deletes, for a range delete had removed their values before they were backed up.
    pub lost_values: u64,
    /// Requests to the disks of spools that failed.
    pub disk_failures: u64,
    /// Objects at the end that no metadata refers to, left by crashes.
    pub orphans: u64,
    /// How often the global checkpoint rose.
    pub advances: u64,
    /// Versions of keys at the end.
    pub versions: u64,
    /// Objects in storages at the end.
    pub objects: u64,
}

impl World {
    /// Now, for whoever asks for an instant.
    pub(crate) fn now(&self) -> Instant {
        self.base + Duration::from_millis(self.elapsed_ms)
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        let objects = self.task.objects();
        Counts { versions: self.history.versions(), objects, disk_failures: self.disks.failures(), ..self.counts }
    }

    /// Stands for everything that happened: equal histories have equal ones.
    pub fn digest(&self) -> u64 {
        let mut digest = self.digest.clone();
        // The names of probes are the storage crate's, which makes them unlike any other process's.
        for (name, bytes) in self.task.puts().into_iter().filter(|(name, _)| !name.contains("probe")) {
            digest.add(name.as_bytes());
            digest.add_number(bytes as u64);
        }
        digest.value()
    }

    /// The process that comes to that durable step crashes.
    pub fn crash_at(&self, point: Option<CrashPoint>) {
        self.durable.crash_at(point);
    }

    /// The durable steps so far.
    pub fn durable_steps(&self) -> Vec<String> {
        self.durable.done()
    }

    /// How it stands, in a line.
    pub fn describe(&self) -> String {
        let regions = self.cluster.pd().regions();
        let led: Vec<String> =
            regions.iter().map(|(r, store, term)| format!("{}@{store}t{term}v{}", r.id, r.epoch.version)).collect();
        format!(
            "{} ms, checkpoint {}, {} versions, {} scripts, {:?}, {} puts, digest {:016x}, regions {}",
            self.elapsed_ms,
            self.task.checkpoint,
            self.history.versions(),
            self.scripts.len(),
            self.counts,
            self.task.objects(),
            self.digest(),
            led.join(" ")
        )
    }

    /// Executes a step, and checks what has to hold after every step.
    ///
    /// # Errors
    /// A [`Violation`].
    pub fn step(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::Run(mix) => self.run(mix),
            Step::Tick(ms) => self.tick(u64::from(ms)),
            Step::Txn(seed) => self.transaction(seed),
            Step::KillClients => self.scripts.kill_all(),
            Step::FlushNow(n) => self.flush_now(n),
            Step::Configure(n, seed) => self.configure(n, seed),
            Step::NewTask => self.task.renew(&self.tasks, &self.history, self.storage_faults)?,
            Step::Audit(n) => self.audit(n),
            Step::Check(n) => self.compare(n)?,
            trouble => self.trouble(trouble)?,
        }
        self.bury_and_revive()?;
        self.observe()?;
        // A storage that holds less than it says may show it for a short time only.
        if matches!(step, Step::Tick(_)) { self.compare_if_new() } else { Ok(()) }
    }

    fn transaction(&mut self, seed: u64) {
        let plan = crate::workload::plan(seed);
        self.scripts.start(&self.client, plan);
    }

    fn observers(&self, node: &SimNode) -> Vec<Arc<dyn RaftObserver>> {
        vec![Arc::new(self.history.clone()), node.observer()]
    }

    pub(crate) fn well_again(&mut self) {
        self.cluster.heal();
        self.client.set_reach(None);
        self.set_storage(StorageFaults::default());
        self.coordinator.set_faults(CoordinatorFaults::default());
        self.cluster.pd().set_tso_available(true);
        self.host_faults.set_snapshots(0.0);
        self.disks.heal();
    }

    pub(crate) fn pause(&mut self, paused: bool) -> Result<(), Violation> {
        self.task.pause(&self.tasks, paused)
    }

    pub(crate) fn set_storage(&mut self, faults: StorageFaults) {
        self.storage_faults = faults;
        self.task.set_faults(faults);
    }

    pub(crate) fn jump_clock(&mut self, ms: i64) {
        let to = self.clock.now_ms().saturating_add_signed(ms);
        self.clock.set(to);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.history.read_files_from(None);
    }
}
