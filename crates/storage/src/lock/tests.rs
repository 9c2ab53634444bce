//! Locks of one's own, of others, of former boots.

use super::*;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use std::sync::Arc;

fn storage() -> Storage {
    Storage { store: Arc::new(InMemory::new()), url: "memory:///".to_owned() }
}

fn lock(storage: &Storage, store_id: u64, boot: u64) -> WriteLock {
    WriteLock::new(storage.clone(), LockOwner { store_id, boot })
}

async fn all(storage: &Storage) -> Vec<String> {
    let all = storage.store.list(None).map_ok(|meta| meta.location.to_string());
    all.try_collect().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_holds_it_and_leaves_nothing() {
    let storage = storage();
    let (one, two) = (lock(&storage, 1, 1), lock(&storage, 2, 1));
    one.acquire(0).await.unwrap();
    assert_eq!(all(&storage).await, ["truncating.lock", "v1/LOCK.WRIT"]);
    assert!(matches!(two.acquire(0).await, Err(LockError::Taken { object, .. }) if object == "truncating.lock"));
    assert_eq!(all(&storage).await.len(), 2, "a loser leaves nothing");
    one.confirm().await.unwrap();
    one.acquire(0).await.unwrap();
    two.release().await.unwrap();
    one.confirm().await.unwrap();
    one.release().await.unwrap();
    assert_eq!(all(&storage).await, [""; 0]);
    two.acquire(0).await.unwrap();
    assert!(matches!(one.confirm().await, Err(LockError::Lost { .. })));
}

#[tokio::test(start_paused = true)]
async fn who_reads_truncates_or_has_rewritten_the_log_keeps_it_out() {
    for other in [
        "v1/LOCK.READ.00000000000000ff",
        "v1/LOCK.WRIT",
        "v1/LOCK.WRIT.0123456789abcdef0123456789abcdef",
        "truncating.lock",
        "v1/LOCK.WRIT.INTENT.F47AC10B-58CC-4372-A567-0E02B2C3D479",
        "v1/migrations/00000001_0123456789ABCDEF.mgrt",
    ] {
        let storage = storage();
        storage.write(other, &b"{}"[..]).await.unwrap();
        let error = lock(&storage, 1, 1).acquire(0).await.unwrap_err().to_string();
        assert!(error.contains(other), "{error}");
        assert_eq!(all(&storage).await, [other]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_boot_takes_away_what_a_crash_left_but_not_at_once() {
    for left in [1, 2, 3] {
        let storage = storage();
        let former = lock(&storage, 7, 4);
        let (.., object) = LOCK_FAMILIES[0];
        match left {
            1 => storage.write(&former.intent(object), Bytes::new()).await.unwrap(),
            2 => storage.write(object, former.content(5)).await.unwrap(),
            _ => former.acquire(5).await.unwrap(),
        }
        let next = lock(&storage, 7, 5);
        assert!(matches!(next.acquire(0).await, Err(LockError::Taken { .. })));
        tokio::time::advance(ABANDONED - Duration::from_secs(1)).await;
        assert!(matches!(next.acquire(0).await, Err(LockError::Taken { .. })));
        assert!(matches!(lock(&storage, 8, 9).acquire(0).await, Err(LockError::Taken { .. })), "another store's");
        for _ in 0..3 {
            tokio::time::advance(ABANDONED).await;
            let _ = next.acquire(0).await;
        }
        next.confirm().await.unwrap();
        assert!(former.confirm().await.is_err(), "whoever held it is told");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_after_the_lease() {
    let storage = storage();
    let lock = lock(&storage, 1, 1);
    lock.acquire(0).await.unwrap();
    tokio::time::advance(LEASE).await;
    assert!(matches!(lock.confirm().await, Err(LockError::Lost { .. })));
    lock.acquire(0).await.unwrap();
    lock.confirm().await.unwrap();
}

#[test]
fn a_lock_says_whose_it_is_as_others_read_it() {
    let owner = LockOwner { store_id: 7, boot: 3 };
    let lock = WriteLock::new(storage(), owner);
    let content: serde_json::Value = serde_json::from_slice(&lock.content(951_868_799_999)).unwrap();
    assert_eq!(content["locked_at"], "2000-02-29T23:59:59.999Z");
    assert_eq!(LockOwner::parse(content["txn_id"].as_str().unwrap()), Some(owner));
    assert_eq!(LockOwner::parse("f47ac10b-58cc-4372-a567-0e02b2c3d479"), None);
    assert_eq!(owner_of(&lock.intent("v1/LOCK.WRIT"), b""), Some(owner));
    assert!(content["hint"].as_str().unwrap().contains("sweep") && content["locker_pid"].is_u64());
}
