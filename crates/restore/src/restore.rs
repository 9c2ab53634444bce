//! A restore from beginning to end: plan, fetch, merge, and what the sink does at the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide_model::KeyRange;
use logtide_storage::Storage;
use tokio::task::JoinSet;

use crate::fetch::{fetch, spill};
use crate::join::{DEFAULTS, WRITES};
use crate::lost::Removed;
use crate::memory::{MIN_MEMORY, Means};
use crate::meter::{Meter, join_all};
use crate::partition::{Partition, partitions};
use crate::planning::plan_within;
use crate::sort::{RunSet, Runs};
use crate::summary::{Counts, Took};
use crate::{Finish, Made, Plan, Progress, RestoreError, RestoreOptions, RestoreSummary, Sink, SinkPart, Stage};

/// Brings the log's state at a ts into a new RocksDB directory, `options.target`.
///
/// It runs on the current tokio runtime (any flavour) and its blocking threads. Dropping the future ends it.
///
/// # Errors
/// Any [`RestoreError`]; the target is then as it was.
#[cfg(feature = "rocksdb")]
pub async fn restore_point(
    storage: &Storage,
    options: &RestoreOptions,
    progress: &dyn Progress,
) -> Result<RestoreSummary, RestoreError> {
    enough(options)?;
    let target = crate::RocksDir::claim(&options.target)?;
    restore_to(storage, options, target, progress).await.map(|(summary, ())| summary)
}

/// Brings the log's state at a ts into `sink`; what was done, and what the sink makes of it.
///
/// It runs on the current tokio runtime (any flavour) and, unless the options say otherwise, its blocking threads.
/// Dropping the future ends it.
///
/// # Errors
/// Any [`RestoreError`]; the sink is then dropped without [`Sink::finish`], or failed in it.
pub async fn restore_to<S: Sink>(
    storage: &Storage,
    options: &RestoreOptions,
    sink: S,
    progress: &dyn Progress,
) -> Result<(RestoreSummary, S::Output), RestoreError> {
    enough(options)?;
    let temp_dir = sink.temp_dir().unwrap_or_else(std::env::temp_dir);
    let means = Means::new(options, &temp_dir);
    let (sink, merged) = Restore { storage, options, progress, means: means.clone() }.run(sink).await?;
    let Merged { mut summary, parts } = merged;
    let began = Instant::now();
    let meter = Meter::default();
    meter.expect(summary.sst_bytes);
    let told = meter.clone();
    let ingest = means.work(move || {
        let told = |bytes| told.done(bytes, 0);
        let output = sink.finish(Finish { parts, summary: &summary, told: &told })?;
        Ok((summary, output))
    });
    let output;
    (summary, output) = meter.watch(Stage::Ingest, progress, ingest).await?;
    summary.took.ingest = began.elapsed();
    summary.mb_per_second = rate(summary.records.bytes, summary.took.total());
    Ok((summary, output))
}

fn enough(options: &RestoreOptions) -> Result<(), RestoreError> {
    if options.memory >= MIN_MEMORY {
        return Ok(());
    }
    let what = "a restore".to_owned();
    Err(RestoreError::Memory { what, needed: MIN_MEMORY, memory: options.memory })
}

fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64().max(1e-9)
}

/// What the stages share.
struct Restore<'a> {
    storage: &'a Storage,
    options: &'a RestoreOptions,
    progress: &'a dyn Progress,
    means: Means,
}

/// All but the end.
struct Merged<P: SinkPart> {
    summary: RestoreSummary,
    parts: Vec<P::Done>,
}

/// What the parts of a sink made.
struct Parts<P: SinkPart> {
    /// By index.
    done: Vec<(usize, P::Done)>,
    made: Made,
    spilled: u64,
}

impl Restore<'_> {
    fn runs(&self) -> Arc<Runs> {
        Arc::new(self.means.runs())
    }

    async fn run<S: Sink>(&self, mut sink: S) -> Result<(S, Merged<S::Part>), RestoreError> {
        let began = Instant::now();
        let mut plan = plan_within(self.storage, self.options, &self.means, self.progress).await?;
        sink.begin(&plan.window)?;
        let planned = Instant::now();
        let runs = [self.runs(), self.runs()];
        let (mut counts, bytes_read) = self.fetch(&mut plan, &runs).await?;
        let fetched = Instant::now();
        let parts = self.merge(&mut sink, runs, plan.removed.take(), &mut counts).await?;
        let took =
            Took { plan: planned - began, fetch: fetched - planned, merge: fetched.elapsed(), ..Took::default() };
        let summary = RestoreSummary {
            restored_ts: plan.window.upto.get(),
            start_ts: plan.window.start.get(),
            checkpoint: plan.log.checkpoint.get(),
            storage: self.storage.url.clone(),
            target: self.options.target.clone(),
            plan: *plan.summary(),
            inexact: plan.inexact.clone(),
            bytes_read,
            plain_bytes: plan.summary().plain_bytes,
            records: counts,
            spilled_bytes: parts.spilled,
            ssts: parts.made.files,
            sst_bytes: parts.made.bytes,
            took,
            mb_per_second: 0.0,
            peak_memory: self.means.budget.peak(),
        };
        let parts = parts.done.into_iter().map(|(_, done)| done).collect();
        Ok((sink, Merged { summary, parts }))
    }

    /// Reads and sorts; counts, and the bytes that were read.
    async fn fetch(&self, plan: &mut Plan, runs: &[Arc<Runs>; 2]) -> Result<(Counts, u64), RestoreError> {
        let meter = Meter::default();
        meter.expect(plan.summary().bytes);
        let work = fetch(self.storage, plan, &self.means, runs.clone(), &meter);
        let counts = meter.watch(Stage::Fetch, self.progress, work).await?;
        Ok((counts, meter.bytes()))
    }

    /// Merges runs into parts of the sink, in as many key ranges side by side as there are threads.
    async fn merge<S: Sink>(
        &self,
        sink: &mut S,
        runs: [Arc<Runs>; 2],
        removed: Option<Removed>,
        counts: &mut Counts,
    ) -> Result<Parts<S::Part>, RestoreError> {
        let (meter, removed) = (Meter::default(), removed.map(Arc::new));
        let sets = self.collect(runs.clone()).await?;
        meter.expect(sets.iter().map(|set| set.bytes()).sum());
        let spilled = runs.iter().map(|runs| runs.spilled()).sum();
        let bounds = partitions(&sets, self.means.shares.workers);
        let parts: Vec<S::Part> = bounds
            .iter()
            .enumerate()
            .map(|(index, (start, end))| sink.part(index, KeyRange::new(start.clone(), end.clone())))
            .collect::<Result<_, _>>()?;
        let mut tasks = JoinSet::new();
        for (index, ((start, end), part)) in bounds.into_iter().zip(parts).enumerate() {
            let (sets, removed, meter) = (sets.clone(), removed.clone(), meter.clone());
            let means = self.means.clone();
            let work = Partition { start, end, sets, removed, meter, means: means.clone(), part };
            tasks.spawn(async move { means.work(move || work.merge()).await.map(|done| (index, done)) });
        }
        drop((sets, runs));
        let work = async {
            let mut all = Parts { done: Vec::new(), made: Made::default(), spilled };
            join_all(&mut tasks, &meter, |(index, (done, made, part)): (usize, (_, Made, Counts))| {
                counts.add(&part);
                all.made = Made { files: all.made.files + made.files, bytes: all.made.bytes + made.bytes };
                all.done.push((index, done));
            })
            .await?;
            all.done.sort_by_key(|(index, _)| *index);
            Ok(all)
        };
        meter.watch(Stage::Merge, self.progress, work).await
    }

    async fn collect(&self, runs: [Arc<Runs>; 2]) -> Result<[Arc<RunSet>; 2], RestoreError> {
        let dir = self.means.temp_dir.clone();
        let collect = move || {
            let sets = [runs[WRITES].finish(), runs[DEFAULTS].finish()];
            let [writes, values] = sets.map(|set| set.map(Arc::new).map_err(|e| spill(&dir, e)));
            Ok([writes?, values?])
        };
        self.means.work(collect).await
    }
}
