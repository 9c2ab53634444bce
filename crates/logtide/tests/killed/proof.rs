//! What the storage gives back, against what the store holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use logtide_mock_raftstore::client::Client;
use logtide_model::{KeyRange, Ts};
use logtide_restore::{RestoreOptions, Silent, SweepOptions, restore_point, sweep};
use logtide_storage::CheckpointWriter;
use tokio::runtime::Runtime;

/// See the module.
pub(crate) struct Proof {
    pub(crate) dir: PathBuf,
    pub(crate) client: Client,
}

impl Proof {
    /// Everything at `checkpoint`, which the coordinator promises, and at what the storage promises itself, is there.
    pub(crate) fn prove(&self, checkpoint: Option<Ts>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let copy = tempfile::tempdir_in(&self.dir).unwrap();
        copy_all(&self.dir.join("storage"), &copy.path().join("storage"));
        let storage = logtide_storage::open(&format!("local://{}", copy.path().join("storage").display())).unwrap();
        let stored = runtime.block_on(logtide_storage::read_checkpoint(&storage)).unwrap();
        assert!(stored <= checkpoint, "the storage promises {stored:?}, the coordinator {checkpoint:?}");
        // Where the task starts nothing is promised.
        let Some(checkpoint) = checkpoint.filter(|checkpoint| *checkpoint > Ts::ZERO) else { return };
        // The storage may know of it a little later; its data has to be there all the same.
        runtime.block_on(CheckpointWriter::new(storage.clone(), 99).write(checkpoint)).unwrap();
        let earlier = Ts::compose(checkpoint.physical_ms() - 150, 0);
        for at in [checkpoint, earlier, stored.unwrap_or(checkpoint)] {
            let target = copy.path().join(at.to_string());
            if !target.exists() {
                self.compare(at, &restored(&runtime, &storage, at, &target));
            }
        }
    }

    /// What deaths left is found and removed: then no data object is there that no metadata object names.
    pub(crate) fn sweep(&self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let storage = logtide_storage::open(&format!("local://{}", self.dir.join("storage").display())).unwrap();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let options = SweepOptions { delete: true, min_age_ms: 0, ..SweepOptions::at(now_ms) };
        let report = runtime.block_on(sweep(&storage, &options)).unwrap();
        let mut objects = BTreeSet::new();
        list(&self.dir.join("storage"), &self.dir.join("storage"), &mut objects);
        let mut named = BTreeSet::new();
        for path in objects.iter().filter(|path| path.ends_with(".meta")) {
            let bytes = std::fs::read(self.dir.join("storage").join(path)).unwrap();
            let metadata = logtide_format::decode_metadata(path, &bytes).unwrap();
            named.extend(metadata.file_groups.into_iter().map(|group| group.path));
        }
        let data: BTreeSet<_> = objects.iter().filter(|path| path.ends_with(".log")).cloned().collect();
        assert_eq!(data, named, "data objects and what metadata names; swept: {report:?}");
        let left = |path: &&String| path.contains("/probe/") || path.contains('#');
        assert_eq!(objects.iter().find(left), None, "swept: {report:?}");
    }

    fn compare(&self, at: Ts, restored: &BTreeMap<Vec<u8>, Vec<u8>>) {
        let held = self.client.snapshot(at).scan(b"", b"", usize::MAX).unwrap();
        let held: BTreeMap<_, _> = held.into_iter().map(|(key, value)| (key, value.to_vec())).collect();
        let text = |key: &Vec<u8>| key.escape_ascii().to_string();
        let differ: Vec<_> = held.keys().chain(restored.keys()).filter(|k| held.get(*k) != restored.get(*k)).collect();
        let some: Vec<_> = differ.iter().take(5).map(|key| text(key)).collect();
        assert!(differ.is_empty(), "at {at}, {} of {} keys differ: {some:?}", differ.len(), held.len());
    }
}

fn restored(runtime: &Runtime, storage: &logtide_storage::Storage, at: Ts, to: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let options = RestoreOptions { restored_ts: Some(at), ..RestoreOptions::new(to) };
    runtime.block_on(restore_point(storage, &options, &Silent)).unwrap();
    let mut pairs = BTreeMap::new();
    logtide_restore::dump(to, at, &KeyRange::ALL, &mut |key, value| {
        pairs.insert(key.to_vec(), value.to_vec());
        Ok(())
    })
    .unwrap();
    pairs
}

/// All files below a directory, by their paths from `root`.
fn list(root: &Path, dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(root, &path, found);
        } else {
            found.insert(path.strip_prefix(root).unwrap().display().to_string());
        }
    }
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_all(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}
