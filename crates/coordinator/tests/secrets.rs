//! Nothing that is public shows a credential: not `Debug`, not `Display`, not JSON. Records of tasks hold them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod cluster;

use std::time::Duration;

use cluster::{Cluster, spec};
use logtide_coordinator::store::{Condition, Txn};
use logtide_coordinator::{CoordinatorError, Store, TaskWatch};
use logtide_format::proto::StreamBackupTaskInfo;
use logtide_model::{Cipher, Diagnose, KmsKey, KmsVendor, MasterKeyRef, SecretKey, TaskEncryption};
use prost::Message;

/// What must be seen nowhere, in any of the forms that bytes are shown in.
const SECRET: &str = "S3CRETs3cret+/==";

fn assert_silent(what: &str, text: &str) {
    let bytes = format!("{:?}", SECRET.as_bytes());
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let listed = bytes.trim_matches(['[', ']']);
    for form in ["S3CRET", "s3cret", listed, &hex, &hex.to_uppercase()] {
        assert!(!text.contains(form), "{what}: {text}");
    }
}

fn urls() -> Vec<String> {
    let secret = SECRET.replace('+', "%2B");
    [
        "s3://b/p?access-key={}&secret-access-key={}&session-token={}&endpoint=http://h",
        "s3://b/p?secret-access-key={}&ca-file=/ca.pem&access-key={}",
        "gcs://b/p?credentials-blob={}",
        "azure://c/p?account-name=n&account-key={}&sas-token={}",
        "azure://c/p?encryption-key={}&account-key={}",
        "unheard://b/p?password={}",
    ]
    .map(|url| url.replace("{}", &secret))
    .to_vec()
}

fn encryptions() -> Vec<TaskEncryption> {
    let secret = || SecretKey::new(SECRET);
    let kms = |vendor, names: &[&str]| {
        let credentials = names.iter().map(|name| ((*name).to_owned(), secret())).collect();
        let (region, endpoint) = ("r".to_owned(), String::new());
        let keys = vec![MasterKeyRef::Kms(KmsKey { vendor, key_id: "k".to_owned(), region, endpoint, credentials })];
        TaskEncryption::MasterKeys { cipher: Cipher::Aes256Ctr, keys }
    };
    vec![
        TaskEncryption::DataKey { cipher: Cipher::Aes128Ctr, key: secret() },
        kms(KmsVendor::Aws, &["access_key", "secret_access_key"]),
        kms(KmsVendor::Gcp, &["credential"]),
        kms(KmsVendor::Azure, &["client_secret"]),
    ]
}

#[test]
fn a_task_shows_its_credentials_nowhere() {
    let (urls, encryptions) = (urls(), encryptions());
    for (n, url) in urls.iter().enumerate() {
        for (m, encryption) in encryptions.iter().enumerate() {
            let cluster = Cluster::new();
            let mut spec = spec(&format!("t{n}_{m}"));
            (spec.storage, spec.encryption) = (url.clone(), Some(encryption.clone()));
            let mut watch = TaskWatch::new(cluster.tasks.clone()).unwrap();
            let task = cluster.tasks.create(&spec).unwrap();
            assert!(task.storage.contains("S3CRET"), "it is there, and only not shown");
            let status = cluster.tasks.status(&task.name).unwrap();
            let events = watch.next(Duration::ZERO).unwrap();
            assert!(!events.is_empty());
            assert_silent("spec", &format!("{spec:?} {spec:#?}"));
            assert_silent("task", &format!("{task:?} {task:#?}"));
            assert_silent("status", &format!("{status:?} {status:#?}"));
            assert_silent("events", &format!("{events:?} {events:#?}"));
            records_are_silent(&cluster);
        }
    }
}

/// What the store itself shows of a record, and the record as a message.
fn records_are_silent(cluster: &Cluster) {
    let (all, _) = cluster.store.list(b"").unwrap();
    let events = cluster.store.watch(b"", 1).unwrap().next(Duration::ZERO).unwrap();
    assert_silent("entries", &format!("{all:?} {events:?}"));
    let info = all.iter().find(|kv| kv.key.starts_with(b"/tidb/br-stream/info/")).unwrap();
    let txn = Txn::new().when(Condition::Value(info.key.clone(), info.value.clone()));
    assert_silent("transaction", &format!("{:?}", txn.put(info.key.clone(), info.value.clone())));
    let message = StreamBackupTaskInfo::decode(&info.value[..]).unwrap();
    assert_silent("message", &format!("{message:?} {message:#?}"));
}

#[test]
fn errors_about_tasks_do_not_repeat_credentials() {
    let cluster = Cluster::new();
    let told = |error: &CoordinatorError| format!("{error} {error:?} {}", error.remedy());
    for url in urls() {
        let mut spec = spec("t");
        spec.storage = url;
        spec.ranges.clear();
        assert_silent("ranges", &told(&cluster.tasks.create(&spec).unwrap_err()));
    }
    for url in [format!("no url {SECRET}"), format!("local://host/?{SECRET}")] {
        let mut spec = spec("t");
        spec.storage = url;
        assert_silent("url", &told(&cluster.tasks.create(&spec).unwrap_err()));
    }
    // A damaged record: its bytes are quoted by nobody.
    let task = cluster.tasks.create(&spec("t")).unwrap();
    let key = format!("/tidb/br-stream/info/{}", task.name);
    cluster.store.commit(Txn::new().put(key, format!("\x0a\x7f{SECRET}"))).unwrap();
    assert_silent("record", &told(&cluster.tasks.get(&task.name).unwrap_err()));
}
