//! The metrics of seed 002, as they are after a life.

use std::collections::BTreeMap;

use logtide_model::{Task, Ts};
use prometheus::Registry;
use prometheus::proto::{Metric, MetricFamily};

use crate::world::{World, wait};

/// Metrics that a life moves, whatever happens in it.
const MOVED: &[&str] = &[
    "tikv_log_backup_interal_actor_acting_duration_sec",
    "tikv_log_backup_initial_scan_reason",
    "tikv_log_backup_event_handle_duration_sec",
    "tikv_log_backup_handle_kv_batch",
    "tikv_log_backup_incremental_scan_bytes",
    "tikv_log_backup_on_event_duration_seconds",
    "tikv_log_backup_flush_duration_sec",
    "tikv_log_backup_flush_file_size",
    "tikv_log_backup_initial_scan_duration_sec",
    "tikv_log_backup_initial_scan_operations",
    "tikv_log_backup_enabled",
    "tikv_log_backup_observed_region",
    "logtide_catch_up_source",
    "logtide_flushed_objects",
    "logtide_flushed_bytes",
];

/// Metrics that may rest, and are there: what is read from a disk depends on what is cached.
const THERE: &[&str] =
    &["tikv_log_backup_initial_scan_disk_read", "tikv_log_backup_skip_kv_count", "logtide_dropped_batches"];

/// Why a region may be caught up (seed 002), and from what.
const LABELS: &[(&str, &[&str])] = &[
    ("tikv_log_backup_initial_scan_reason", &["leader-changed", "region-changed", "retry"]),
    ("logtide_catch_up_source", &["snapshot", "log", "log-then-snapshot"]),
    ("tikv_log_backup_pending_initial_scan", &["queuing", "executing"]),
    ("tikv_log_backup_flush_duration_sec", &["generate_metadata", "save_files", "clear_temp_files"]),
];

/// Values by metric and label, all stores together.
#[derive(Debug)]
pub(crate) struct Figures(BTreeMap<String, BTreeMap<String, f64>>);

impl Figures {
    /// Those of all lives; where nothing is to be counted but a state to be told (gauges), those that go on count.
    fn gather(world: &World) -> Self {
        let mut figures = Figures(BTreeMap::new());
        world.past.iter().for_each(|registry| figures.add(registry, false));
        world.registries().iter().for_each(|registry| figures.add(registry, true));
        figures
    }

    /// Those of a node.
    fn add(&mut self, registry: &Registry, gauges: bool) {
        for family in registry.gather() {
            let is_gauge = family.get_field_type() == prometheus::proto::MetricType::GAUGE;
            if gauges || !is_gauge {
                family.get_metric().iter().for_each(|metric| self.add_one(&family, metric));
            }
        }
    }

    fn add_one(&mut self, family: &MetricFamily, metric: &Metric) {
        let labels: Vec<_> = metric.get_label().iter().map(|label| label.value().to_owned()).collect();
        let histogram = metric.get_histogram().get_sample_count() as f64;
        let value = metric.get_gauge().get_value() + metric.get_counter().get_value() + histogram;
        *self.0.entry(family.name().to_owned()).or_default().entry(labels.join(",")).or_default() += value;
    }

    /// Waits until the stores have caught up with all regions, nothing is on its way any more, and all know that the
    /// checkpoint of the task is at `end` or above.
    pub(crate) fn settled(world: &World, task: &Task, end: Ts, regions: usize) -> Self {
        let mut seen = Figures::gather(world);
        wait("the end of all scans, and the observation of all regions", || {
            seen = Figures::gather(world);
            seen.sum("tikv_log_backup_pending_initial_scan") == 0.0
                && seen.sum("tikv_log_backup_observed_region") == regions as f64
                && seen.sum("tikv_log_backup_heap_memory") == 0.0
                && seen.of("logtide_memory_bytes", "locks") == 0.0
        });
        wait("the checkpoint in the metrics of all stores", || {
            world.registries().iter().all(|registry| {
                let mut of_store = Figures(BTreeMap::new());
                of_store.add(registry, true);
                // Of 64 bits 53 are left, rounded: what is not below stays so.
                of_store.of("tidb_log_backup_last_checkpoint", task.name.as_str()) >= end.get() as f64
            })
        });
        seen
    }

    /// A metric, over its labels.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.0.get(name).unwrap_or_else(|| panic!("{name} is missing")).values().sum()
    }

    /// A metric with these label values; zero if it has none such.
    pub(crate) fn of(&self, name: &str, labels: &str) -> f64 {
        self.0.get(name).and_then(|values| values.get(labels)).copied().unwrap_or(0.0)
    }

    /// What every life leaves behind.
    pub(crate) fn assert_live(&self, task: &Task) {
        for name in MOVED {
            assert!(self.sum(name) > 0.0, "{name} does not move");
        }
        for name in THERE {
            assert!(self.0.contains_key(*name), "{name} is missing");
        }
        for (name, allowed) in LABELS {
            let known = self.0[*name].keys().all(|labels| allowed.contains(&&labels[..]));
            assert!(known, "{name}: {:?}", self.0[*name]);
        }
        for kind in ["events", "locks", "spool"] {
            assert!(self.of("logtide_memory_peak_bytes", kind) > 0.0, "{kind} took memory");
        }
        assert_eq!(self.of("tikv_log_backup_task_status", task.name.as_str()), 0.0, "it runs");
        assert!(self.of("tikv_log_backup_store_checkpoint_ts", task.name.as_str()) > 0.0);
    }
}
