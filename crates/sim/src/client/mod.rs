//! Transactions as scripts that are polled step by step.
//!
//! Owns: a Percolator client whose every wait is a `Pending` ([`SimClient`]), the scripts that it runs ([`Scripts`]), and
//! what it still knows of transactions that left locks behind ([`resolve_range`]).
//! Does not own: time, chance, or progress. A command is handed to a store and asked for again at every later poll; who
//! polls decides what happens in between. The same polls give the same commands.
//!
//! The rules of who may call a transaction committed, rolled back or neither are those of
//! [`logtide_mock_raftstore::client`], which cannot be used here: it drives the cluster while it waits.

mod commit;
mod ledger;
mod outcome;
mod plan;
mod prewrite;
mod range;
mod read;
mod resolve;
mod route;
mod script;
mod txn;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use logtide_mock_raftstore::Cluster;
use logtide_model::{RegionId, StoreId, Ts};

use ledger::Ledger;
use outcome::Stop;
use route::Tries;

pub use outcome::Outcome;
pub use plan::{Ending, TxnKind, TxnPlan};
pub use range::resolve_range;
pub use script::{Scripts, poll_once, polls};

/// How long a client waits, in polls, and how often it tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Polls that an answer may take; then it counts as lost. Default: 400.
    pub answer: u32,
    /// Polls between two attempts. Default: 8.
    pub pause: u32,
    /// Attempts in a row without success. Default: 40.
    pub attempts: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { answer: 400, pause: 8, attempts: 40 }
    }
}

/// A client of one cluster under the steps driver. Cloning shares it.
#[derive(Clone)]
pub struct SimClient(Rc<Inner>);

struct Inner {
    cluster: Cluster,
    patience: Cell<Patience>,
    /// Leaders that stores told of, where they differ from what the directory says.
    leaders: RefCell<BTreeMap<RegionId, StoreId>>,
    /// The only stores that it reaches; `None`: all.
    reach: RefCell<Option<BTreeSet<StoreId>>>,
    ledger: RefCell<Ledger>,
    violations: RefCell<Vec<String>>,
}

impl SimClient {
    /// A client with the default [`Patience`]. Its timestamps, and so the time, are those of the cluster's placement
    /// driver.
    pub fn new(cluster: Cluster) -> Self {
        SimClient(Rc::new(Inner {
            cluster,
            patience: Cell::default(),
            leaders: RefCell::default(),
            reach: RefCell::default(),
            ledger: RefCell::default(),
            violations: RefCell::default(),
        }))
    }

    /// Changes how long it waits, from its next wait on.
    pub fn set_patience(&self, patience: Patience) {
        self.0.patience.set(patience);
    }

    /// Lets it reach these stores only (`None`: all again), as a client that is cut off together with a leader.
    pub fn set_reach(&self, stores: Option<BTreeSet<StoreId>>) {
        *self.0.reach.borrow_mut() = stores;
    }

    /// Answers that no store may ever give; a simulation in which there is one has found a bug.
    pub fn violations(&self) -> Vec<String> {
        self.0.violations.borrow().clone()
    }

    /// Start timestamps of transactions that may have left locks behind, or are under way.
    pub fn unfinished(&self) -> Vec<Ts> {
        self.0.ledger.borrow().start_timestamps()
    }

    /// A fresh timestamp, waited for while the timestamp service is away.
    async fn timestamp(&self) -> Result<Ts, Stop> {
        let mut tries = Tries::new(self, "get a timestamp");
        loop {
            match self.0.cluster.pd().tso() {
                Ok(ts) => return Ok(ts),
                Err(error) => tries.again(&error).await?,
            }
        }
    }

    /// Notes an answer that must not be.
    fn unexpected(&self, to: &str, answer: &impl std::fmt::Debug) -> Stop {
        let what = format!("unexpected answer to {to}: {answer:?}");
        self.0.violations.borrow_mut().push(what.clone());
        Stop::Unexpected(what)
    }
}

impl std::fmt::Debug for SimClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimClient").field("unfinished", &self.unfinished()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
