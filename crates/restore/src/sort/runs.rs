//! The sorted runs of one column family, kept few by merging them in tiers.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logtide_model::MemoryBudget;
use parking_lot::Mutex;

use super::buffer::{MemoryCursor, Sorted};
use super::merge::{Cursor, Merge};
use super::run::{FileCursor, Run, RunWriter};

/// Collects runs from several threads. When a tier has `fan_in` runs, they are merged into one of the next tier: so
/// their number, and with it open files and memory, grows with the logarithm of the data only.
pub(crate) struct Runs {
    dir: PathBuf,
    fan_in: usize,
    window: usize,
    budget: MemoryBudget,
    tiers: Mutex<Vec<Vec<Arc<Run>>>>,
    memory: Mutex<Vec<Arc<Sorted>>>,
    spilled: AtomicU64,
}

impl Runs {
    /// Runs in temporary files of `dir`, merged `fan_in` at a time through windows of `window` bytes each.
    pub(crate) fn new(dir: PathBuf, fan_in: usize, window: usize, budget: MemoryBudget) -> Self {
        let (tiers, memory) = (Mutex::default(), Mutex::default());
        Runs { dir, fan_in: fan_in.max(2), window, budget, tiers, memory, spilled: AtomicU64::new(0) }
    }

    /// Writes a sorted buffer to disk.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn spill(&self, sorted: &Sorted) -> io::Result<()> {
        let mut writer = RunWriter::create(&self.dir, self.window, &self.budget)?;
        let mut at = 0;
        while let Some((key, payload)) = sorted.get(at) {
            writer.push(key, payload)?;
            at += 1;
        }
        self.add(0, writer.finish()?)
    }

    /// Keeps a sorted buffer in memory.
    pub(crate) fn keep(&self, sorted: Sorted) {
        if sorted.len() > 0 {
            self.memory.lock().push(Arc::new(sorted));
        }
    }

    fn add(&self, tier: usize, run: Run) -> io::Result<()> {
        self.spilled.fetch_add(run.len(), Ordering::Relaxed);
        let full = {
            let mut tiers = self.tiers.lock();
            if tiers.len() <= tier {
                tiers.resize_with(tier + 1, Vec::new);
            }
            tiers[tier].push(Arc::new(run));
            if tiers[tier].len() < self.fan_in { Vec::new() } else { std::mem::take(&mut tiers[tier]) }
        };
        if full.is_empty() { Ok(()) } else { self.add(tier + 1, self.merge(&full)?) }
    }

    fn merge(&self, runs: &[Arc<Run>]) -> io::Result<Run> {
        let mut merge = Merge::new(cursors(runs, b"", b"", self.window, &self.budget)?);
        let mut writer = RunWriter::create(&self.dir, self.window, &self.budget)?;
        let mut key = Vec::new();
        while let Some(next) = merge.key() {
            key.clear();
            key.extend_from_slice(next);
            writer.push(&key, merge.payload()?)?;
            merge.advance()?;
        }
        writer.finish()
    }

    /// Bytes written to disk so far.
    pub(crate) fn spilled(&self) -> u64 {
        self.spilled.load(Ordering::Relaxed)
    }

    /// All that was collected, merged down to at most `fan_in` runs on disk.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn finish(&self) -> io::Result<RunSet> {
        let mut files: Vec<Arc<Run>> = std::mem::take(&mut *self.tiers.lock()).into_iter().flatten().collect();
        files.sort_by_key(|run| std::cmp::Reverse(run.len()));
        while files.len() > self.fan_in {
            // As few of the smallest as are needed to get down to the fan-in.
            let take = (files.len() - self.fan_in + 1).min(self.fan_in);
            let small = files.split_off(files.len() - take);
            let merged = self.merge(&small)?;
            self.spilled.fetch_add(merged.len(), Ordering::Relaxed);
            files.push(Arc::new(merged));
            files.sort_by_key(|run| std::cmp::Reverse(run.len()));
        }
        Ok(RunSet { files, memory: std::mem::take(&mut *self.memory.lock()) })
    }
}

fn cursors(
    runs: &[Arc<Run>],
    start: &[u8],
    end: &[u8],
    window: usize,
    budget: &MemoryBudget,
) -> io::Result<Vec<Cursor>> {
    let open = |run: &Arc<Run>| FileCursor::new(run.clone(), start, end, window, budget);
    runs.iter().map(|run| Ok(Cursor::File(Box::new(open(run)?)))).collect()
}

/// Runs that are complete.
pub(crate) struct RunSet {
    files: Vec<Arc<Run>>,
    memory: Vec<Arc<Sorted>>,
}

impl RunSet {
    /// Bytes of keys and payloads, about.
    pub(crate) fn bytes(&self) -> u64 {
        let files: u64 = self.files.iter().map(|run| run.len()).sum();
        files + self.memory.iter().map(|run| run.bytes()).sum::<u64>()
    }

    /// How many runs lie on disk.
    #[cfg(test)]
    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }

    /// Cursors over `[start, end)` of every run, an empty `end` being unbounded; a file through a window of `window`
    /// bytes.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn cursors(
        &self,
        start: &[u8],
        end: &[u8],
        window: usize,
        budget: &MemoryBudget,
    ) -> io::Result<Vec<Cursor>> {
        let mut all = cursors(&self.files, start, end, window, budget)?;
        let open = |run: &Arc<Sorted>| Cursor::Memory(MemoryCursor::new(run.clone(), start, end));
        all.extend(self.memory.iter().map(open));
        Ok(all)
    }

    /// Keys spread over the data, each with the bytes that it stands for.
    pub(crate) fn sample(&self) -> Vec<(Vec<u8>, u64)> {
        let mut keys = Vec::new();
        for run in &self.files {
            let share = run.len() / run.sample().count().max(1) as u64;
            keys.extend(run.sample().map(|key| (key.to_vec(), share)));
        }
        for run in &self.memory {
            let step = (run.len() / 64).max(1);
            let picks = (0..run.len()).step_by(step);
            keys.extend(
                picks
                    .filter_map(|i| run.get(i))
                    .map(|(key, payload)| (key.to_vec(), (step * (key.len() + payload.len())) as u64)),
            );
        }
        keys
    }
}
