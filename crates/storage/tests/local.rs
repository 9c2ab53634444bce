//! A directory as a storage: opening, refusing, probing, keeping.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures::TryStreamExt;
use logtide_model::{Class, Diagnose};
use logtide_storage::{CreateIfAbsent, StorageError, open, probe};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

async fn names(store: &dyn ObjectStore) -> Vec<String> {
    let mut names: Vec<_> = store.list(None).map_ok(|m| m.location.to_string()).try_collect().await.unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn spellings_of_one_directory_have_one_url() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my log#1");
    std::fs::create_dir(&path).unwrap();
    std::os::unix::fs::symlink(&path, dir.path().join("link")).unwrap();
    let plain = open(path.to_str().unwrap()).unwrap();
    assert!(plain.url.starts_with("local:///") && plain.url.ends_with("/my%20log%231"), "{}", plain.url);
    let file = plain.url.replacen("local:", "file:", 1);
    let link = format!("{}/", dir.path().join("link").display());
    for other in [plain.url.as_str(), &file, &link] {
        assert_eq!(open(other).unwrap().url, plain.url);
    }
    plain.store.put(&Path::from("a/b"), "x".into()).await.unwrap();
    assert_eq!(std::fs::read(path.join("a/b")).unwrap(), b"x");
}

#[tokio::test]
async fn the_directory_is_created_by_the_first_write_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new");
    let storage = open(path.to_str().unwrap()).unwrap();
    assert_eq!(names(&storage.store).await, Vec::<String>::new());
    assert!(storage.store.list_with_delimiter(None).await.unwrap().objects.is_empty());
    let missing = storage.store.get(&Path::from("x")).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }) && missing.to_string().contains("new"), "{missing}");
    assert!(!path.exists());
    storage.store.put(&Path::from("x"), "1".into()).await.unwrap();
    assert_eq!(names(&storage.store).await, ["x"]);
}

#[test]
fn what_cannot_be_a_storage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("log");
    for path in [&file, &below] {
        let error = open(path.to_str().unwrap()).unwrap_err();
        assert!(matches!(&error, StorageError::NotADirectory(named) if *named == file), "{error}");
    }
    let orphan = dir.path().join("no/log");
    let error = open(orphan.to_str().unwrap()).unwrap_err();
    assert!(matches!(&error, StorageError::MissingParent { .. }) && error.class() == Class::Fatal, "{error}");
    assert!(error.remedy().contains(&format!("mkdir -p '{}'", dir.path().join("no").display())), "{}", error.remedy());
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_found_by_the_probe() {
    // Tests may run as root, whom permissions do not stop; sysfs stops everybody.
    let error = probe(&open("/sys/kernel").unwrap()).await.unwrap_err();
    assert!(matches!(&error, StorageError::Object { action: "write", .. }), "{error}");
    assert!(error.to_string().contains("local:///sys/kernel"), "{error}");
    let remedy = error.remedy();
    assert!(remedy.contains("local:///sys/kernel") && remedy.contains("mount") | remedy.contains("chmod"), "{remedy}");
}

#[tokio::test]
async fn the_probe_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for url in [dir.path().to_str().unwrap(), "memory://probe"] {
        let storage = open(url).unwrap();
        let seen = probe(&storage).await.unwrap();
        assert!(seen.create_if_absent && seen.create == CreateIfAbsent::Honoured, "{url}: {seen}");
        assert_eq!(serde_json::to_string(&seen).unwrap(), r#"{"create_if_absent":true,"create":"honoured"}"#);
        assert_eq!(names(&storage.store).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn create_does_not_overwrite_and_parts_become_one_object() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path().to_str().unwrap()).unwrap().store;
    let at = Path::from("v1/x/once");
    store.put_opts(&at, "1".into(), PutMode::Create.into()).await.unwrap();
    let again = store.put_opts(&at, "2".into(), PutMode::Create.into()).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyExists { .. }), "{again}");
    assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), "1");

    let at = Path::from("v1/y/parts");
    let mut upload = store.put_multipart(&at).await.unwrap();
    for part in ["a", "b"] {
        upload.put_part(PutPayload::from(part)).await.unwrap();
    }
    assert!(!dir.path().join("v1/y/parts").exists(), "an unfinished object is visible");
    upload.complete().await.unwrap();
    assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), "ab");

    let mut aborted = store.put_multipart(&Path::from("v1/y/aborted")).await.unwrap();
    aborted.put_part(PutPayload::from("a")).await.unwrap();
    aborted.abort().await.unwrap();
    assert_eq!(names(&store).await, ["v1/x/once", "v1/y/parts"]);
    assert_eq!(std::fs::read_dir(dir.path().join("v1/y")).unwrap().count(), 1, "a temporary file stayed");
}

#[tokio::test]
async fn memory_is_one_store_by_name() {
    let (a, b, c) = (open("memory://m1").unwrap(), open("memory://m1").unwrap(), open("memory://m2").unwrap());
    a.store.put(&Path::from("x"), "1".into()).await.unwrap();
    assert_eq!(names(&b.store).await, ["x"]);
    assert_eq!(names(&c.store).await, Vec::<String>::new());
}
