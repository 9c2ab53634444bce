//! A restore from beginning to end: plan, fetch, merge, ingest.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide_model::Permit;
use logtide_storage::Storage;
use tokio::task::JoinSet;

use crate::engine::{Home, Marker, SstSink, Ssts, Staging, column_family};
use crate::fetch::{fetch, spill};
use crate::join::{DEFAULTS, Join, Scratch, WRITES};
use crate::memory::{MIN_MEMORY, Means, Shares};
use crate::meter::{Meter, join_all, joined};
use crate::planning::plan_within;
use crate::sort::{Merge, RunSet, Runs, Sorter};
use crate::summary::{Counts, Took};
use crate::{Plan, Progress, RestoreError, RestoreOptions, RestoreSummary, Stage};

/// Accounted for an SST file that is being written: RocksDB's write buffer, block and index.
const SST_WRITER: usize = 2 << 20;

/// Brings the log's state at a ts into a new RocksDB directory.
///
/// It runs on the current tokio runtime (any flavour) and its blocking threads. Dropping the future ends it.
///
/// # Errors
/// Any [`RestoreError`]; the target is then as it was.
pub async fn restore_point(
    storage: &Storage,
    options: &RestoreOptions,
    progress: &dyn Progress,
) -> Result<RestoreSummary, RestoreError> {
    if options.memory < MIN_MEMORY {
        let what = "a restore".to_owned();
        return Err(RestoreError::Memory { what, needed: MIN_MEMORY, memory: options.memory });
    }
    let staging = Staging::claim(&options.target)?;
    let (mut summary, ssts) = Restore::new(storage, options, &staging, progress).run().await?;
    let began = Instant::now();
    let meter = Meter::default();
    meter.expect(ssts.bytes);
    let marker = marker(&summary);
    let (watched, inner) = (meter.clone(), meter);
    let ingest = async move {
        let work = move || {
            staging.ingest(&ssts, &inner)?;
            staging.finish(&marker)
        };
        joined(tokio::task::spawn_blocking(work).await)
    };
    watched.watch(Stage::Ingest, progress, ingest).await?;
    summary.took.ingest = began.elapsed();
    summary.mb_per_second = rate(summary.records.bytes, summary.took.total());
    Ok(summary)
}

fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64().max(1e-9)
}

fn marker(summary: &RestoreSummary) -> Marker {
    Marker {
        format: 1,
        restored_ts: summary.restored_ts,
        start_ts: summary.start_ts,
        storage: summary.storage.clone(),
        writes: summary.records.writes,
        values: summary.records.values,
        bytes: summary.records.bytes,
    }
}

/// What the stages share.
struct Restore<'a> {
    storage: &'a Storage,
    options: &'a RestoreOptions,
    progress: &'a dyn Progress,
    means: Means,
    home: Arc<Home>,
    sst_dir: PathBuf,
}

impl<'a> Restore<'a> {
    fn new(storage: &'a Storage, options: &'a RestoreOptions, staging: &Staging, progress: &'a dyn Progress) -> Self {
        let means = Means::new(options, staging.dir());
        Restore { storage, options, progress, means, home: staging.home(), sst_dir: staging.ssts() }
    }

    fn runs(&self) -> Arc<Runs> {
        let Shares { fan_in, window, .. } = self.means.shares;
        Arc::new(Runs::new(self.means.temp_dir.clone(), fan_in, window, self.means.budget.clone()))
    }

    async fn run(&self) -> Result<(RestoreSummary, Ssts), RestoreError> {
        let began = Instant::now();
        let mut plan = plan_within(self.storage, self.options, &self.means, self.progress).await?;
        let planned = Instant::now();
        let runs = [self.runs(), self.runs()];
        let (mut counts, bytes_read) = self.fetch(&mut plan, &runs).await?;
        let fetched = Instant::now();
        let (ssts, spilled_bytes) = self.merge(runs, &mut counts).await?;
        let took =
            Took { plan: planned - began, fetch: fetched - planned, merge: fetched.elapsed(), ..Took::default() };
        let summary = RestoreSummary {
            restored_ts: plan.window.upto.get(),
            start_ts: plan.window.start.get(),
            checkpoint: plan.log.checkpoint.get(),
            storage: self.storage.url.clone(),
            target: self.options.target.clone(),
            plan: *plan.summary(),
            bytes_read,
            plain_bytes: plan.summary().plain_bytes,
            records: counts,
            spilled_bytes,
            ssts: ssts.files.len() as u64,
            sst_bytes: ssts.bytes,
            took,
            mb_per_second: 0.0,
            peak_memory: self.means.budget.peak(),
        };
        Ok((summary, ssts))
    }

    /// Reads and sorts; counts, and the bytes that were read.
    async fn fetch(&self, plan: &mut Plan, runs: &[Arc<Runs>; 2]) -> Result<(Counts, u64), RestoreError> {
        let meter = Meter::default();
        meter.expect(plan.summary().bytes);
        let work = fetch(self.storage, plan, &self.means, runs.clone(), &meter);
        let counts = meter.watch(Stage::Fetch, self.progress, work).await?;
        Ok((counts, meter.bytes()))
    }

    /// Merges runs into SST files, in as many key ranges side by side as there are threads.
    async fn merge(&self, runs: [Arc<Runs>; 2], counts: &mut Counts) -> Result<(Ssts, u64), RestoreError> {
        let meter = Meter::default();
        let dir = self.means.temp_dir.clone();
        let collect = runs.clone();
        let sets = joined(
            tokio::task::spawn_blocking(move || {
                let sets = [collect[WRITES].finish(), collect[DEFAULTS].finish()];
                let [writes, values] = sets.map(|set| set.map(Arc::new).map_err(|e| spill(&dir, e)));
                Ok([writes?, values?])
            })
            .await,
        )?;
        meter.expect(sets.iter().map(|set| set.bytes()).sum());
        let spilled = runs.iter().map(|runs| runs.spilled()).sum();
        let bounds = partitions(&sets, self.means.shares.workers);
        let mut tasks = JoinSet::new();
        for (index, (start, end)) in bounds.into_iter().enumerate() {
            let part = self.partition(index, start, end, sets.clone(), meter.clone());
            tasks.spawn_blocking(move || part.merge());
        }
        drop((sets, runs));
        let work = async {
            let mut all = Ssts::default();
            join_all(&mut tasks, &meter, |(ssts, part): (Ssts, Counts)| {
                counts.add(&part);
                all.files.extend(ssts.files);
                all.bytes += ssts.bytes;
            })
            .await?;
            Ok(all)
        };
        let ssts = meter.watch(Stage::Merge, self.progress, work).await?;
        Ok((ssts, spilled))
    }

    fn partition(&self, index: usize, start: Vec<u8>, end: Vec<u8>, sets: [Arc<RunSet>; 2], meter: Meter) -> Partition {
        Partition {
            index,
            start,
            end,
            sets,
            meter,
            references: self.runs(),
            means: self.means.clone(),
            _home: self.home.clone(),
            sst_dir: self.sst_dir.clone(),
        }
    }
}

/// A key range that is merged on its own.
struct Partition {
    index: usize,
    /// First encoded key.
    start: Vec<u8>,
    /// Behind the last encoded key; empty for none.
    end: Vec<u8>,
    sets: [Arc<RunSet>; 2],
    meter: Meter,
    references: Arc<Runs>,
    means: Means,
    _home: Arc<Home>,
    sst_dir: PathBuf,
}

impl Partition {
    fn merge(self) -> Result<(Ssts, Counts), RestoreError> {
        let _writer: Permit = self.means.budget.force_acquire(SST_WRITER);
        let options = column_family();
        let mut sink = SstSink::new(&options, &self.sst_dir, self.index);
        let mut counts = Counts::default();
        let io = |e| spill(&self.means.temp_dir, e);
        let mut join = Join {
            sink: &mut sink,
            counts: &mut counts,
            meter: &self.meter,
            temp_dir: &self.means.temp_dir,
            budget: &self.means.budget,
            scratch: Scratch::default(),
        };
        let mut references = Sorter::new([self.references.clone()], self.means.shares.references, &self.means.budget);
        let mut writes = Merge::new(self.cursors(&self.sets[WRITES]).map_err(io)?);
        join.writes(&mut writes, &mut references)?;
        drop(writes);
        references.finish();
        let references = self.references.finish().map_err(io)?;
        let mut both = self.cursors(&references).map_err(io)?;
        both.extend(self.cursors(&self.sets[DEFAULTS]).map_err(io)?);
        join.defaults(&mut Merge::new(both))?;
        Ok((sink.finish()?, counts))
    }

    fn cursors(&self, set: &RunSet) -> std::io::Result<Vec<crate::sort::Cursor>> {
        set.cursors(&self.start, &self.end, self.means.shares.window, &self.means.budget)
    }
}

/// Cuts the data into at most `n` key ranges of about the same size, between user keys.
fn partitions(sets: &[Arc<RunSet>; 2], n: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut sample: Vec<(Vec<u8>, u64)> = sets.iter().flat_map(|set| set.sample()).collect();
    sample.sort_unstable();
    let total: u64 = sample.iter().map(|(_, bytes)| bytes).sum();
    let mut cuts: Vec<Vec<u8>> = Vec::new();
    let mut before = 0;
    for (key, bytes) in &sample {
        let due = total * (cuts.len() as u64 + 1) / n as u64;
        let user = logtide_model::truncate_ts(key).unwrap_or_default();
        if cuts.len() + 1 < n && before >= due && cuts.last().is_none_or(|last| user > &last[..]) {
            cuts.push(user.to_vec());
        }
        before += bytes;
    }
    let starts = std::iter::once(Vec::new()).chain(cuts.iter().cloned());
    starts.zip(cuts.iter().cloned().chain(std::iter::once(Vec::new()))).collect()
}
