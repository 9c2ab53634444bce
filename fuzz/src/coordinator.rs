//! Records of a coordinator: what TiDB's tools, other versions and a disk may have written there.

use std::sync::Arc;

use logtide_coordinator::store::Txn;
use logtide_coordinator::{DirectoryStore, MemoryStore, RawRange, Store, TaskSpec, Tasks};
use logtide_model::TaskName;

/// The record of a task named `t` with one range. What is accepted can be written again as it was read.
pub(crate) fn task(bytes: &[u8]) {
    let Ok(name) = TaskName::new("t") else { return };
    let store = Arc::new(MemoryStore::default());
    let txn = Txn::new().put("/tidb/br-stream/info/t", bytes.to_vec()).put("/tidb/br-stream/ranges/t/", "");
    if store.commit(txn).is_err() {
        return;
    }
    let tasks = Tasks::new(store);
    let _ = tasks.list();
    let Ok(Some(task)) = tasks.get(&name) else { return };
    let again = Tasks::new(Arc::new(MemoryStore::default()));
    let (storage, start_ts, compression) = (task.storage, task.start_ts, task.compression);
    let encryption = task.encryption.clone();
    let spec = TaskSpec { name, storage, start_ts, ranges: vec![RawRange::default()], compression, encryption };
    if let Ok(created) = again.create(&spec) {
        assert_eq!(created.encryption, task.encryption);
    }
}

/// The journal of a directory.
pub(crate) fn journal(bytes: &[u8]) {
    let Ok(dir) = tempfile::tempdir() else { return };
    if std::fs::write(dir.path().join("journal"), bytes).is_err() {
        return;
    }
    if let Ok(store) = DirectoryStore::open(dir.path()) {
        let _ = store.list(b"");
        let _ = store.commit(Txn::new().put("key", "value"));
    }
}
