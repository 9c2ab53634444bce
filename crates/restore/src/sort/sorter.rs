//! A thread's share of the sort: one buffer for each column family under one limit.

use std::io;
use std::sync::Arc;

use logtide_model::MemoryBudget;

use super::buffer::Buffer;
use super::runs::Runs;

/// Collects records of `N` kinds; the largest buffer is spilled when together they would pass the limit.
pub(crate) struct Sorter<const N: usize> {
    buffers: [Buffer; N],
    runs: [Arc<Runs>; N],
    limit: usize,
    budget: MemoryBudget,
}

impl<const N: usize> Sorter<N> {
    /// Buffers of `limit` bytes together, spilling into `runs`.
    pub(crate) fn new(runs: [Arc<Runs>; N], limit: usize, budget: &MemoryBudget) -> Self {
        let buffers = std::array::from_fn(|_| Buffer::new(budget));
        Sorter { buffers, runs, limit, budget: budget.clone() }
    }

    /// Adds a record whose payload is the concatenation of `payload`.
    ///
    /// # Errors
    /// What spilling says.
    pub(crate) fn push(&mut self, kind: usize, key: &[u8], payload: &[&[u8]]) -> io::Result<()> {
        let cost = self.buffers[kind].cost(key.len(), payload.iter().map(|p| p.len()).sum());
        let used: usize = self.buffers.iter().map(Buffer::bytes).sum();
        if used + cost > self.limit {
            self.spill_until(self.limit.saturating_sub(cost))?;
        }
        self.buffers[kind].push(key, payload);
        Ok(())
    }

    /// Writes what is in memory to disk.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn spill(&mut self) -> io::Result<()> {
        self.spill_until(0)
    }

    fn spill_until(&mut self, left: usize) -> io::Result<()> {
        while self.buffers.iter().map(Buffer::bytes).sum::<usize>() > left {
            let Some(largest) = (0..N).max_by_key(|i| self.buffers[*i].bytes()) else { return Ok(()) };
            if self.buffers[largest].is_empty() {
                return Ok(());
            }
            let full = std::mem::replace(&mut self.buffers[largest], Buffer::new(&self.budget));
            self.runs[largest].spill(&full.sort())?;
        }
        Ok(())
    }

    /// Hands over what is still in memory, sorted.
    pub(crate) fn finish(self) {
        for (buffer, runs) in self.buffers.into_iter().zip(&self.runs) {
            runs.keep(buffer.sort());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sort::Merge;

    #[test]
    fn sorts_more_than_memory_in_tiers_within_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let budget = MemoryBudget::new(0);
        let limit = 4 << 20;
        let runs: [_; 1] = [Arc::new(Runs::new(dir.path().to_owned(), 3, 64 << 10, budget.clone()))];
        let mut sorter = Sorter::new(runs.clone(), limit, &budget);
        let n = 120_000u64;
        for i in 0..n {
            let key = (i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
            sorter.push(0, &key, &[&i.to_le_bytes(), &[0; 300]]).unwrap();
        }
        sorter.finish();
        let set = runs[0].finish().unwrap();
        assert!(set.files() <= 3 && runs[0].spilled() > 60 << 20, "{} {}", set.files(), runs[0].spilled());
        assert!(budget.peak() < limit + 6 * (64 << 10), "{}", budget.peak());
        let mut merge = Merge::new(set.cursors(b"", b"", 64 << 10, &budget).unwrap());
        let (mut seen, mut last) = (0, 0);
        while let Some(key) = merge.key().and_then(|k| k.first_chunk().copied()).map(u64::from_be_bytes) {
            assert!(key >= last);
            (last, seen) = (key, seen + 1);
            merge.advance().unwrap();
        }
        assert_eq!(seen, n);
    }
}
