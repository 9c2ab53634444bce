//! The truth: every version that any store applied, in the terms of a reader. It looks at what raft applied and knows
//! nothing of the backup, but for one thing: up to where the backup says that it is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{
    ApplyBatch, Cf, Host, HostError, Op, RaftObserver, Region, RegionChange, RegionId, Role, Term, Ts, split_ts,
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
    hosts: Vec<Arc<dyn Host>>,
    /// The files that were read.
    files: BTreeSet<String>,
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

    /// What a reader at `ts` sees of what was committed above `start`: encoded key, and the value's commit ts and bytes.
    /// (A key whose last change before `ts` is at or below `start` is left out.)
    pub fn visible(&self, start: Ts, ts: Ts) -> BTreeMap<Bytes, (Ts, Bytes)> {
        let state = self.0.lock();
        let mut visible = BTreeMap::new();
        for (key, versions) in &state.versions {
            let Some((commit_ts, version)) = versions.range(..=ts).next_back() else { continue };
            if version.put && *commit_ts > start {
                let long = || state.values.get(&(key.clone(), version.start_ts)).cloned();
                let value = version.short.clone().or_else(long).unwrap_or_default();
                visible.insert(key.clone(), (*commit_ts, value));
            }
        }
        visible
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
        versions.map(|(ts, v)| format!("commit {ts} start {} put {} {:?}; ", v.start_ts, v.put, v.seen)).collect()
    }

    /// Ingested files are read from these; they hold the cluster, which holds its observers, so somebody has to
    /// call this with none in the end.
    pub(crate) fn read_files_from(&self, hosts: Vec<Arc<dyn Host>>) {
        self.0.lock().hosts = hosts;
    }

    /// Every store has the file while it is told of it, with the same content.
    fn ingested(&self, cf: Cf, path: &str, seen: Seen) {
        let hosts = {
            let state = self.0.lock();
            if state.files.contains(path) {
                return;
            }
            state.hosts.clone()
        };
        let read = |host: &Arc<dyn Host>| host.read_sst(cf, path)?.collect::<Result<Vec<_>, HostError>>();
        match hosts.iter().find_map(|host| read(host).ok()) {
            Some(records) => {
                for (key, value) in records {
                    self.record(&Op::Put { cf, key, value }, seen);
                }
                self.0.lock().files.insert(path.to_owned());
            }
            None => self.0.lock().lies.push(format!("nobody can read the file {path}, which was ingested in {seen:?}")),
        }
    }

    fn record(&self, op: &Op, seen: Seen) {
        match op {
            Op::IngestSst { cf, path } => self.ingested(*cf, path, seen),
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
        versions.insert(commit_ts, Version { start_ts: write.start_ts, put, short, seen });
        if commit_ts <= state.complete {
            state.lies.push(format!(
                "key {key:02x?} was committed at {commit_ts} (start {}), in {seen:?}, though everything up to {} was said to be complete",
                write.start_ts, state.complete
            ));
        }
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
