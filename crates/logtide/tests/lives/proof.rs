//! Holds what the storage gives back to what the cluster held and to what the writers know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use logtide_mock_raftstore::client::Client;
use logtide_model::{KeyRange, Ts};
use logtide_restore::{RestoreOptions, Silent, restore_point};
use logtide_storage::Storage;
use tokio::runtime::Runtime;

use crate::load::Load;
use crate::world::wait;

/// Commits between two restores while the load goes on.
const BETWEEN: u64 = 20;

/// A state that was brought back.
pub(crate) struct Restored {
    at: Ts,
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The storage, and nothing else of the cluster that wrote it.
pub(crate) struct Stored {
    /// For what is restored.
    dir: PathBuf,
    storage: Storage,
    runtime: Runtime,
}

impl Stored {
    /// The storage of a URL; restores go below `dir`.
    pub(crate) fn new(dir: &Path, url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Stored { dir: dir.to_owned(), storage: logtide_storage::open(url).unwrap(), runtime }
    }

    /// Up to when the storage says of itself that it holds everything.
    pub(crate) fn checkpoint(&self) -> Ts {
        self.runtime.block_on(logtide_storage::read_checkpoint(&self.storage)).unwrap().unwrap_or(Ts::ZERO)
    }

    /// What it gives back, as of its checkpoint or an earlier moment.
    pub(crate) fn restore(&self, at: Option<Ts>) -> Restored {
        let target = tempfile::tempdir_in(&self.dir).unwrap();
        let options = RestoreOptions { restored_ts: at, ..RestoreOptions::new(target.path().join("db")) };
        let summary = self.runtime.block_on(restore_point(&self.storage, &options, &Silent)).unwrap();
        let (at, mut pairs) = (Ts::new(summary.restored_ts), BTreeMap::new());
        logtide_restore::dump(&options.target, at, &KeyRange::ALL, &mut |key, value| {
            pairs.insert(key.to_vec(), value.to_vec());
            Ok(())
        })
        .unwrap();
        Restored { at, pairs }
    }

    /// Restores again and again while the load goes on: each time what the checkpoint promises just then. What is missing
    /// at that moment may well come later, and would be missed by nobody at the end.
    pub(crate) fn follow(&self, load: &Load) -> Vec<Restored> {
        let mut all: Vec<Restored> = Vec::new();
        while !load.is_over() {
            let (commits, last) = (load.commits(), all.last().map_or(Ts::ZERO, |restored| restored.at));
            wait("the next checkpoint", || {
                load.is_over() || (load.commits() >= commits + BETWEEN && self.checkpoint() > last)
            });
            if self.checkpoint() > last {
                all.push(self.restore(None));
            }
        }
        all
    }
}

impl Restored {
    /// The restored state, the cluster's and what the writers know are the same, key by key in both directions. To be asked
    /// when no transaction is under way any more.
    pub(crate) fn prove(&self, client: &Client, load: &Load) {
        let Restored { at, pairs } = self;
        let held = client.snapshot(*at).scan(b"", b"", usize::MAX).unwrap();
        let held: BTreeMap<_, _> = held.into_iter().map(|(key, value)| (key, value.to_vec())).collect();
        let text = |key: &[u8]| key.escape_ascii().to_string();
        let value = |value: Option<&Vec<u8>>| value.map(|value| text(&value[..value.len().min(60)]));
        let keys: BTreeSet<_> = pairs.keys().chain(held.keys()).collect();
        let wrong: Vec<_> = keys.into_iter().filter(|key| pairs.get(*key) != held.get(*key)).collect();
        let three = wrong.iter().take(3);
        let examples: Vec<_> = three.map(|k| (text(k), value(pairs.get(*k)), value(held.get(*k)))).collect();
        assert!(wrong.is_empty(), "at {at}, {} keys differ (restored, held): {examples:?}", wrong.len());
        let known: BTreeMap<_, _> = held.into_iter().filter(|(key, _)| Load::knows(key)).collect();
        let truth = load.state_at(*at).into_iter().map(|(key, value)| (key, value.to_vec()));
        assert!(known == truth.collect(), "the cluster does not hold what was written to it, at {at}");
    }
}
