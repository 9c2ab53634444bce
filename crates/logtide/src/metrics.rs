//! Metrics, under the names that TiKV's dashboards and alerts know; what they have no name for starts with `logtide_`.

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    exponential_buckets,
};

/// All metrics of one store. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) acting: HistogramVec,
    pub(crate) event_handle: HistogramVec,
    pub(crate) kv_batch: Histogram,
    pub(crate) on_event: HistogramVec,
    pub(crate) scan_reason: IntCounterVec,
    pub(crate) scan_disk_read: IntCounter,
    pub(crate) scan_source: IntCounterVec,
    pub(crate) scan_bytes: Histogram,
    pub(crate) scan_duration: Histogram,
    pub(crate) scan_operations: IntCounterVec,
    pub(crate) pending_scan: IntGaugeVec,
    pub(crate) skip_kv: IntCounter,
    pub(crate) skip_retry: IntCounterVec,
    pub(crate) errors: IntCounterVec,
    pub(crate) fatal_errors: IntCounterVec,
    pub(crate) heap_memory: IntGauge,
    pub(crate) flush_duration: HistogramVec,
    pub(crate) flush_file_size: Histogram,
    pub(crate) enabled: IntCounter,
    pub(crate) observed_region: IntGauge,
    pub(crate) task_status: IntGaugeVec,
    pub(crate) store_checkpoint: GaugeVec,
    pub(crate) last_checkpoint: GaugeVec,
    pub(crate) memory: IntGaugeVec,
    pub(crate) memory_peak: IntGaugeVec,
    pub(crate) dropped_batches: IntCounter,
    pub(crate) flushed_objects: IntCounter,
    pub(crate) flushed_bytes: IntCounter,
    pub(crate) generations_in_flight: IntGaugeVec,
    pub(crate) metadata_merges: IntCounterVec,
    pub(crate) merged_metadata_objects: IntCounter,
    pub(crate) spool_disk: IntGauge,
    pub(crate) spool_disk_quota: IntGauge,
    pub(crate) spool_disk_usable: IntGauge,
    pub(crate) released_regions: IntGauge,
}

impl Metrics {
    /// Makes the metrics and registers them.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let r = Maker(registry);
        Ok(Metrics {
            acting: r.seconds_by(
                "tikv_log_backup_interal_actor_acting_duration_sec",
                "Handling of internal messages",
                &["message"],
            )?,
            event_handle: r.seconds_by(
                "tikv_log_backup_event_handle_duration_sec",
                "Handling of applied batches",
                &["stage"],
            )?,
            kv_batch: r.histogram("tikv_log_backup_handle_kv_batch", "Changes in an applied batch", 1.0, 16)?,
            on_event: r.seconds_by(
                "tikv_log_backup_on_event_duration_seconds",
                "Writing of events to the spool",
                &["stage"],
            )?,
            scan_reason: r.counters("tikv_log_backup_initial_scan_reason", "Why initial scans began", &["reason"])?,
            scan_disk_read: r
                .counter("tikv_log_backup_initial_scan_disk_read", "Bytes that initial scans read from disk")?,
            scan_source: r.counters(
                "logtide_catch_up_source",
                "How regions were caught up: from a snapshot, from the raft log, or from both",
                &["source"],
            )?,
            scan_bytes: r.histogram(
                "tikv_log_backup_incremental_scan_bytes",
                "Bytes of records that an initial scan found",
                64.0,
                24,
            )?,
            scan_duration: r.histogram(
                "tikv_log_backup_initial_scan_duration_sec",
                "How long an initial scan took",
                0.001,
                16,
            )?,
            scan_operations: r.counters(
                "tikv_log_backup_initial_scan_operations",
                "RocksDB operations of initial scans",
                &["cf", "op"],
            )?,
            pending_scan: r.gauges(
                "tikv_log_backup_pending_initial_scan",
                "Initial scans that wait or run",
                &["stage"],
            )?,
            skip_kv: r.counter("tikv_log_backup_skip_kv_count", "Changes that a backup does not need")?,
            skip_retry: r.counters(
                "tikv_log_backup_skip_retry_observe",
                "Why observing was not tried again",
                &["reason"],
            )?,
            errors: r.counters("tikv_log_backup_errors", "Errors that are tried again", &["type"])?,
            fatal_errors: r.counters("tikv_log_backup_fatal_errors", "Errors that end a task", &["type"])?,
            heap_memory: r.gauge("tikv_log_backup_heap_memory", "Bytes of events that are not spooled yet")?,
            flush_duration: r.seconds_by("tikv_log_backup_flush_duration_sec", "Stages of a flush", &["stage"])?,
            flush_file_size: r.histogram("tikv_log_backup_flush_file_size", "Bytes of a data object", 1024.0, 22)?,
            enabled: r.counter("tikv_log_backup_enabled", "Above zero: log backup is enabled")?,
            observed_region: r.gauge("tikv_log_backup_observed_region", "Regions that are observed")?,
            task_status: r.gauges("tikv_log_backup_task_status", "0 running, 1 paused, 2 error", &["task"])?,
            store_checkpoint: r.float_gauges(
                "tikv_log_backup_store_checkpoint_ts",
                "Smallest checkpoint that this store stated last",
                &["task"],
            )?,
            last_checkpoint: r.float_gauges(
                "tidb_log_backup_last_checkpoint",
                "The global checkpoint: all that is committed at or below it is in the storage",
                &["task"],
            )?,
            memory: r.gauges("logtide_memory_bytes", "Accounted memory", &["what"])?,
            memory_peak: r.gauges("logtide_memory_peak_bytes", "The most accounted memory so far", &["what"])?,
            dropped_batches: r.counter("logtide_dropped_batches", "Applied batches dropped for want of memory")?,
            flushed_objects: r.counter("logtide_flushed_objects", "Objects put into the storage")?,
            flushed_bytes: r.counter("logtide_flushed_bytes", "Bytes put into the storage")?,
            generations_in_flight: r.gauges(
                "logtide_generations_in_flight",
                "Generations sealed and not published yet",
                &["task"],
            )?,
            metadata_merges: r.counters(
                "logtide_metadata_merges",
                "Attempts to merge small metadata objects, by how they ended",
                &["outcome"],
            )?,
            merged_metadata_objects: r
                .counter("logtide_merged_metadata_objects", "Metadata objects that were merged with others")?,
            spool_disk: r.gauge("logtide_spool_disk_bytes", "Bytes of the spool on the disk")?,
            spool_disk_quota: r.gauge("logtide_spool_disk_quota_bytes", "Bytes that the spool may have on the disk")?,
            spool_disk_usable: r.gauge("logtide_spool_disk_usable", "0: the disk of the spool fails")?,
            released_regions: r.gauge("logtide_released_regions", "Regions that found no room in the spool")?,
        })
    }

    /// Forgets the series of a task that ended.
    pub(crate) fn forget_task(&self, task: &str) {
        for gauge in [&self.store_checkpoint, &self.last_checkpoint] {
            // An error says that the series is not there: what was wanted.
            let _ = gauge.remove_label_values(&[task]);
        }
        for gauge in [&self.task_status, &self.generations_in_flight] {
            let _ = gauge.remove_label_values(&[task]);
        }
    }
}

/// Makes a metric and registers it.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn add<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: prometheus::Result<M>,
    ) -> prometheus::Result<M> {
        let metric = metric?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    /// Buckets double from `first` on.
    fn histogram(&self, name: &str, help: &str, first: f64, buckets: usize) -> prometheus::Result<Histogram> {
        let buckets = exponential_buckets(first, 2.0, buckets)?;
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
    }

    fn seconds_by(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<HistogramVec> {
        let buckets = exponential_buckets(0.000_01, 2.0, 24)?;
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels))
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn float_gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.add(GaugeVec::new(Opts::new(name, help), labels))
    }
}
