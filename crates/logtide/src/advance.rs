//! The thread of the advancer: one store of the cluster is elected and moves the global checkpoints.

use std::thread::{self, JoinHandle};
use std::time::Instant;

use logtide_coordinator::{Advancer, AdvancerConfig, TaskTick};
use logtide_model::Diagnose;
use tracing::{debug, info, warn};

use crate::node::Node;

/// Starts it; it ends when the store goes down.
pub(crate) fn start(node: &Node) -> std::io::Result<JoinHandle<()>> {
    let node = node.clone();
    let config = AdvancerConfig::new(node.host.store_id());
    let mut advancer = Advancer::new(node.tasks.store().clone(), node.host.clone(), config);
    thread::Builder::new().name("logtide-advance".into()).spawn(move || {
        let mut elected = false;
        while !node.stop.is_raised() {
            match advancer.tick(Instant::now()) {
                Ok(report) => {
                    if report.elected != elected {
                        elected = report.elected;
                        info!(store = node.host.store_id(), elected, "advancer of the global checkpoint");
                    }
                    report.tasks.iter().for_each(|tick| note(&node, tick));
                }
                Err(error) => {
                    node.metrics.errors.with_label_values(&[error.code().as_str()]).inc();
                    debug!(%error, "the global checkpoints cannot be advanced now");
                }
            }
            thread::park_timeout(node.config().look_interval());
        }
        if let Err(error) = advancer.resign() {
            debug!(%error, "the others wait for the lease of the advancer to expire");
        }
    })
}

fn note(node: &Node, tick: &TaskTick) {
    if let Some(error) = &tick.error {
        node.metrics.errors.with_label_values(&[error.code().as_str()]).inc();
        debug!(task = %tick.task.name, %error, "the checkpoint of the task cannot be advanced now");
    }
    if let Some(error) = &tick.gc {
        node.metrics.errors.with_label_values(&[error.code().as_str()]).inc();
        warn!(task = %tick.task.name, %error, "garbage collection is not held back for the task");
    }
}
