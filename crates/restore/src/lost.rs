//! Values that a range delete removed before they were backed up, though the commits that refer to them were.
//!
//! Whoever allows an inexact restore gets everything else: such a commit is restored as a delete, so that no older version
//! shows through and nothing refers to a value that is not there. Write records go to the sink before any value is
//! seen, so these commits are searched for first, and only in key ranges that a mark tells of. A value that is missing
//! anywhere else, or that no mark's interval explains, is an error as ever. Marks and what is found are sorted on disk.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use logtide_format::{Mark, MarkKind};
use logtide_model::codec::{CodecError, encode_var_u64, take_var_u64};
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{Cf, KeyRange, Ts, append_ts};

use crate::fetch::spill;
use crate::join::{Join, TELL};
use crate::memory::Means;
use crate::sort::{Cursor, Merge, RunSet, Runs, Sorter};
use crate::version::Version;
use crate::{RestoreError, SinkPart};

/// Collects marks of range deletes.
pub(crate) struct Gather<'a> {
    runs: [Arc<Runs>; 1],
    sorter: Sorter<1>,
    temp_dir: &'a Path,
    count: u64,
}

impl<'a> Gather<'a> {
    pub(crate) fn new(means: &'a Means) -> Self {
        let runs = [Arc::new(means.runs())];
        let sorter = Sorter::new(runs.clone(), means.shares.references, &means.budget);
        Gather { runs, sorter, temp_dir: &means.temp_dir, count: 0 }
    }

    /// Keeps the mark, if what it tells of may have removed values.
    pub(crate) fn add(&mut self, mark: &Mark) -> Result<(), RestoreError> {
        if mark.kind != MarkKind::RangeDelete || mark.cf != Cf::Default {
            return Ok(());
        }
        let mut interval = Vec::new();
        encode_var_u64(mark.after.get(), &mut interval);
        encode_var_u64(mark.before.get(), &mut interval);
        self.count += 1;
        self.sorter.push(0, &mark.range.start, &[&interval, &mark.range.end]).map_err(|e| spill(self.temp_dir, e))
    }

    /// All of them, if there are some. They take no memory until they are read.
    pub(crate) fn finish(mut self) -> Result<Option<Removed>, RestoreError> {
        if self.count == 0 {
            return Ok(None);
        }
        let ranges = self.sorter.spill().and_then(|()| self.runs[0].finish());
        Ok(Some(Removed(ranges.map_err(|e| spill(self.temp_dir, e))?)))
    }
}

/// The key ranges whose values range deletes removed: sorted by their start, and they may overlap.
pub(crate) struct Removed(RunSet);

impl fmt::Debug for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Removed").field("bytes", &self.0.bytes()).finish()
    }
}

impl Removed {
    /// True if there are encoded keys in `[start, end)` whose values may be lost; an empty `end` is unbounded.
    pub(crate) fn overlaps(&self, start: &[u8], end: &[u8], means: &Means) -> Result<bool, RestoreError> {
        let mut ranges = self.below(end, means)?;
        while let Some(range) = ranges.next().map_err(|e| spill(&means.temp_dir, e))? {
            if range.keys.end.is_empty() || &range.keys.end[..] > start {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Those that begin below `end`.
    pub(crate) fn below(&self, end: &[u8], means: &Means) -> Result<Ranges, RestoreError> {
        let cursors = self.0.cursors(b"", end, means.shares.window, &means.budget);
        Ok(Ranges { merge: Merge::new(cursors.map_err(|e| spill(&means.temp_dir, e))?), hull: None })
    }
}

/// A key range whose values were removed when everything up to `after` was durable, and before `before` was taken.
struct Range {
    keys: KeyRange,
    after: Ts,
    before: Ts,
}

impl Range {
    fn parse(start: &[u8], mut payload: &[u8]) -> Result<Range, CodecError> {
        let (after, before) = (take_var_u64(&mut payload)?, take_var_u64(&mut payload)?);
        let keys = KeyRange::new(start.to_vec(), payload.to_vec());
        Ok(Range { keys, after: Ts::new(after), before: Ts::new(before) })
    }

    /// Takes in one that begins not before it. Of overlapping ranges the intervals are not told apart: one range is all
    /// that is held, however many there are.
    fn join(mut self, next: Range) -> Range {
        if !self.keys.overlaps(&next.keys) {
            return next;
        }
        if !self.keys.covers(&next.keys) {
            self.keys.end = next.keys.end;
        }
        Range { keys: self.keys, after: self.after.min(next.after), before: self.before.max(next.before) }
    }
}

/// Walks over [`Removed`].
pub(crate) struct Ranges {
    merge: Merge,
    hull: Option<Range>,
}

impl Ranges {
    fn next(&mut self) -> io::Result<Option<Range>> {
        let Some(start) = self.merge.key().map(<[u8]>::to_vec) else { return Ok(None) };
        let range = Range::parse(&start, self.merge.payload()?).map_err(io::Error::other)?;
        self.merge.advance()?;
        Ok(Some(range))
    }

    /// True if the long value of a version may have been removed before it was backed up. Keys come in order.
    fn explain(&mut self, user: &[u8], commit_ts: Ts, start_ts: Ts) -> io::Result<bool> {
        while self.merge.key().is_some_and(|start| start <= user) {
            if let Some(next) = self.next()? {
                self.hull = Some(match self.hull.take() {
                    Some(hull) => hull.join(next),
                    None => next,
                });
            }
        }
        // A commit up to `after` has its value in the backup, and a value that was written after `before` was not there yet.
        let explains = |range: &Range| range.keys.contains(user) && range.after < commit_ts && start_ts < range.before;
        Ok(self.hull.as_ref().is_some_and(explains))
    }
}

/// The commits that were found, by encoded key with commit ts.
pub(crate) struct LostCommits(Merge);

impl LostCommits {
    pub(crate) fn new(found: Vec<Cursor>) -> Self {
        LostCommits(Merge::new(found))
    }

    /// True if the commit at `key` is one of them. Keys come in order.
    pub(crate) fn has(&mut self, key: &[u8]) -> io::Result<bool> {
        while self.0.key().is_some_and(|lost| lost < key) {
            self.0.advance()?;
        }
        Ok(self.0.key() == Some(key))
    }
}

/// What is restored in the place of a commit whose value is lost.
pub(crate) fn as_delete(write: &Write<'_>) -> Vec<u8> {
    Write { kind: WriteKind::Delete, ..write.clone() }.to_bytes()
}

impl<S: SinkPart> Join<'_, S> {
    /// Walks over write records as [`Join::writes`] does, but puts nothing, and makes references only to values that may be
    /// lost.
    pub(crate) fn suspects(
        &mut self,
        merge: &mut Merge,
        removed: &mut Ranges,
        out: &mut Sorter<1>,
    ) -> Result<(), RestoreError> {
        let mut version = Version::new(self.budget);
        while self.next_write(merge, &mut version)? {
            let (write, (user, commit_ts)) = (version.write()?, version.user()?);
            let is_suspect = write.needs_default()
                && removed.explain(user, commit_ts, write.start_ts).map_err(|e| spill(self.temp_dir, e))?;
            if is_suspect {
                self.refer(&version, &write, out)?;
            }
            self.tell_more()?;
        }
        Ok(())
    }

    /// Walks over references and values: a commit that refers to a value that is not there goes to `lost`.
    pub(crate) fn search(&mut self, merge: &mut Merge, lost: &mut Sorter<1>) -> Result<(), RestoreError> {
        let (mut version, mut key) = (Version::new(self.budget), Vec::new());
        while let Some((commit, values)) = self.next_value(merge, &mut version)? {
            if let Some(commit_ts) = commit.filter(|_| values == 0) {
                key.clear();
                key.extend_from_slice(version.user()?.0);
                append_ts(&mut key, commit_ts);
                lost.push(0, &key, &[]).map_err(|e| spill(self.temp_dir, e))?;
            }
            self.tell_more()?;
        }
        Ok(())
    }

    /// The search comes on top of what was expected.
    fn tell_more(&mut self) -> Result<(), RestoreError> {
        if self.scratch.done.0 < TELL {
            return Ok(());
        }
        self.scratch.expected = self.scratch.done.0;
        self.tell()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RestoreOptions;
    use proptest::prelude::*;

    proptest! {
        /// However marks overlap: what one of them explains is explained, and nothing outside of all.
        #[test]
        fn marks_explain_what_any_of_them_does(
            marks in prop::collection::vec((0u8..30, 1u8..9, 0u64..50, 0u64..50), 0..12),
            asked in prop::collection::btree_set((0u8..40, 0u64..60), 0..40),
        ) {
            let means = Means::new(&RestoreOptions::for_sink(), &std::env::temp_dir());
            let mut gather = Gather::new(&means);
            let marks: Vec<_> = marks.into_iter().map(|(start, len, after, long)| {
                let (after, before, range) = (Ts::new(after), Ts::new(after + long), KeyRange::new(vec![start], vec![start + len]));
                Mark { kind: MarkKind::RangeDelete, region_id: 1, version: 1, cf: Cf::Default, range, after, before }
            }).collect();
            marks.iter().for_each(|mark| gather.add(mark).unwrap());
            let removed = gather.finish().unwrap();
            prop_assert_eq!(removed.is_some(), !marks.is_empty());
            prop_assert_eq!(means.budget.used(), 0);
            let Some(removed) = removed else { return Ok(()) };
            let mut ranges = removed.below(b"", &means).unwrap();
            for (user, commit) in asked {
                let (commit_ts, start_ts) = (Ts::new(commit + 2), Ts::new(commit));
                let explained = ranges.explain(&[user], commit_ts, start_ts).unwrap();
                let covers: Vec<_> = marks.iter().filter(|mark| mark.range.contains(&[user])).collect();
                let explains = |mark: &&Mark| mark.after < commit_ts && start_ts < mark.before;
                prop_assert!(explained || !covers.iter().any(explains), "{} {}", user, commit);
                prop_assert!(!explained || !covers.is_empty(), "{} {}", user, commit);
                let end = user + 1;
                prop_assert_eq!(removed.overlaps(&[user], &[end], &means).unwrap(), !covers.is_empty());
            }
        }
    }
}
