//! The cluster under test: three storage nodes in one process, each with log backup linked in.

use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use logtide::{Builder, Config, Executor};
use logtide_mock_raftstore::client::Client;
use logtide_mock_raftstore::{Cluster, ClusterConfig};
use logtide_model::StoreId;
use prometheus::Registry;

use crate::Failed;

/// Storage nodes.
pub(crate) const STORES: usize = 3;

/// The nodes and what is linked into them.
pub(crate) struct Nodes {
    /// The raftstores.
    pub(crate) cluster: Cluster,
    executors: Vec<Executor>,
    registries: Vec<Registry>,
}

impl Nodes {
    /// Starts everything below `dir`.
    pub(crate) fn start(dir: &Path, split_keys: Vec<Vec<u8>>, flush_interval: Duration) -> Result<Nodes, Failed> {
        let config = ClusterConfig { stores: STORES, split_keys, ..ClusterConfig::rocksdb(dir.join("cluster")) };
        let cluster = Cluster::start(config)?;
        if !cluster.wait_ready(Duration::from_secs(60)) {
            return Err("the cluster elected no leaders within a minute".into());
        }
        let mut nodes = Nodes { cluster, executors: Vec::new(), registries: Vec::new() };
        for store in nodes.cluster.stores() {
            nodes.link(dir, store, flush_interval)?;
        }
        Ok(nodes)
    }

    fn link(&mut self, dir: &Path, store: StoreId, flush_interval: Duration) -> Result<(), Failed> {
        let registry = Registry::new();
        let executor = Builder::new(self.cluster.host(store), dir.join("coordinator"))
            .config(config(dir, store, flush_interval))
            .registry(&registry)
            .start()?;
        self.cluster.add_observer(store, executor.observer())?;
        self.executors.push(executor);
        self.registries.push(registry);
        Ok(())
    }

    /// A client of the cluster.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.cluster.rpc())
    }

    /// The sum over all stores and labels of a metric; the largest value with `max`.
    pub(crate) fn metric(&self, name: &str, max: bool) -> f64 {
        let families = self.registries.iter().flat_map(Registry::gather).filter(|family| family.name() == name);
        let values = families.flat_map(|family| {
            let values = family.get_metric().iter().map(|m| m.get_gauge().get_value() + m.get_counter().get_value());
            values.collect::<Vec<_>>()
        });
        if max { values.fold(0.0, f64::max) } else { values.sum() }
    }

    /// Ends log backup with a last flush, then the nodes.
    pub(crate) fn stop(self) {
        self.executors.into_iter().for_each(Executor::shutdown);
        self.cluster.shutdown();
    }
}

/// Three stores share a process here: together they stay under 256 MiB.
fn config(dir: &Path, store: StoreId, flush_interval: Duration) -> Config {
    Config {
        max_flush_interval: flush_interval,
        temp_path: dir.join(format!("spool/store-{store}")),
        temp_file_memory_quota: ByteSize::mib(24),
        pending_memory_quota: ByteSize::mib(16),
        lock_memory_quota: ByteSize::mib(8),
        initial_scan_pending_memory_quota: ByteSize::mib(8),
        initial_scan_concurrency: 2,
        upload_memory_quota: ByteSize::mib(16),
        ..Config::default()
    }
}
