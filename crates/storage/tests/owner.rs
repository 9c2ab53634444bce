//! Whose a prefix is, and the storage checkpoint.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use logtide_format::proto::BackupMeta;
use logtide_model::{Incarnation, TaskName, Ts};
use logtide_storage::{
    BACKUPMETA_OBJECT, CheckpointWriter, IDENTITY_OBJECT, Identity, LOCK_OBJECT, Storage, StorageError, claim, open,
    read_backupmeta, read_checkpoint, read_identity,
};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use prost::Message;

fn identity(cluster: u64, task: &str, life: u64) -> Identity {
    Identity::new(cluster, TaskName::new(task).unwrap(), Incarnation(life), Ts::new(100))
}

async fn put(storage: &Storage, object: &str, bytes: impl Into<Bytes>) {
    storage.store.put(&Path::from(object), bytes.into().into()).await.unwrap();
}

async fn get(storage: &Storage, object: &str) -> Bytes {
    storage.store.get(&Path::from(object)).await.unwrap().bytes().await.unwrap()
}

#[tokio::test]
async fn a_claimed_prefix_is_the_tasks_alone() {
    let storage = open("memory://claim").unwrap();
    assert_eq!(read_identity(&storage).await.unwrap(), None);
    claim(&storage, &identity(7, "pitr", 1)).await.unwrap();
    claim(&storage, &identity(7, "pitr", 1)).await.unwrap();
    let found = read_identity(&storage).await.unwrap().unwrap();
    assert_eq!(found, identity(7, "pitr", 1));
    for other in [identity(8, "pitr", 1), identity(7, "other", 1), identity(7, "pitr", 2)] {
        let error = claim(&storage, &other).await.unwrap_err();
        assert!(matches!(error, StorageError::InUse { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("task pitr (life 1) of cluster 7"), "{text}");
    }
    assert_eq!(read_identity(&storage).await.unwrap().unwrap(), found);
}

#[tokio::test]
async fn br_sees_a_log_backup() {
    let storage = open("memory://claim-br").unwrap();
    claim(&storage, &identity(7, "pitr", 1)).await.unwrap();
    let meta = BackupMeta::decode(get(&storage, BACKUPMETA_OBJECT).await).unwrap();
    assert_eq!((meta.cluster_id, meta.start_version, meta.end_version), (7, 100, 0));
    assert!(!get(&storage, LOCK_OBJECT).await.is_empty());
    let head = read_backupmeta(&storage).await.unwrap().unwrap();
    assert_eq!((head.cluster_id, head.start_ts), (7, Ts::new(100)));
}

#[tokio::test]
async fn a_prefix_that_br_prepared_for_this_task_is_taken() {
    let storage = open("memory://claim-prepared").unwrap();
    let theirs = BackupMeta { cluster_id: 7, start_version: 100, br_version: "v8".into(), ..Default::default() };
    put(&storage, BACKUPMETA_OBJECT, theirs.encode_to_vec()).await;
    put(&storage, LOCK_OBJECT, "br").await;
    // Another store of the task is probing.
    put(&storage, "v1/logtide/probe/00-put", "probe").await;
    claim(&storage, &identity(7, "pitr", 1)).await.unwrap();
    assert_eq!(get(&storage, BACKUPMETA_OBJECT).await, theirs.encode_to_vec());
    assert_eq!(get(&storage, LOCK_OBJECT).await, "br");
}

#[tokio::test]
async fn strangers_are_named() {
    let full = BackupMeta { cluster_id: 9, start_version: 1, end_version: 55, ..Default::default() };
    let foreign = BackupMeta { cluster_id: 9, start_version: 100, ..Default::default() };
    for (name, object, bytes, says) in [
        ("full", BACKUPMETA_OBJECT, full.encode_to_vec(), "a full backup of cluster 9 at 55"),
        ("log", BACKUPMETA_OBJECT, foreign.encode_to_vec(), "a log backup of cluster 9 from 100 on"),
        ("meta", "v1/backupmeta/x.meta", vec![1], "v1/backupmeta/x.meta"),
        ("other", "photos/1.jpg", vec![1], "something else ('photos/1.jpg')"),
        ("data", "v1/20261121/10/1/1-x.log", vec![1], "something else ('v1/20261121/10/1/1-x.log')"),
        ("ts", "v1/global_checkpoint/4.ts", vec![1], "v1/global_checkpoint/4.ts"),
    ] {
        let storage = open(&format!("memory://stranger-{name}")).unwrap();
        put(&storage, object, bytes).await;
        let error = claim(&storage, &identity(7, "pitr", 1)).await.unwrap_err();
        assert!(matches!(error, StorageError::InUse { .. }) && error.to_string().contains(says), "{error}");
        assert_eq!(read_identity(&storage).await.unwrap(), None, "{name}: a refused claim wrote");
    }
}

#[tokio::test]
async fn damaged_and_newer_identities_are_refused() {
    let storage = open("memory://claim-damaged").unwrap();
    let newer = r#"{"format":2,"cluster_id":7,"task":"pitr","incarnation":1,"start_ts":100,"created_by":"x"}"#;
    for (document, says) in [("{", "EOF"), (newer, "format 2")] {
        put(&storage, IDENTITY_OBJECT, document).await;
        let error = claim(&storage, &identity(7, "pitr", 1)).await.unwrap_err();
        assert!(matches!(error, StorageError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains(says) && error.to_string().contains(IDENTITY_OBJECT), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_claims_at_once_one_task_wins() {
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().to_str().unwrap().to_owned();
    let attempts = (0..16).map(|i| {
        let url = url.clone();
        tokio::spawn(async move { claim(&open(&url).unwrap(), &identity(7, &format!("t{}", i % 4), 1)).await.is_ok() })
    });
    let mut won = Vec::new();
    for (i, attempt) in attempts.collect::<Vec<_>>().into_iter().enumerate() {
        if attempt.await.unwrap() {
            won.push(i % 4);
        }
    }
    let owner = read_identity(&open(&url).unwrap()).await.unwrap().unwrap();
    assert_eq!(won.len(), 4, "every store of the winning task may use the prefix: {won:?}");
    assert!(won.iter().all(|i| owner.task.as_str() == format!("t{i}")), "{won:?} {owner:?}");
}

#[tokio::test]
async fn the_storage_checkpoint_is_the_largest_and_never_goes_down() {
    let storage = open("memory://checkpoint").unwrap();
    assert_eq!(read_checkpoint(&storage).await.unwrap(), None);
    let writer = CheckpointWriter::new(storage.clone(), 4);
    assert_eq!(writer.write(Ts::new(10)).await.unwrap(), Ts::new(10));
    assert_eq!(writer.write(Ts::new(9)).await.unwrap(), Ts::new(10));
    assert_eq!(get(&storage, "v1/global_checkpoint/4.ts").await, 10u64.to_le_bytes().to_vec());
    let restarted = CheckpointWriter::new(storage.clone(), 4);
    assert_eq!(restarted.write(Ts::new(5)).await.unwrap(), Ts::new(10));
    CheckpointWriter::new(storage.clone(), 1).write(Ts::new(12)).await.unwrap();
    assert_eq!(read_checkpoint(&storage).await.unwrap(), Some(Ts::new(12)));
    put(&storage, "v1/global_checkpoint/9.ts", vec![0; 7]).await;
    let error = read_checkpoint(&storage).await.unwrap_err();
    assert!(error.to_string().contains("v1/global_checkpoint/9.ts"), "{error}");
}
