//! Sorted records on disk, in unlinked temporary files: a crash leaves nothing behind.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use logtide_model::{MemoryBudget, Permit};

use super::record::{self, HEADER};

/// The most marks that a run keeps in memory, however long it is.
const MARKS: usize = 128;
/// Bytes between marks at first; doubled whenever a run has too many.
const MARK_STEP: u64 = 256 << 10;

/// A sorted run in a file.
pub(crate) struct Run {
    file: File,
    len: u64,
    marks: Vec<(Vec<u8>, u64)>,
}

impl Run {
    /// Bytes on disk.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Keys spread over the run, about evenly by bytes.
    pub(crate) fn sample(&self) -> impl Iterator<Item = &[u8]> {
        self.marks.iter().map(|(key, _)| &key[..])
    }

    /// A place at or before the first record whose key is not below `key`.
    fn seek(&self, key: &[u8]) -> u64 {
        let after = self.marks.partition_point(|(mark, _)| &mark[..] < key);
        after.checked_sub(1).map_or(0, |i| self.marks[i].1)
    }
}

/// Writes a run.
pub(crate) struct RunWriter {
    file: File,
    out: Vec<u8>,
    flushed: u64,
    step: u64,
    marks: Vec<(Vec<u8>, u64)>,
    _permit: Permit,
}

impl RunWriter {
    /// A new run in `dir`, written through a buffer of `buffer` bytes.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn create(dir: &Path, buffer: usize, budget: &MemoryBudget) -> io::Result<Self> {
        Ok(RunWriter {
            file: tempfile::tempfile_in(dir)?,
            out: Vec::with_capacity(buffer),
            flushed: 0,
            step: MARK_STEP,
            marks: Vec::new(),
            _permit: budget.force_acquire(buffer),
        })
    }

    /// Appends a record; keys come in order.
    pub(crate) fn push(&mut self, key: &[u8], payload: &[u8]) -> io::Result<()> {
        let at = self.flushed + self.out.len() as u64;
        if self.marks.last().is_none_or(|(_, last)| at - last >= self.step) {
            self.mark(key, at);
        }
        self.write(&record::header(key.len(), payload.len()))?;
        self.write(key)?;
        self.write(payload)
    }

    fn mark(&mut self, key: &[u8], at: u64) {
        if self.marks.len() == MARKS {
            let mut odd = true;
            self.marks.retain(|_| {
                odd = !odd;
                !odd
            });
            self.step *= 2;
        }
        self.marks.push((key.to_vec(), at));
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.out.len() + bytes.len() > self.out.capacity() {
            self.flush()?;
            if bytes.len() >= self.out.capacity() {
                self.flushed += bytes.len() as u64;
                return self.file.write_all(bytes);
            }
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushed += self.out.len() as u64;
        self.file.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<Run> {
        self.flush()?;
        Ok(Run { file: self.file, len: self.flushed, marks: self.marks })
    }
}

/// Walks over a run's records of a key range.
///
/// It holds a window of the file; the payload of a record longer than the window is read when it is asked for.
pub(crate) struct FileCursor {
    run: Arc<Run>,
    end: Vec<u8>,
    window: Vec<u8>,
    size: usize,
    base: u64,
    at: usize,
    lengths: (usize, usize),
    large: Option<Vec<u8>>,
    done: bool,
    budget: MemoryBudget,
    permit: Permit,
}

impl FileCursor {
    /// A cursor over keys in `[start, end)`; an empty `end` is unbounded. `size` is the window in bytes.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn new(run: Arc<Run>, start: &[u8], end: &[u8], size: usize, budget: &MemoryBudget) -> io::Result<Self> {
        let first = run.seek(start);
        let mut cursor = FileCursor {
            run,
            end: end.to_vec(),
            window: Vec::new(),
            size,
            base: 0,
            at: 0,
            lengths: (0, 0),
            large: None,
            done: false,
            budget: budget.clone(),
            permit: budget.force_acquire(size),
        };
        cursor.load(first)?;
        while cursor.key().is_some_and(|key| key < start) {
            cursor.advance()?;
        }
        Ok(cursor)
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        if self.done {
            return None;
        }
        let from = self.at + HEADER;
        Some(&self.window[from..from + self.lengths.0])
    }

    /// The payload of the record here.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn payload(&mut self) -> io::Result<&[u8]> {
        let from = self.at + HEADER + self.lengths.0;
        if from + self.lengths.1 <= self.window.len() {
            return Ok(&self.window[from..from + self.lengths.1]);
        }
        if self.large.is_none() {
            self.permit.resize(self.size.max(self.window.len()) + self.lengths.1);
            let mut large = vec![0; self.lengths.1];
            self.run.file.read_exact_at(&mut large, self.base + from as u64)?;
            self.large = Some(large);
        }
        Ok(self.large.as_deref().unwrap_or_default())
    }

    pub(crate) fn advance(&mut self) -> io::Result<()> {
        if self.large.take().is_some() {
            self.permit = self.budget.force_acquire(self.size.max(self.window.len()));
        }
        let next = self.base + (self.at + record::len(self.lengths.0, self.lengths.1)) as u64;
        self.load(next)
    }

    /// Moves to the record at `offset` of the file.
    fn load(&mut self, offset: u64) -> io::Result<()> {
        if offset >= self.run.len {
            self.done = true;
            return Ok(());
        }
        let in_window = offset.checked_sub(self.base).map(|n| n as usize).filter(|n| n + HEADER <= self.window.len());
        let complete = in_window.filter(|at| {
            let (key, payload) = record::lengths(&self.window[*at..]);
            at + record::len(key, payload) <= self.window.len()
        });
        self.at = match complete {
            Some(at) => at,
            None => self.refill(offset)?,
        };
        self.lengths = record::lengths(&self.window[self.at..]);
        self.done = !self.end.is_empty() && self.key().is_some_and(|key| key >= &self.end[..]);
        Ok(())
    }

    /// Puts the window at `offset`; its beginning, header and key are then in it.
    fn refill(&mut self, offset: u64) -> io::Result<usize> {
        let left = self.run.len - offset;
        self.read(offset, left.min(self.size as u64) as usize)?;
        let (key, _) = record::lengths(&self.window);
        if HEADER + key > self.window.len() {
            self.permit.resize(HEADER + key);
            self.read(offset, HEADER + key)?;
        }
        Ok(0)
    }

    fn read(&mut self, offset: u64, len: usize) -> io::Result<()> {
        self.base = offset;
        self.window.resize(len, 0);
        self.run.file.read_exact_at(&mut self.window, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn walk(cursor: &mut FileCursor) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut out = Vec::new();
        while let Some(key) = cursor.key().map(<[u8]>::to_vec) {
            out.push((key, cursor.payload().unwrap().to_vec()));
            cursor.advance().unwrap();
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_run_reads_back_whatever_the_window(
            mut records in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), prop::collection::vec(any::<u8>(), 0..200)), 0..100),
            window in 8usize..400, buffer in 1usize..300, from: Vec<u8>, to in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            let (dir, budget) = (tempfile::tempdir().unwrap(), MemoryBudget::new(0));
            records.sort();
            let mut writer = RunWriter::create(dir.path(), buffer, &budget).unwrap();
            records.iter().for_each(|(key, payload)| writer.push(key, payload).unwrap());
            let run = Arc::new(writer.finish().unwrap());
            let mut cursor = FileCursor::new(run, &from, &to, window, &budget).unwrap();
            records.retain(|(key, _)| *key >= from && (to.is_empty() || *key < to));
            prop_assert_eq!(walk(&mut cursor), records);
            drop(cursor);
            prop_assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn marks_stay_few_and_lead_to_the_key() {
        let (dir, budget) = (tempfile::tempdir().unwrap(), MemoryBudget::new(0));
        let mut writer = RunWriter::create(dir.path(), 1 << 20, &budget).unwrap();
        for i in 0..600u32 {
            writer.push(&i.to_be_bytes(), &[1; 200 << 10]).unwrap();
        }
        let run = Arc::new(writer.finish().unwrap());
        assert!(run.sample().count() <= MARKS && run.sample().count() > MARKS / 4);
        let mut cursor = FileCursor::new(run, &500u32.to_be_bytes(), b"", 4096, &budget).unwrap();
        assert_eq!(walk(&mut cursor).len(), 100);
    }
}
