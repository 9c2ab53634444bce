//! Settings that change while the store runs: it owns where each of them is in force. What looks at the settings whenever
//! it needs them (runners, advancer, seals) has them from [`Node::config`](crate::node::Node::config).

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use logtide_initial_scan::RateLimiter;
use tracing::info;

use crate::budgets::Budgets;
use crate::scan_queue::ScanQueue;
use crate::{Config, ConfigError};

/// See the module.
#[derive(Clone)]
pub(crate) struct Online {
    pub(crate) settings: Arc<ArcSwap<Config>>,
    pub(crate) budgets: Budgets,
    pub(crate) scans: Arc<ScanQueue>,
    pub(crate) limiter: RateLimiter,
}

impl Online {
    /// Puts `next` in force, all of it or nothing.
    pub(crate) fn change(&self, next: Config, now: Instant) -> Result<(), ConfigError> {
        next.validate()?;
        self.settings.load().check_change(&next)?;
        info!(config = ?next, "the configuration changes");
        self.apply(next, now);
        Ok(())
    }

    /// Puts what can change of `next` in force.
    pub(crate) fn apply(&self, next: Config, now: Instant) {
        self.budgets.resize(&next);
        self.scans.set_limit(next.initial_scan_concurrency);
        self.limiter.set_rate(next.initial_scan_rate_limit.as_u64(), now);
        self.settings.store(Arc::new(next));
    }
}
