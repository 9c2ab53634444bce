//! From sorted records to the records of the restored node: one record per version, and exactly the values that those
//! refer to.
//!
//! Write records come first, in key order; each commit of a value that is not in the record itself is noted as a
//! *reference* (key and start ts of the value). References are sorted like the values, and the two are walked side by
//! side: a value without reference is garbage, a reference without value is an error. No step holds more than the
//! records of one version in memory.

use std::cmp::Ordering;
use std::path::Path;

use logtide_model::codec::{CodecError, encode_var_u64, take_u8, take_var_u64};
use logtide_model::mvcc::Write;
use logtide_model::planted::Bug;
use logtide_model::{Cf, MemoryBudget, Permit, Ts, append_ts, split_ts, truncate_ts};

use crate::error::KeyText;
use crate::fetch::spill;
use crate::meter::Meter;
use crate::origin::Origin;
use crate::resolve::{Candidates, Testimony, Witnesses, write_order};
use crate::sort::{Merge, Sorter, record_len};
use crate::summary::Counts;
use crate::{RestoreError, SinkPart};

/// The sorter's kind of write records.
pub(crate) const WRITES: usize = 0;
/// The sorter's kind of values.
pub(crate) const DEFAULTS: usize = 1;

/// First payload byte of a reference. The cursors of references are given to the merge first, so that of equal keys
/// they come first.
const REFERENCE: u8 = 0;
/// First payload byte of a value.
pub(crate) const VALUE: u8 = 1;

/// What both passes share.
pub(crate) struct Join<'a, S> {
    pub(crate) sink: &'a mut S,
    pub(crate) counts: &'a mut Counts,
    pub(crate) meter: &'a Meter,
    pub(crate) temp_dir: &'a Path,
    pub(crate) budget: &'a MemoryBudget,
    pub(crate) scratch: Scratch,
}

/// What would be allocated, or counted in memory that threads share, for every record.
#[derive(Default)]
pub(crate) struct Scratch {
    key: Vec<u8>,
    payload: Vec<u8>,
    done: (u64, u64),
    expected: u64,
}

/// Progress is told after so many bytes.
const TELL: u64 = 64 << 10;

/// The records of one version, as far as they were seen: the winner of write records, or candidates for the value.
struct Version {
    key: Vec<u8>,
    write: Vec<u8>,
    witnesses: Witnesses,
    values: Candidates,
    permit: Permit,
}

impl Version {
    fn new(budget: &MemoryBudget) -> Self {
        let (key, write, permit) = (Vec::new(), Vec::new(), budget.force_acquire(0));
        Version { key, write, witnesses: Witnesses::default(), values: Candidates::default(), permit }
    }

    fn begin(&mut self, key: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.write.clear();
        self.witnesses.clear();
        self.values.clear();
    }

    fn set_write(&mut self, write: &[u8]) {
        self.write.clear();
        self.write.extend_from_slice(write);
    }

    fn add_value(&mut self, origin: Origin, value: &[u8]) {
        self.values.add(origin, value);
        if self.values.memory() != self.permit.bytes() {
            self.permit.resize(self.values.memory());
        }
    }
}

impl<S: SinkPart> Join<'_, S> {
    /// Walks over write records: one per version goes to the sink, references to values into `references`.
    pub(crate) fn writes(&mut self, merge: &mut Merge, references: &mut Sorter<1>) -> Result<(), RestoreError> {
        let mut version = Version::new(self.budget);
        while let Some(key) = merge.key() {
            version.begin(key);
            let mut first = true;
            while merge.key() == Some(&version.key[..]) {
                let payload = merge.payload().map_err(|e| spill(self.temp_dir, e))?;
                self.scratch.done.0 += record_len(version.key.len(), payload.len()) as u64;
                self.scratch.done.1 += 1;
                let fault = add_write(&mut version, payload, first).err();
                self.counts.dropped.duplicates += u64::from(!first);
                first = false;
                fault.map_or(Ok(()), |fault| Err(fault.of(&version.key)))?;
                merge.advance().map_err(|e| spill(self.temp_dir, e))?;
            }
            self.put_write(&version, references)?;
            if self.scratch.done.0 >= TELL {
                self.tell()?;
            }
        }
        self.tell()
    }

    fn tell(&mut self) -> Result<(), RestoreError> {
        let (bytes, records) = std::mem::take(&mut self.scratch.done);
        self.meter.expect(std::mem::take(&mut self.scratch.expected));
        self.meter.done(bytes, records)
    }

    fn put_write(&mut self, version: &Version, references: &mut Sorter<1>) -> Result<(), RestoreError> {
        let write = Write::parse(&version.write).map_err(|e| Fault::Codec(e).of(&version.key))?;
        if write.needs_default() {
            let (user, commit_ts) = split_ts(&version.key).map_err(|e| Fault::Codec(e).of(&version.key))?;
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
            references.push(0, key, &[&payload[..]]).map_err(|e| spill(self.temp_dir, e))?;
        }
        self.counts.writes += 1;
        self.put(Cf::Write, &version.key, &version.write)
    }

    /// Walks over references and values: each value that is referred to goes to the sink.
    pub(crate) fn defaults(&mut self, merge: &mut Merge) -> Result<(), RestoreError> {
        let mut version = Version::new(self.budget);
        while let Some(key) = merge.key() {
            let newer = Bug::RestoreDropsValue.is_planted() && truncate_ts(key).ok() == truncate_ts(&version.key).ok();
            version.begin(key);
            let (mut commit, mut values) = (None, 0);
            while merge.key() == Some(&version.key[..]) {
                let payload = merge.payload().map_err(|e| spill(self.temp_dir, e))?;
                self.scratch.done.0 += record_len(version.key.len(), payload.len()) as u64;
                self.scratch.done.1 += 1;
                let kind = add_default(&mut version, payload, &mut commit);
                values += u64::from(kind.map_err(|e| Fault::Codec(e).of(&version.key))? == VALUE);
                merge.advance().map_err(|e| spill(self.temp_dir, e))?;
            }
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

    /// Writes a value that the commit at `commit_ts` refers to, the best of `candidates`.
    fn put_value(&mut self, version: &Version, commit_ts: Ts, candidates: u64) -> Result<(), RestoreError> {
        let chosen = version.values.choose(&version.witnesses);
        let value = chosen.map_err(|_| ambiguous(&version.key, commit_ts))?;
        let value = value.ok_or_else(|| missing_value(&version.key, commit_ts))?;
        self.counts.dropped.duplicates += candidates - 1;
        self.counts.values += 1;
        self.put(Cf::Default, &version.key, value)
    }

    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
        self.counts.bytes += (key.len() + value.len()) as u64;
        self.sink.put(cf, key, value)
    }
}

/// What is wrong with a version.
enum Fault {
    Codec(CodecError),
    Irreconcilable,
}

impl From<CodecError> for Fault {
    fn from(e: CodecError) -> Self {
        Fault::Codec(e)
    }
}

impl Fault {
    fn of(self, key: &[u8]) -> RestoreError {
        let commit_ts = split_ts(key).map(|(_, ts)| ts).unwrap_or_default();
        match self {
            Fault::Irreconcilable => RestoreError::Conflict { key: KeyText::of_versioned(key), commit_ts },
            Fault::Codec(cause) => RestoreError::Malformed { key: KeyText::of_versioned(key), ts: commit_ts, cause },
        }
    }
}

fn missing_value(key: &[u8], commit_ts: Ts) -> RestoreError {
    let start_ts = split_ts(key).map(|(_, ts)| ts).unwrap_or_default();
    RestoreError::MissingValue { key: KeyText::of_versioned(key), start_ts, commit_ts }
}

fn ambiguous(key: &[u8], commit_ts: Ts) -> RestoreError {
    let start_ts = split_ts(key).map(|(_, ts)| ts).unwrap_or_default();
    RestoreError::AmbiguousValue { key: KeyText::of_versioned(key), start_ts, commit_ts }
}

/// Lets a write record compete.
fn add_write(version: &mut Version, mut payload: &[u8], first: bool) -> Result<(), Fault> {
    let store = take_var_u64(&mut payload)?;
    let new = Write::parse(payload)?;
    version.witnesses.add(store, Testimony::of(&new));
    if first {
        version.set_write(payload);
    } else if version.write != payload {
        let held = Write::parse(&version.write)?;
        let order = write_order((&new, payload), (&held, &version.write)).map_err(|_| Fault::Irreconcilable)?;
        if order == Ordering::Greater {
            version.set_write(payload);
        }
    }
    Ok(())
}

/// Lets a value compete, or notes a reference; which of the two it was.
fn add_default(version: &mut Version, mut payload: &[u8], commit: &mut Option<Ts>) -> Result<u8, CodecError> {
    let kind = take_u8(&mut payload)?;
    if kind == REFERENCE {
        *commit = Some(Ts::new(take_var_u64(&mut payload)?));
        while !payload.is_empty() {
            let witness = take_var_u64(&mut payload)?;
            let testimony = if witness & 1 == 1 { Testimony::Commit } else { Testimony::Rewritten };
            version.witnesses.add(witness >> 1, testimony);
        }
    } else if commit.is_some() {
        let origin = Origin::take(&mut payload)?;
        version.add_value(origin, payload);
    }
    Ok(kind)
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
            let mut join = Join { sink, counts, meter: &meter, temp_dir, budget: &budget, scratch };
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
