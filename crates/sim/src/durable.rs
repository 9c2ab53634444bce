//! Durable steps: every change that a store's process makes to the storage or the coordinator, numbered through a whole
//! simulation; at one of them the process may crash, right before it takes effect or right after.
//!
//! A process that crashed changes nothing any more, though its parts go on until the world buries it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use logtide_model::StoreId;
use parking_lot::Mutex;

/// Where a process crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// The number of the step, from 0.
    pub step: usize,
    /// The step took effect, and its answer is lost; else it never happens.
    pub after: bool,
}

/// So many steps that are alike are numbered.
const ALIKE: usize = 3;

/// The durable steps of a simulation. Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct DurableSteps(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What the steps did, in order.
    done: Vec<String>,
    crash: Option<CrashPoint>,
    /// Whose process crashed, and is not buried yet.
    dead: Option<StoreId>,
}

/// A process of a store, as far as it does durable things. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Process {
    steps: DurableSteps,
    store: StoreId,
    dead: Arc<AtomicBool>,
    /// Steps that were not numbered.
    alike: Arc<AtomicUsize>,
}

/// What is to become of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Happens,
    /// It happens, and nobody who asked for it lives to see it: [`Process::die`] is to be called.
    HappensLast,
    /// The process is dead.
    Never,
}

impl DurableSteps {
    /// The process that comes to that step crashes.
    pub(crate) fn crash_at(&self, point: Option<CrashPoint>) {
        self.0.lock().crash = point;
    }

    /// The steps so far.
    pub(crate) fn done(&self) -> Vec<String> {
        self.0.lock().done.clone()
    }

    /// Whose process has crashed since this was asked last.
    pub(crate) fn take_dead(&self) -> Option<StoreId> {
        self.0.lock().dead.take()
    }

    /// A process that begins.
    pub(crate) fn process(&self, store: StoreId) -> Process {
        Process { steps: self.clone(), store, dead: Arc::default(), alike: Arc::default() }
    }
}

impl Process {
    /// True if it crashed.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// It is about to do something durable.
    pub(crate) fn step(&self, what: impl FnOnce() -> String) -> Fate {
        if self.is_dead() {
            return Fate::Never;
        }
        let crash = {
            let mut state = self.steps.0.lock();
            let number = state.done.len();
            state.done.push(format!("store {}: {}", self.store, what()));
            state.crash.filter(|crash| crash.step == number)
        };
        match crash {
            None => Fate::Happens,
            Some(CrashPoint { after: true, .. }) => Fate::HappensLast,
            Some(_) => {
                self.die();
                Fate::Never
            }
        }
    }

    /// As [`Self::step`], for one of many that differ in nothing: the first few of a process stand for all of them.
    pub(crate) fn one_of_many(&self, what: impl FnOnce() -> String) -> Fate {
        match self.alike.fetch_add(1, Ordering::SeqCst) {
            ..ALIKE => self.step(what),
            _ if self.is_dead() => Fate::Never,
            _ => Fate::Happens,
        }
    }

    /// It crashes now.
    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.steps.0.lock().dead = Some(self.store);
    }
}
