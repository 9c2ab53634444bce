//! What the storage gives back, against what the store holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use logtide_mock_raftstore::client::Client;
use logtide_model::{KeyRange, Ts};
use logtide_restore::{RestoreOptions, Silent, restore_point};
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
