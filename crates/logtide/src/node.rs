//! What the threads of one store share: handles, no state of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use logtide_coordinator::Tasks;
use logtide_model::Host;
use logtide_observer::Observer;
use logtide_temp_file::SpoolRoom;

use crate::Config;
use crate::boot::Boot;
use crate::interest::Interest;
use crate::metrics::Metrics;
use crate::shards::ShardBoard;

/// Handles to the store's seams and services. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Node {
    /// The storage node that embeds us.
    pub(crate) host: Arc<dyn Host>,
    /// The hook, which is also the way to the shards.
    pub(crate) observer: Observer,
    /// Tasks and progress in the coordinator.
    pub(crate) tasks: Arc<Tasks>,
    /// What the shards last said of themselves.
    pub(crate) shards: Arc<ShardBoard>,
    /// Memory and disk of the spools.
    pub(crate) room: SpoolRoom,
    /// The settings, as they are now.
    pub(crate) settings: Arc<ArcSwap<Config>>,
    /// The metrics.
    pub(crate) metrics: Metrics,
    /// The boot epoch of this process.
    pub(crate) boot: Arc<Boot>,
    /// The tasks that are carried out here.
    pub(crate) interest: Arc<Interest>,
    /// Raised when no task is to begin any more.
    pub(crate) closing: StopFlag,
    /// Raised when the store goes down.
    pub(crate) stop: StopFlag,
}

impl Node {
    /// The settings as they are now: they may change while the store runs.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.settings.load_full()
    }
}

/// Raised once, for good.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
