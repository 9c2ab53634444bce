//! The truth: every version that any store applied, in the terms of a reader. It looks at what raft applied and knows
//! nothing of the backup, but for one thing: up to where the backup says that it is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use logtide_format::Mark;
use logtide_mock_raftstore::Cluster;
use logtide_mock_raftstore::pd::Pd;
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{
    ApplyBatch, Cf, KeyRange, Op, RaftObserver, Region, RegionChange, RegionId, Role, Term, Ts, split_ts,
};
use parking_lot::Mutex;

/// A committed change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// The transaction.
    pub(crate) start_ts: Ts,
    /// True for a value, false for a deletion.
    pub(crate) put: bool,
    /// The value, if the record has it in itself.
    short: Option<Bytes>,
    /// Where it was seen first.
    pub(crate) seen: Seen,
    /// When it was removed past MVCC.
    removed: Option<Removal>,
}

/// Where a version was seen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The region.
    pub(crate) region_id: RegionId,
    /// The last index of the batch.
    pub(crate) index: u64,
    /// The term of the store that told it.
    pub(crate) term: Term,
}

/// When a range was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Removal {
    /// A read up to here was before it …
    asked: Ts,
    /// … and one from here on after it; `None` until some store did it.
    done: Option<Ts>,
}

/// A range delete that was asked for.
#[derive(Clone, Debug)]
struct RangeDelete {
    range: KeyRange,
    when: Removal,
}

/// What a reader may see of a key: its value and where it was committed, as it was right before the range deletes that may
/// have been under way at its ts, or right after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) before: Option<(Ts, Bytes)>,
    pub(crate) after: Option<(Ts, Bytes)>,
}

/// See the module. Cloning shares it.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By encoded key, then commit ts.
    versions: BTreeMap<Bytes, BTreeMap<Ts, Version>>,
    /// By encoded key and start ts.
    values: BTreeMap<(Bytes, Ts), Bytes>,
    /// Everything at or below was said to be complete.
    complete: Ts,
    lies: Vec<String>,
    count: u64,
    /// Who can read ingested files.
    cluster: Option<Cluster>,
    /// The files that were read.
    files: BTreeSet<String>,
    /// In the order in which they were asked for. No two end at the same key.
    range_deletes: Vec<RangeDelete>,
    /// Who knows what time it is.
    pd: Option<Pd>,
}

impl History {
    /// The backup says that it has everything at or below `ts`; a new version at or below it is a lie from now on.
    pub fn completed(&self, ts: Ts) {
        let mut state = self.0.lock();
        state.complete = state.complete.max(ts);
    }

    /// Nothing is said to be complete any more: another task begins.
    pub fn forget_completed(&self) {
        self.0.lock().complete = Ts::ZERO;
    }

    /// Versions that came into being below what was said to be complete.
    pub fn lies(&self) -> Vec<String> {
        self.0.lock().lies.clone()
    }

    /// How many versions there are.
    pub fn versions(&self) -> u64 {
        self.0.lock().count
    }

    /// What a reader at `ts` sees, by encoded key.
    pub(crate) fn visible(&self, ts: Ts) -> BTreeMap<Bytes, Truth> {
        let state = self.0.lock();
        let mut visible = BTreeMap::new();
        for key in state.versions.keys() {
            let before = state.newest(key, ts, |removal| removal.done.is_some_and(|done| done <= ts));
            let after = state.newest(key, ts, |removal| removal.asked <= ts);
            if before.is_some() || after.is_some() {
                visible.insert(key.clone(), Truth { before, after });
            }
        }
        visible
    }

    /// All keys that were ever written, encoded.
    pub(crate) fn keys(&self) -> Vec<Bytes> {
        self.0.lock().versions.keys().cloned().collect()
    }

    /// True if a forced restore to `ts` may have `found` at an encoded key where the log cannot tell what was. A key whose
    /// newest change began after every range delete of it is exact; any other has nothing, or a value that it once had.
    pub(crate) fn allows(&self, key: &Bytes, ts: Ts, found: Option<&[u8]>) -> bool {
        let state = self.0.lock();
        let Some(versions) = state.versions.get(key) else { return found.is_none() };
        let value = |version: &Version| version.put.then(|| state.value(key, version));
        let is_after = |version: &Version| {
            let mut deletes = state.range_deletes.iter().filter(|delete| delete.range.contains(key));
            deletes.all(|delete| delete.when.done.is_some_and(|done| done <= version.start_ts))
        };
        let mut versions = versions.range(..=ts).map(|(_, version)| version).rev().peekable();
        match (versions.peek(), found) {
            (Some(newest), _) if is_after(newest) => value(newest).as_deref() == found,
            (_, None) => true,
            (_, Some(found)) => versions.filter_map(value).any(|value| value == found),
        }
    }

    /// Somebody is about to delete a range of encoded keys; no other range delete ends there.
    pub(crate) fn will_delete(&self, range: KeyRange) {
        let state = &mut *self.0.lock();
        let asked = state.now();
        state.range_deletes.push(RangeDelete { range, when: Removal { asked, done: None } });
    }

    /// True if somebody asked for a range delete.
    pub(crate) fn has_range_deletes(&self) -> bool {
        !self.0.lock().range_deletes.is_empty()
    }

    /// Why a mark is none that there may be: what it tells of did not happen, or at another time.
    pub(crate) fn fault_of(&self, mark: &Mark) -> Option<String> {
        let state = self.0.lock();
        let exact = state.range_deletes.iter().find(|delete| delete.range.end == mark.range.end);
        let is_then =
            |delete: &RangeDelete| delete.when.done.is_some_and(|done| mark.after < done && done <= mark.before);
        let holds = exact.map_or_else(|| state.range_deletes.iter().any(is_then), is_then);
        (!holds).then(|| format!("{mark:?} tells of no range delete: {:?}", state.range_deletes))
    }

    /// A moment at or below `upto`: `u32::MAX` for `upto` itself, else at, right below or right above one of the commits.
    pub fn moment(&self, upto: Ts, n: u32) -> Ts {
        let state = self.0.lock();
        let mut commits: Vec<Ts> = state.versions.values().flat_map(|v| v.range(..=upto).map(|(ts, _)| *ts)).collect();
        commits.sort_unstable();
        match commits.len() {
            some if n != u32::MAX && some > 0 && !n.is_multiple_of(4) => {
                let commit = commits[n as usize / 4 % some];
                let near = [commit, commit.prev(), commit.next()][n as usize % 3];
                near.min(upto)
            }
            _ => upto,
        }
    }

    /// What is known about a key, for reports.
    pub fn explain(&self, key: &[u8]) -> String {
        let state = self.0.lock();
        let versions = state.versions.get(key).into_iter().flatten();
        versions
            .map(|(ts, v)| format!("commit {ts} start {} put {} {:?} {:?}; ", v.start_ts, v.put, v.seen, v.removed))
            .collect()
    }

    /// Ingested files are read from these; they hold the cluster, which holds its observers, so somebody has to
    /// call this with none in the end.
    pub(crate) fn read_files_from(&self, cluster: Option<Cluster>) {
        self.0.lock().cluster = cluster;
    }

    /// The time is asked here.
    pub(crate) fn ask_the_time(&self, pd: &Pd) {
        self.0.lock().pd = Some(pd.clone());
    }

    /// Every store has the file while it is told of it, with the same content.
    fn ingested(&self, cf: Cf, path: &str, seen: Seen) {
        let cluster = {
            let state = self.0.lock();
            if state.files.contains(path) {
                return;
            }
            state.cluster.clone()
        };
        let read =
            |cluster: &Cluster| cluster.stores().into_iter().find_map(|store| cluster.ingested_file(store, path).ok());
        match cluster.as_ref().and_then(read) {
            Some(records) => {
                for (key, value) in records.iter().cloned() {
                    self.record(&Op::Put { cf, key, value }, seen);
                }
                self.0.lock().files.insert(path.to_owned());
            }
            None => self.0.lock().lies.push(format!("nobody can read the file {path}, which was ingested in {seen:?}")),
        }
    }

    fn record(&self, op: &Op, seen: Seen) {
        match op {
            Op::IngestSst { cf, path, .. } => self.ingested(*cf, path, seen),
            Op::DeleteRange { cf: Cf::Write, start, end } => self.0.lock().remove(start, end),
            Op::Put { cf: Cf::Write, key, value } => self.write(key, value, seen),
            Op::Put { cf: Cf::Default, key, value } => {
                if let Ok((key, start_ts)) = split_ts(key) {
                    self.0.lock().values.insert((Bytes::copy_from_slice(key), start_ts), value.clone());
                }
            }
            _ => {}
        }
    }

    fn write(&self, key: &[u8], value: &[u8], seen: Seen) {
        let (Ok((key, commit_ts)), Ok(write)) = (split_ts(key), Write::parse(value)) else { return };
        let put = match write.kind {
            WriteKind::Put => true,
            WriteKind::Delete => false,
            WriteKind::Lock | WriteKind::Rollback => return,
        };
        let short = write.short_value.map(Bytes::copy_from_slice);
        let state = &mut *self.0.lock();
        let versions = state.versions.entry(Bytes::copy_from_slice(key)).or_default();
        if versions.contains_key(&commit_ts) {
            return;
        }
        state.count += 1;
        versions.insert(commit_ts, Version { start_ts: write.start_ts, put, short, seen, removed: None });
        if commit_ts <= state.complete {
            state.lies.push(format!(
                "key {key:02x?} was committed at {commit_ts} (start {}), in {seen:?}, though everything up to {} was said to be complete",
                write.start_ts, state.complete
            ));
        }
    }
}

impl State {
    /// No timestamp that anybody had is above it.
    fn now(&self) -> Ts {
        self.pd.as_ref().map_or(Ts::ZERO, Pd::last_ts)
    }

    /// A range delete is applied; only the first time counts, for what is there then was applied before it.
    fn remove(&mut self, start: &Bytes, end: &Bytes) {
        let done = self.now().next();
        let asked = |delete: &&mut RangeDelete| delete.when.done.is_none() && delete.range.end == *end;
        let Some(delete) = self.range_deletes.iter_mut().find(asked) else { return };
        delete.when.done = Some(done);
        let keys = self.versions.range_mut(start.clone()..end.clone());
        for version in keys.flat_map(|(_, versions)| versions.values_mut()) {
            version.removed.get_or_insert(delete.when);
        }
    }

    /// The value of a key at `ts`, without the versions that `is_gone` names.
    fn newest(&self, key: &Bytes, ts: Ts, is_gone: impl Fn(Removal) -> bool) -> Option<(Ts, Bytes)> {
        let versions = self.versions.get(key)?.range(..=ts).rev();
        let (commit_ts, version) = versions.into_iter().find(|(_, version)| !version.removed.is_some_and(&is_gone))?;
        version.put.then(|| (*commit_ts, self.value(key, version)))
    }

    fn value(&self, key: &Bytes, version: &Version) -> Bytes {
        let long = || self.values.get(&(key.clone(), version.start_ts)).cloned();
        version.short.clone().or_else(long).unwrap_or_default()
    }
}

/// Writes the history down; one for each store.
impl RaftObserver for History {
    fn on_apply(&self, batch: &ApplyBatch<'_>) {
        let seen = Seen { region_id: batch.region_id, index: batch.last_index, term: batch.term };
        batch.ops.iter().for_each(|op| self.record(op, seen));
    }

    fn on_leadership(&self, _: &Region, _: Term, _: Role) {}

    fn on_region_changed(&self, _: &RegionChange) {}
}
