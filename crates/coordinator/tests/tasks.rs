//! Tasks and their keys, byte for byte as TiDB's tools have them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests fail by panicking")]

mod cluster;

use std::time::Duration;

use cluster::{Cluster, START, name, spec};
use logtide_coordinator::store::Txn;
use logtide_coordinator::{
    CoordinatorError, Degraded, FlushAnswer, LastFlush, NodeRecord, Pause, PauseReason, RawRange, Store, StoreStatus,
    TaskEvent, TaskSpec, TaskState, TaskWatch,
};
use logtide_format::proto::stream_backup_task_security_config::Encryption;
use logtide_format::proto::{
    CipherInfo, Local, StorageBackend, StreamBackupError, StreamBackupTaskInfo, StreamBackupTaskSecurityConfig,
    storage_backend::Backend,
};
use logtide_model::{Cipher, Compression, Diagnose, ErrorCode, KeyRange, MasterKeyRef, SecretKey, TaskEncryption, Ts};
use prost::Message;

const AT_ONCE: Duration = Duration::ZERO;

fn value(cluster: &Cluster, key: &[u8]) -> Option<Vec<u8>> {
    cluster.store.get(key).unwrap().map(|kv| kv.value.to_vec())
}

#[test]
fn a_task_is_written_as_br_writes_it() {
    let cluster = Cluster::new();
    let mut spec = spec("pitr_1");
    spec.ranges = vec![RawRange::new("t", "u"), RawRange::new(&b"m\xff//\0"[..], "n")];
    let task = cluster.tasks.create(&spec).unwrap();
    let (all, revision) = cluster.store.list(b"").unwrap();
    assert!(all.iter().all(|kv| kv.create_revision == revision));
    assert_eq!(task.incarnation.0, revision);
    let keys: Vec<&[u8]> = all.iter().map(|kv| &kv.key[..]).collect();
    let expected: [&[u8]; 3] = [
        b"/tidb/br-stream/info/pitr_1",
        b"/tidb/br-stream/ranges/pitr_1/m\xff//\0",
        b"/tidb/br-stream/ranges/pitr_1/t",
    ];
    assert_eq!(keys, expected);
    assert_eq!((&all[1].value[..], &all[2].value[..]), (&b"n"[..], &b"u"[..]));
    let info = StreamBackupTaskInfo::decode(&all[0].value[..]).unwrap();
    let local = Backend::Local(Local { path: "/backup/my log".to_owned() });
    assert_eq!(info.storage, Some(StorageBackend { backend: Some(local) }));
    assert_eq!((info.start_ts, info.end_ts, &info.name[..]), (100, 999_999_999_999_999_999, "pitr_1"));
    assert_eq!((info.table_filter, info.compression_type), (vec!["*.*".to_owned()], 3));
    assert_eq!(cluster.tasks.get(&name("pitr_1")).unwrap(), Some(task.clone()));
    assert_eq!(task.ranges, [KeyRange::from_raw(b"m\xff//\0", b"n"), KeyRange::from_raw(b"t", b"u")]);
    assert_eq!(task.storage, "local:///backup/my%20log");
}

#[test]
fn a_task_of_br_is_read() {
    let cluster = Cluster::new();
    let s3 = logtide_format::proto::S3 {
        bucket: "b".into(),
        prefix: "p/x".into(),
        endpoint: "http://h:1".into(),
        access_key: "K".into(),
        secret_access_key: "S".into(),
        force_path_style: true,
        ..Default::default()
    };
    let info = StreamBackupTaskInfo {
        storage: Some(StorageBackend { backend: Some(Backend::S3(s3)) }),
        start_ts: 5,
        name: "br".into(),
        compression_type: 3,
        ..StreamBackupTaskInfo::default()
    };
    let txn = Txn::new().put("/tidb/br-stream/info/br", info.encode_to_vec()).put("/tidb/br-stream/ranges/br/", "");
    cluster.store.commit(txn).unwrap();
    let task = cluster.tasks.require(&name("br")).unwrap();
    let url = "s3://b/p/x?access-key=K&endpoint=http://h:1&secret-access-key=S";
    assert_eq!((&task.storage[..], task.start_ts, task.compression), (url, Ts::new(5), Compression::Zstd));
    assert_eq!(task.ranges, [KeyRange::ALL]);
}

#[test]
fn other_storages_keep_their_url() {
    let cluster = Cluster::new();
    for (task, storage) in [("a", "memory://x-1"), ("b", "local:///backup/my%20log"), ("c", "local:///")] {
        let spec = TaskSpec { storage: storage.to_owned(), compression: Compression::None, ..spec(task) };
        let created = cluster.tasks.create(&spec).unwrap();
        let read = cluster.tasks.require(&name(task)).unwrap();
        assert_eq!(read.storage.trim_end_matches('/'), storage.trim_end_matches('/'));
        assert_eq!((read.compression, &read.ranges), (Compression::None, &created.ranges));
    }
}

fn data_key(length: usize) -> TaskEncryption {
    TaskEncryption::DataKey { cipher: Cipher::Aes256Ctr, key: SecretKey::new(vec![0xa7; length]) }
}

#[test]
fn encryption_is_kept_as_tidb_keeps_it_and_shown_to_nobody() {
    let cluster = Cluster::new();
    let file = MasterKeyRef::File { path: "/etc/master.key".to_owned() };
    let master = TaskEncryption::MasterKeys { cipher: Cipher::Aes128Ctr, keys: vec![file] };
    for (task, encryption) in [("a", data_key(32)), ("b", master)] {
        let spec = TaskSpec { encryption: Some(encryption.clone()), ..spec(task) };
        let created = cluster.tasks.create(&spec).unwrap();
        assert_eq!(created.encryption.as_ref(), Some(&encryption));
        assert_eq!(cluster.tasks.get(&name(task)).unwrap().as_ref(), Some(&created));
        let text = format!("{spec:?} {created:?}");
        assert!(!text.contains("167") && !text.to_lowercase().contains("a7a7"), "{text}");
    }
    let records = cluster.contents("/tidb/br-stream/info/");
    let info = StreamBackupTaskInfo::decode(&records[0].1[..]).unwrap();
    let cipher = CipherInfo { cipher_type: 4, cipher_key: vec![0xa7; 32] };
    assert_eq!(info.security_config.unwrap().encryption, Some(Encryption::PlaintextDataKey(cipher)));
    let info = StreamBackupTaskInfo::decode(&records[1].1[..]).unwrap();
    assert!(matches!(info.security_config.unwrap().encryption, Some(Encryption::MasterKeyConfig(_))));
}

#[test]
fn a_task_with_an_encryption_that_cannot_be_done_is_refused_without_its_key() {
    let cluster = Cluster::new();
    let cipher = CipherInfo { cipher_type: 5, cipher_key: b"topsecret".to_vec() };
    let security = StreamBackupTaskSecurityConfig { encryption: Some(Encryption::PlaintextDataKey(cipher)) };
    let local = Backend::Local(Local { path: "/b".to_owned() });
    let info = StreamBackupTaskInfo {
        storage: Some(StorageBackend { backend: Some(local) }),
        name: "t".to_owned(),
        security_config: Some(security),
        ..StreamBackupTaskInfo::default()
    };
    let txn = Txn::new().put("/tidb/br-stream/info/t", info.encode_to_vec()).put("/tidb/br-stream/ranges/t/", "");
    cluster.store.commit(txn).unwrap();
    let error = cluster.tasks.require(&name("t")).unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("sm4-ctr") && !text.contains("topsecret") && !text.contains("116, 111, 112"), "{text}");
}

#[test]
fn a_second_task_of_the_name_is_refused() {
    let cluster = Cluster::new();
    cluster.create("t");
    let before = cluster.contents("");
    let mut other = spec("t");
    other.ranges = vec![RawRange::new("x", "y")];
    let error = cluster.tasks.create(&other).unwrap_err();
    assert!(matches!(error, CoordinatorError::TaskExists(_)));
    assert_eq!(error.code(), ErrorCode::TaskExists);
    assert!(error.remedy().contains("log stop"), "{}", error.remedy());
    assert_eq!(cluster.contents(""), before);
    cluster.create("t2");
    assert_eq!(cluster.tasks.list().unwrap().iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["t", "t2"]);
    assert_eq!(cluster.tasks.require(&name("t")).unwrap().ranges.len(), 2);
}

#[test]
fn tasks_that_make_no_sense_are_refused() {
    let cluster = Cluster::new();
    let ranges = |all: &[(&str, &str)]| TaskSpec {
        ranges: all.iter().map(|(start, end)| RawRange::new(*start, *end)).collect(),
        ..spec("t")
    };
    let many: Vec<(String, String)> = (0..101).map(|i| (format!("{i:03}"), format!("{i:03}x"))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(a, b)| (&a[..], &b[..])).collect();
    for (bad, says) in [
        (ranges(&[]), "0 ranges"),
        (ranges(&many), "101 ranges"),
        (ranges(&[("b", "a")]), "empty"),
        (ranges(&[("a", "a")]), "empty"),
        (ranges(&[("a", "c"), ("b", "d")]), "overlap"),
        (ranges(&[("x", ""), ("a", "b"), ("y", "z")]), "overlap"),
        (ranges(&[("", ""), ("a", "b")]), "overlap"),
        (TaskSpec { start_ts: Ts::MAX, ..spec("t") }, "start ts"),
        (TaskSpec { encryption: Some(data_key(24)), ..spec("t") }, "keys of 32 bytes"),
        (TaskSpec { encryption: Some(data_key(0)), ..spec("t") }, "would not encrypt"),
        (TaskSpec { storage: "no url".to_owned(), ..spec("t") }, "no URL"),
        (TaskSpec { storage: "local://host/x".to_owned(), ..spec("t") }, "no path"),
    ] {
        let error = cluster.tasks.create(&bad).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.code(), ErrorCode::Config);
    }
    assert_eq!(cluster.contents(""), []);
    cluster.tasks.create(&ranges(&[("a", "b"), ("b", "c"), ("c", "")])).unwrap();
}

#[test]
fn removing_a_task_leaves_nothing_of_it_and_all_of_the_others() {
    let cluster = Cluster::new();
    let other = cluster.create("t_2");
    let boot = cluster.tasks.boot_epoch(1).unwrap();
    cluster.tasks.put_status(&other, &StoreStatus { store_id: 1, boot, ..StoreStatus::default() }).unwrap();
    let before = cluster.contents("");
    let task = cluster.create("t");
    let error = StreamBackupError { error_message: "x".into(), store_id: 1, ..StreamBackupError::default() };
    cluster.tasks.fail(&task, &error).unwrap();
    cluster.tasks.put_status(&task, &StoreStatus { store_id: 1, boot, ..StoreStatus::default() }).unwrap();
    cluster.tasks.set_storage_checkpoint(&task, 1, Ts::new(120)).unwrap();
    cluster.tasks.request_flush(&task).unwrap();
    cluster.publish(&task, (1, boot, 1), &[("a", "m", 300), ("n", "", 200)]).unwrap();
    let mut advancer = cluster.advancer(1);
    cluster.tick(&mut advancer);
    advancer.resign().unwrap();
    cluster.publish(&task, (1, boot, 2), &[("a", "m", 400)]).unwrap();
    cluster.tasks.remove(&task.name).unwrap();
    let mut after = cluster.contents("");
    // What the advancer still has to do, and what it wrote about the other task.
    after.retain(|(key, _)| {
        !key.contains("/gc/") && !key.contains("t_2/central") && !key.contains("/holder") && !key.contains("/cover/")
    });
    assert_eq!(after, before);
    assert!(cluster.contents("").iter().all(|(key, _)| !key.contains("/t/") || key.contains("/gc/")));
    assert_eq!(cluster.tasks.get(&task.name).unwrap(), None);
    let error = cluster.tasks.remove(&task.name).unwrap_err();
    assert_eq!((error.code(), error.class()), (ErrorCode::NoSuchTask, logtide_model::Class::Cancelled));
}

#[test]
fn checkpoints_are_u64_in_big_endian() {
    let cluster = Cluster::new();
    let task = cluster.create("t");
    let boot = cluster.tasks.boot_epoch(7).unwrap();
    assert_eq!(cluster.global(&task), None);
    cluster.publish(&task, (7, boot, 1), &[("a", "m", 0x0102_0304_0506_0708), ("n", "", u64::MAX / 2)]).unwrap();
    cluster.tick(&mut cluster.advancer(7));
    let ts = [1, 2, 3, 4, 5, 6, 7, 8].to_vec();
    assert_eq!(value(&cluster, b"/tidb/br-stream/checkpoint/t/central_global"), Some(ts.clone()));
    cluster.tasks.set_storage_checkpoint(&task, 7, Ts::new(0x0102_0304_0506_0708)).unwrap();
    cluster.tasks.set_storage_checkpoint(&task, 7, Ts::new(9)).unwrap();
    assert_eq!(value(&cluster, b"/tidb/br-stream/storage-checkpoint/t/7"), Some(ts));
    // br reads every key below /checkpoint/{task}/ and fails on those that it does not know.
    assert_eq!(cluster.contents("/tidb/br-stream/checkpoint/t/").len(), 1);
    cluster.store.commit(Txn::new().put("/tidb/br-stream/checkpoint/t/central_global", "short")).unwrap();
    let error = cluster.tasks.global_checkpoint(&task.name).unwrap_err().to_string();
    assert!(error.contains("central_global") && error.contains("5 bytes"), "{error}");
}

#[test]
fn boot_epochs_grow_and_are_taken_once() {
    let cluster = Cluster::new();
    let taken: Vec<u64> = std::thread::scope(|scope| {
        let take = || (0..10).map(|_| cluster.tasks.boot_epoch(1).unwrap()).collect::<Vec<u64>>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut sorted = taken.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=40).collect::<Vec<_>>());
    assert_eq!(cluster.tasks.boot_epoch(2).unwrap(), 1);
}

#[test]
fn a_pause_of_br_is_read() {
    let cluster = Cluster::new();
    let task = cluster.create("t");
    let state = |value: &[u8]| {
        cluster.store.commit(Txn::new().put("/tidb/br-stream/pause/t", value.to_vec())).unwrap();
        (cluster.tasks.status(&task.name).unwrap().state, cluster.tasks.pause_of(&task).unwrap().unwrap())
    };
    assert_eq!(state(b""), (TaskState::Paused, Pause::default()));
    let (paused, pause) = state(
        br#"{"severity":"REGULAR_OPERATION","operation_hostname":"h","operation_pid":42,
            "operation_time":"2024-05-06T07:08:09+08:00","payload_type":"text/plain;charset=UTF-8","payload":"aGVsbG8="}"#,
    );
    let message = PauseReason::Message("hello".to_owned());
    assert_eq!((paused, &pause.host[..], pause.pid, &pause.reason), (TaskState::Paused, "h", 42, &message));
    assert_eq!(pause.time, "2024-05-06T07:08:09+08:00");
    let (paused, pause) = state(
        br#"{"severity":"ERROR","operation_hostname":"h","operation_pid":1,"operation_time":"","payload":null,
            "payload_type":"","later":1}"#,
    );
    assert_eq!((paused, pause.reason), (TaskState::Error, PauseReason::None));
    let (paused, pause) = state(b"what is this");
    assert_eq!((paused, pause.reason), (TaskState::Paused, PauseReason::Message("what is this".to_owned())));
}

#[test]
fn an_error_pauses_and_is_shown_until_cleared() {
    let cluster = Cluster::new();
    let task = cluster.create("t");
    let error = StreamBackupError {
        happen_at: 1_715_000_000_000,
        error_code: "KV:LogBackup:GcPassed".into(),
        error_message: "too late".into(),
        store_id: 3,
    };
    cluster.tasks.report_error(&task, &error).unwrap();
    assert_eq!(cluster.tasks.status(&task.name).unwrap().state, TaskState::Degraded);
    assert_eq!(value(&cluster, b"/tidb/br-stream/last-error/t/3"), Some(error.encode_to_vec()));
    cluster.tasks.fail(&task, &error).unwrap();
    let status = cluster.tasks.status(&task.name).unwrap();
    assert_eq!((status.state, status.errors.get(&3)), (TaskState::Error, Some(&error)));
    let pause = status.pause.unwrap();
    assert_eq!((pause.pid, pause.reason), (std::process::id(), PauseReason::Error(error)));
    let json = value(&cluster, b"/tidb/br-stream/pause/t").unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["severity"], "ERROR");
    assert_eq!(json["payload_type"], "application/x-protobuf;messageType=brpb.StreamBackupError");
    assert_eq!(json["operation_time"], "2024-05-06T12:53:20Z");
    cluster.tasks.clear_pause(&task).unwrap();
    assert_eq!(cluster.tasks.status(&task.name).unwrap().state, TaskState::Running);
    cluster.tasks.remove(&task.name).unwrap();
    let error = cluster.tasks.clear_error(&task, 3).unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoSuchTask);
}

#[test]
fn stores_tell_how_they_fare() {
    let cluster = Cluster::new();
    let task = cluster.create("t");
    let old = cluster.tasks.boot_epoch(1).unwrap();
    let boot = cluster.tasks.boot_epoch(1).unwrap();
    let status = StoreStatus {
        store_id: 1,
        boot,
        at_ms: 5,
        observed_regions: 6,
        last_flush: Some(LastFlush { at_ms: 4, generation: 3, objects: 2, bytes: 1 }),
        ..StoreStatus::default()
    };
    cluster.tasks.put_status(&task, &status).unwrap();
    let late = StoreStatus { boot: old, observed_regions: 99, ..status.clone() };
    assert!(matches!(cluster.tasks.put_status(&task, &late), Err(CoordinatorError::Superseded { store_id: 1, .. })));
    let whole = cluster.tasks.status(&task.name).unwrap();
    assert_eq!((whole.state, whole.checkpoint, whole.storage_checkpoint), (TaskState::Running, START, None));
    assert_eq!(whole.stores.into_iter().collect::<Vec<_>>(), [(1, status.clone())]);
    let degraded = Some(Degraded { what: "the storage is away".into(), ..Degraded::default() });
    cluster.tasks.put_status(&task, &StoreStatus { degraded, ..status }).unwrap();
    assert_eq!(cluster.tasks.status(&task.name).unwrap().state, TaskState::Degraded);
    // Records of a version that knows less or more, or of nobody.
    let prefix = format!("/logtide/v1/task/t/{:016x}/status/", task.incarnation.0);
    let txn = Txn::new().put(format!("{prefix}2"), r#"{"store_id":2,"new":1}"#).put(format!("{prefix}3"), "?");
    cluster.store.commit(txn).unwrap();
    assert_eq!(cluster.tasks.stores(&task).unwrap().into_keys().collect::<Vec<_>>(), [1, 2]);
    cluster.tasks.clear_status(&task, 1).unwrap();
    assert_eq!(cluster.tasks.stores(&task).unwrap().into_keys().collect::<Vec<_>>(), [2]);
}

#[test]
fn nodes_tell_the_clusters_clock() {
    let cluster = Cluster::new();
    for store_id in [2, 1] {
        cluster.tasks.put_node(&NodeRecord { store_id, cluster_id: 9, ts: 5, at_ms: 6 }).unwrap();
    }
    let nodes = cluster.tasks.nodes().unwrap();
    assert_eq!(nodes.iter().map(|node| (node.store_id, node.cluster_id)).collect::<Vec<_>>(), [(1, 9), (2, 9)]);
}

#[test]
fn flushes_are_asked_for_and_answered() {
    let cluster = Cluster::new();
    let task = cluster.create("t");
    assert_eq!(cluster.tasks.flush_requested(&task).unwrap(), None);
    let first = cluster.tasks.request_flush(&task).unwrap();
    assert_eq!(cluster.tasks.flush_requested(&task).unwrap(), Some(first));
    let answer = |store_id, ticket| FlushAnswer { ticket, store_id, generation: Some(4), error: None };
    cluster.tasks.answer_flush(&task, &answer(1, first)).unwrap();
    let second = cluster.tasks.request_flush(&task).unwrap();
    assert!(second > first);
    assert!(cluster.tasks.flush_answers(&task, second).unwrap().is_empty());
    cluster.tasks.answer_flush(&task, &answer(2, second)).unwrap();
    assert_eq!(cluster.tasks.flush_answers(&task, second).unwrap().into_keys().collect::<Vec<_>>(), [2]);
    assert_eq!(cluster.tasks.flush_answers(&task, first).unwrap().into_keys().collect::<Vec<_>>(), [1, 2]);
    cluster.tasks.remove(&task.name).unwrap();
    assert_eq!(cluster.tasks.request_flush(&task).unwrap_err().code(), ErrorCode::NoSuchTask);
}

#[test]
fn a_watch_tells_what_becomes_of_tasks() {
    let cluster = Cluster::new();
    let old = cluster.create("old");
    let mut watch = TaskWatch::new(cluster.tasks.clone()).unwrap();
    assert_eq!(watch.next(AT_ONCE).unwrap(), [TaskEvent::Started(old.clone())]);
    assert_eq!(watch.next(AT_ONCE).unwrap(), []);
    let new = cluster.create("new");
    assert_eq!(watch.next(AT_ONCE).unwrap(), [TaskEvent::Started(new.clone())]);
    cluster.tasks.set_pause(&new, &Pause::default()).unwrap();
    assert_eq!(watch.next(AT_ONCE).unwrap(), [TaskEvent::Paused(new.clone())]);
    // The same info again is no new task.
    let info = cluster.store.get(b"/tidb/br-stream/info/old").unwrap().unwrap();
    cluster.store.commit(Txn::new().put(info.key, info.value)).unwrap();
    assert_eq!(watch.next(AT_ONCE).unwrap(), []);
    cluster.tasks.clear_pause(&new).unwrap();
    cluster.tasks.remove(&old.name).unwrap();
    let again = cluster.create("old");
    let expected = [TaskEvent::Removed(old), TaskEvent::Resumed(new.clone()), TaskEvent::Started(again)];
    assert_eq!(watch.next(AT_ONCE).unwrap(), expected);
    // However much happened since: what matters is told.
    cluster.tasks.remove(&new.name).unwrap();
    for _ in 0..8 {
        cluster.store.commit(Txn::new().put("/tidb/br-stream/noise", vec![0; 1 << 20])).unwrap();
    }
    assert_eq!(watch.next(AT_ONCE).unwrap(), [TaskEvent::Removed(new)]);
}
