//! From sorted records to the records of the restored node: one record per version, and exactly the values that those
//! refer to.
//!
//! Write records come first, in key order; each commit of a value that is not in the record itself is noted as a
//! *reference* (key and start ts of the value). References are sorted like the values, and the two are walked side by
//! side: a value without reference is garbage, a reference without value is an error. No step holds more than the
//! records of one version in memory.

use std::path::Path;

use logtide_model::codec::encode_var_u64;
use logtide_model::mvcc::Write;
use logtide_model::planted::Bug;
use logtide_model::{Cf, MemoryBudget, Ts, append_ts, truncate_ts};

use crate::fetch::spill;
use crate::lost::{LostCommits, as_delete};
use crate::memory::Means;
use crate::meter::Meter;
use crate::resolve::Testimony;
use crate::sort::{Merge, Sorter, record_len};
use crate::summary::Counts;
use crate::version::{REFERENCE, VALUE, Version};
use crate::{RestoreError, SinkPart};

/// The sorter's kind of write records.
pub(crate) const WRITES: usize = 0;
/// The sorter's kind of values.
pub(crate) const DEFAULTS: usize = 1;

/// What both passes share.
pub(crate) struct Join<'a, S> {
    pub(crate) sink: &'a mut S,
    pub(crate) counts: &'a mut Counts,
    pub(crate) meter: &'a Meter,
    pub(crate) temp_dir: &'a Path,
    pub(crate) budget: &'a MemoryBudget,
    /// Commits whose values are known to be lost; `None` where none may be.
    pub(crate) lost: Option<LostCommits>,
    pub(crate) scratch: Scratch,
}

/// What would be allocated, or counted in memory that threads share, for every record.
#[derive(Default)]
pub(crate) struct Scratch {
    key: Vec<u8>,
    payload: Vec<u8>,
    pub(crate) done: (u64, u64),
    pub(crate) expected: u64,
}

/// Progress is told after so many bytes.
pub(crate) const TELL: u64 = 64 << 10;

impl<'a, S: SinkPart> Join<'a, S> {
    pub(crate) fn new(sink: &'a mut S, counts: &'a mut Counts, meter: &'a Meter, means: &'a Means) -> Self {
        let (temp_dir, budget) = (&means.temp_dir, &means.budget);
        Join { sink, counts, meter, temp_dir, budget, lost: None, scratch: Scratch::default() }
    }

    /// Walks over write records: one per version goes to the sink, references to values into `references`.
    pub(crate) fn writes(&mut self, merge: &mut Merge, references: &mut Sorter<1>) -> Result<(), RestoreError> {
        let mut version = Version::new(self.budget);
        while self.next_write(merge, &mut version)? {
            self.put_write(&version, references)?;
            if self.scratch.done.0 >= TELL {
                self.tell()?;
            }
        }
        self.tell()
    }

    /// Reads all write records of the next version; false if there is none.
    pub(crate) fn next_write(&mut self, merge: &mut Merge, version: &mut Version) -> Result<bool, RestoreError> {
        let Some(key) = merge.key() else { return Ok(false) };
        version.begin(key);
        let mut first = true;
        while merge.key() == Some(&version.key[..]) {
            let payload = merge.payload().map_err(|e| spill(self.temp_dir, e))?;
            self.scratch.done.0 += record_len(version.key.len(), payload.len()) as u64;
            self.scratch.done.1 += 1;
            version.add_write(payload, first)?;
            self.counts.dropped.duplicates += u64::from(!first);
            first = false;
            merge.advance().map_err(|e| spill(self.temp_dir, e))?;
        }
        Ok(true)
    }

    pub(crate) fn tell(&mut self) -> Result<(), RestoreError> {
        let (bytes, records) = std::mem::take(&mut self.scratch.done);
        self.meter.expect(std::mem::take(&mut self.scratch.expected));
        self.meter.done(bytes, records)
    }

    fn put_write(&mut self, version: &Version, references: &mut Sorter<1>) -> Result<(), RestoreError> {
        let write = version.write()?;
        self.counts.writes += 1;
        if write.needs_default() {
            if self.is_lost(&version.key)? {
                self.counts.lost_values += 1;
                return self.put(Cf::Write, &version.key, &as_delete(&write));
            }
            self.refer(version, &write, references)?;
        }
        self.put(Cf::Write, &version.key, &version.write)
    }

    fn is_lost(&mut self, key: &[u8]) -> Result<bool, RestoreError> {
        self.lost.as_mut().map_or(Ok(false), |lost| lost.has(key)).map_err(|e| spill(self.temp_dir, e))
    }

    /// Notes that a commit refers to a value.
    pub(crate) fn refer(
        &mut self,
        version: &Version,
        write: &Write<'_>,
        references: &mut Sorter<1>,
    ) -> Result<(), RestoreError> {
        let (user, commit_ts) = version.user()?;
        let Scratch { key, payload, expected, .. } = &mut self.scratch;
        key.clear();
        key.extend_from_slice(user);
        append_ts(key, write.start_ts);
        payload.clear();
        payload.push(REFERENCE);
        encode_var_u64(commit_ts.get(), payload);
        for (store, testimony) in version.witnesses.iter() {
            encode_var_u64(store << 1 | u64::from(testimony == Testimony::Commit), payload);
        }
        *expected += record_len(key.len(), payload.len()) as u64;
        references.push(0, key, &[&payload[..]]).map_err(|e| spill(self.temp_dir, e))
    }

    /// Walks over references and values: each value that is referred to goes to the sink.
    pub(crate) fn defaults(&mut self, merge: &mut Merge) -> Result<(), RestoreError> {
        let mut version = Version::new(self.budget);
        while let Some(key) = merge.key() {
            let newer = Bug::RestoreDropsValue.is_planted() && truncate_ts(key).ok() == truncate_ts(&version.key).ok();
            let Some((commit, values)) = self.next_value(merge, &mut version)? else { break };
            match commit {
                _ if newer => {}
                None => self.counts.dropped.unreferenced_values += values,
                Some(commit_ts) => self.put_value(&version, commit_ts, values)?,
            }
            if self.scratch.done.0 >= TELL {
                self.tell()?;
            }
        }
        self.tell()
    }

    /// Reads all that there is about the next value: the commit that refers to it, and how many there are; `None` if there
    /// is no more.
    pub(crate) fn next_value(
        &mut self,
        merge: &mut Merge,
        version: &mut Version,
    ) -> Result<Option<(Option<Ts>, u64)>, RestoreError> {
        let Some(key) = merge.key() else { return Ok(None) };
        version.begin(key);
        let (mut commit, mut values) = (None, 0);
        while merge.key() == Some(&version.key[..]) {
            let payload = merge.payload().map_err(|e| spill(self.temp_dir, e))?;
            self.scratch.done.0 += record_len(version.key.len(), payload.len()) as u64;
            self.scratch.done.1 += 1;
            values += u64::from(version.add_default(payload, &mut commit)? == VALUE);
            merge.advance().map_err(|e| spill(self.temp_dir, e))?;
        }
        Ok(Some((commit, values)))
    }

    /// Writes a value that the commit at `commit_ts` refers to, the best of `candidates`.
    fn put_value(&mut self, version: &Version, commit_ts: Ts, candidates: u64) -> Result<(), RestoreError> {
        let value = version.value(commit_ts)?;
        self.counts.dropped.duplicates += candidates - 1;
        self.counts.values += 1;
        self.put(Cf::Default, &version.key, value)
    }

    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
        self.counts.bytes += (key.len() + value.len()) as u64;
        self.sink.put(cf, key, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::FileOrigin;
    use crate::sort::{Runs, Sorter};
    use logtide_model::encode_raw_key;
    use logtide_model::mvcc::WriteKind;
    use proptest::prelude::*;
    use std::sync::Arc;

    type Out = Vec<(Cf, Vec<u8>, Vec<u8>)>;

    impl SinkPart for Out {
        type Done = Out;

        fn finish(self) -> Result<(Out, crate::Made), RestoreError> {
            Ok((self, crate::Made::default()))
        }

        fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
            self.push((cf, key.to_vec(), value.to_vec()));
            Ok(())
        }
    }

    fn versioned(raw: u8, ts: u64) -> Vec<u8> {
        let mut key = encode_raw_key(&[raw]);
        append_ts(&mut key, Ts::new(ts));
        key
    }

    /// A commit of the key at `ts` with a long value written `times` times, logged by store 1, and a late copy of a
    /// first value by store 2.
    fn push_commit(sorter: &mut Sorter<2>, raw: u8, ts: u64, times: u64, value: &[u8]) {
        let write = Write::new(WriteKind::Put, Ts::new(ts - 1), None).to_bytes();
        sorter.push(WRITES, &versioned(raw, ts), &[&[1], &write]).unwrap();
        for n in 0..=times {
            let (store, flush_ts) = if n == 0 { (2, 999) } else { (1, n) };
            let file = FileOrigin { store, flush_ts, boot: 0, generation: 0, version: 0, file: 0 };
            let mut front = vec![VALUE];
            file.encode(&mut front);
            encode_var_u64(n, &mut front);
            let text = if n == times { value.to_vec() } else { vec![n as u8; 40] };
            sorter.push(DEFAULTS, &versioned(raw, ts - 1), &[&front, &text]).unwrap();
        }
    }

    /// Joins commits with sort buffers of `limit` bytes, in the key ranges that `cuts` make.
    fn joined(commits: &[(u8, u64, u64, Vec<u8>)], limit: usize, cuts: &[u8]) -> (Out, Counts, MemoryBudget) {
        let (dir, budget) = (tempfile::tempdir().unwrap(), MemoryBudget::new(0));
        let runs = || Arc::new(Runs::new(dir.path().to_owned(), 2, 64, budget.clone()));
        let sorted = [runs(), runs()];
        let mut sorter = Sorter::new(sorted.clone(), limit, &budget);
        commits.iter().for_each(|(raw, ts, times, value)| push_commit(&mut sorter, *raw, *ts, *times, value));
        sorter.finish();
        let [writes, defaults] = sorted.map(|runs| runs.finish().unwrap());
        let (mut out, mut counts, meter) = (Out::new(), Counts::default(), Meter::default());
        let bound = |cut: Option<&u8>| cut.map_or(Vec::new(), |raw| encode_raw_key(&[*raw]));
        for i in 0..=cuts.len() {
            let (start, end) = (bound(i.checked_sub(1).and_then(|i| cuts.get(i))), bound(cuts.get(i)));
            let cursors = |set: &crate::sort::RunSet| set.cursors(&start, &end, 64, &budget).unwrap();
            let references = runs();
            let mut sorter = Sorter::new([references.clone()], limit, &budget);
            let (sink, counts, temp_dir) = (&mut out, &mut counts, dir.path());
            let scratch = Scratch::default();
            let mut join = Join { sink, counts, meter: &meter, temp_dir, budget: &budget, lost: None, scratch };
            join.writes(&mut Merge::new(cursors(&writes)), &mut sorter).unwrap();
            sorter.finish();
            let mut both = cursors(&references.finish().unwrap());
            both.extend(cursors(&defaults));
            join.defaults(&mut Merge::new(both)).unwrap();
        }
        drop((writes, defaults));
        out.sort();
        (out, counts, budget)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn spilling_and_partitions_change_nothing(
            commits in prop::collection::btree_map((any::<u8>(), 1u64..9), (1u64..4, prop::collection::vec(any::<u8>(), 1..300)), 0..40),
            mut cuts in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            cuts.sort_unstable();
            cuts.dedup();
            // Start and commit ts of different transactions differ.
            let commits: Vec<_> = commits.into_iter().map(|((raw, ts), (times, value))| (raw, ts * 2, times, value)).collect();
            let (in_memory, counts, _) = joined(&commits, usize::MAX, &[]);
            let (spilled, spilled_counts, budget) = joined(&commits, 0, &cuts);
            prop_assert_eq!(&in_memory, &spilled);
            prop_assert_eq!(counts, spilled_counts);
            prop_assert_eq!(budget.used(), 0);
            let values: Vec<_> = in_memory.into_iter().filter(|(cf, ..)| *cf == Cf::Default).map(|(_, k, v)| (k, v)).collect();
            let mut want: Vec<_> = commits.into_iter().map(|(raw, ts, _, value)| (versioned(raw, ts - 1), value)).collect();
            want.sort();
            prop_assert_eq!(values, want);
        }
    }
}
