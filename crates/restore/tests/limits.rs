//! What cannot be restored is refused with bounds and remedy; what need not be read is not read.

#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod lab;

use lab::backup::{Entry, Style, begin, checkpoint, copy, flush, memory_storage, put};
use lab::history::{Cluster, versioned};
use lab::{Random, block_on, chain, restore, state_at};
use logtide_format::{EntryKind, ObjectTag};
use logtide_model::mvcc::{Lock, LockKind, Write, WriteKind};
use logtide_model::{Cf, Compression, Diagnose, KeyRange, Ts, append_ts, encode_raw_key};
use logtide_restore::{
    MARKER_FILE, MIN_MEMORY, Marker, Progress, RestoreError, RestoreOptions, Stage, StageProgress, dump, log_info,
    plan_restore, restore_point,
};
use std::collections::BTreeSet;
use std::sync::Mutex;

#[test]
fn a_ts_outside_of_the_log_is_refused_with_its_bounds() {
    let history = Cluster::run(1, 60);
    let dir = tempfile::tempdir().unwrap();
    for asked in [history.start - 1, history.checkpoint + 1, u64::MAX, 0] {
        let error = restore(&history.storage, &dir.path().join("n"), Some(asked), |_| ()).unwrap_err();
        assert!(matches!(error, RestoreError::TsOutOfRange { .. }));
        for bound in [asked, history.start, history.checkpoint] {
            assert!(error.to_string().contains(&bound.to_string()), "{error}");
        }
        assert!(error.remedy().contains(&history.checkpoint.to_string()), "{}", error.remedy());
    }
    let summary = restore(&history.storage, &dir.path().join("n"), None, |_| ()).unwrap();
    assert_eq!(summary.restored_ts, history.checkpoint, "the checkpoint unless another is asked for");
}

#[test]
fn an_empty_storage_and_a_rewritten_log_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = restore(&memory_storage(), &dir.path().join("n"), None, |_| ()).unwrap_err();
    assert!(matches!(error, RestoreError::NoCheckpoint { .. }), "{error}");
    let compacted = copy(&Cluster::run(1, 60).storage);
    put(&compacted, "v1/migrations/00000001_0123456789ABCDEF.mgrt", vec![1]);
    let error = restore(&compacted, &dir.path().join("n"), None, |_| ()).unwrap_err();
    assert!(matches!(error, RestoreError::Migrated { .. }), "{error}");
}

#[test]
fn a_target_in_use_and_too_little_memory_are_refused() {
    let history = Cluster::run(1, 60);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("n");
    let error = restore(&history.storage, &target, None, |o| o.memory = MIN_MEMORY - 1).unwrap_err();
    assert!(matches!(error, RestoreError::Memory { .. }) && error.remedy().contains(&MIN_MEMORY.to_string()));
    std::fs::create_dir(&target).unwrap();
    restore(&history.storage, &target, None, |_| ()).unwrap();
    let error = restore(&history.storage, &target, None, |_| ()).unwrap_err();
    assert!(matches!(error, RestoreError::TargetInUse { .. }) && error.to_string().contains("not empty"), "{error}");
    let files = || std::fs::read_dir(&target).unwrap().map(|e| e.unwrap().file_name()).collect::<BTreeSet<_>>();
    let before = files();
    let (state, _) = state_at(&target, history.checkpoint);
    assert_eq!(state, history.at(history.checkpoint), "what was there is untouched");
    assert_eq!(files(), before, "a dump writes nothing");
}

#[test]
fn log_info_and_plan_tell_what_there_is() {
    let history = Cluster::run(3, 200);
    let info = block_on(log_info(&history.storage)).unwrap();
    assert_eq!((info.start_ts.get(), info.checkpoint.get()), (history.start, history.checkpoint));
    assert_eq!((info.cluster_id, info.task.as_deref()), (Some(7), Some("t")));
    assert_eq!(info.metadata_objects, history.seen["generations"]);
    let dir = tempfile::tempdir().unwrap();
    let at = |ts: u64| {
        let mut options = RestoreOptions::new(dir.path().join("n"));
        options.restored_ts = Some(Ts::new(ts));
        block_on(plan_restore(&history.storage, &options, &logtide_restore::Silent)).unwrap()
    };
    let (early, late) = (at(history.start + 1), at(history.checkpoint));
    assert!(early.summary().metadata_read < late.summary().metadata_read, "names prune");
    assert!(early.summary().bytes < late.summary().bytes);
    let (summary, mut bytes) = (*late.summary(), 0);
    late.for_each_object(&mut |object| bytes += object.bytes).unwrap();
    assert_eq!(bytes, summary.bytes);
    assert!(serde_json::to_string(&summary).unwrap().contains("\"objects\""));
}

struct Reports(Mutex<Vec<StageProgress>>);

impl Progress for Reports {
    fn report(&self, progress: &StageProgress) {
        self.0.lock().unwrap().push(*progress);
    }
}

#[test]
fn progress_names_every_stage_and_ends_complete() {
    let history = Cluster::run(3, 200);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("n");
    let reports = Reports(Mutex::default());
    let summary = block_on(restore_point(&history.storage, &RestoreOptions::new(&target), &reports)).unwrap();
    let reports = reports.0.into_inner().unwrap();
    for stage in [Stage::Plan, Stage::Fetch, Stage::Merge, Stage::Ingest] {
        let of_stage: Vec<_> = reports.iter().filter(|r| r.stage == stage).collect();
        let last = of_stage.last().unwrap();
        assert!(last.bytes_done == last.bytes_total && last.bytes_total > 0, "{last:?}");
        assert!(of_stage.is_sorted_by_key(|r| r.bytes_done));
    }
    assert!(reports.is_sorted_by_key(|r| r.stage));
    let marker: Marker = serde_json::from_slice(&std::fs::read(target.join(MARKER_FILE)).unwrap()).unwrap();
    assert_eq!((marker.restored_ts, marker.writes), (history.checkpoint, summary.records.writes));
    assert!(summary.ssts > 0 && summary.mb_per_second > 0.0 && summary.peak_memory > 0);
}

#[test]
fn restoring_twice_gives_the_same() {
    let history = Cluster::run(9, 300);
    let dir = tempfile::tempdir().unwrap();
    let counts = |name: &str| restore(&history.storage, &dir.path().join(name), None, |_| ()).unwrap().records;
    assert_eq!(counts("a"), counts("b"));
}

/// A data directory as a node has it: a further column family, unflushed writes, locks.
fn node(dir: &std::path::Path) -> rocksdb::DB {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let db = rocksdb::DB::open_cf(&options, dir, ["default", "lock", "write", "raft"]).unwrap();
    let put = |cf: &str, key: Vec<u8>, value: Vec<u8>| {
        db.put_cf(db.cf_handle(cf).unwrap(), [b"z".as_slice(), &key].concat(), value).unwrap();
    };
    fn write(kind: WriteKind, start: u64, short: Option<&[u8]>) -> Vec<u8> {
        Write::new(kind, Ts::new(start), short).to_bytes()
    }
    put("write", versioned(b"a", 20), write(WriteKind::Put, 10, Some(b"a2")));
    put("write", versioned(b"a", 9), write(WriteKind::Put, 8, Some(b"a1")));
    put("write", versioned(b"a", 15), Write::rollback(Ts::new(15), true).to_bytes());
    put("write", versioned(b"b", 20), write(WriteKind::Put, 10, None));
    put("default", versioned(b"b", 10), b"long".to_vec());
    put("write", versioned(b"c", 30), write(WriteKind::Delete, 25, None));
    put("write", versioned(b"c", 20), write(WriteKind::Put, 10, Some(b"c")));
    let mut fenced = Write::new(WriteKind::Put, Ts::new(10), Some(b"d"));
    fenced.overlapped_rollback = true;
    fenced.gc_fence = Some(Ts::new(30));
    put("write", versioned(b"d", 20), fenced.to_bytes());
    (1..40).for_each(|ts| {
        put("write", versioned(b"e", ts), write(WriteKind::Put, ts - 1, Some(ts.to_string().as_bytes())))
    });
    put("lock", encode_raw_key(b"b"), Lock::new(LockKind::Put, b"b".to_vec(), Ts::new(35), 1).to_bytes());
    put("raft", b"zzz".to_vec(), b"not data".to_vec());
    db
}

#[test]
fn a_dump_of_a_running_node_is_a_read_at_its_ts() {
    let dir = tempfile::tempdir().unwrap();
    let db = node(dir.path());
    let at = |ts| {
        let (state, summary) = state_at(dir.path(), ts);
        let text =
            |(k, v): (Vec<u8>, Vec<u8>)| format!("{}={}", String::from_utf8(k).unwrap(), String::from_utf8(v).unwrap());
        (state.into_iter().map(text).collect::<Vec<_>>().join(" "), summary.locks)
    };
    assert_eq!(at(0), (String::new(), 0));
    assert_eq!(at(19), ("a=a1 e=19".into(), 0));
    assert_eq!(at(29), ("a=a2 b=long c=c d=d e=29".into(), 0));
    assert_eq!(at(30), ("a=a2 b=long e=30".into(), 0));
    assert_eq!(at(u64::MAX), ("a=a2 b=long e=39".into(), 1), "the lock at 35 may still commit below");
    let range = KeyRange::from_raw(b"b", b"d");
    let mut keys = Vec::new();
    dump(dir.path(), Ts::new(29), &range, &mut |key, _| {
        keys.extend_from_slice(key);
        Ok(())
    })
    .unwrap();
    assert_eq!(keys, b"bc");
    let mut missing = versioned(b"b", 10);
    missing.insert(0, b'z');
    db.delete_cf(db.cf_handle("default").unwrap(), missing).unwrap();
    let error = dump(dir.path(), Ts::new(29), &KeyRange::ALL, &mut |_, _| Ok(())).unwrap_err();
    assert!(matches!(error, RestoreError::MissingValue { .. }) && error.to_string().contains("62"), "{error}");
}

#[test]
fn a_dump_stops_when_nobody_listens_and_tells_what_it_cannot_open() {
    let dir = tempfile::tempdir().unwrap();
    let _db = node(dir.path());
    let error = dump(dir.path(), Ts::MAX, &KeyRange::ALL, &mut |_, _| Err(std::io::ErrorKind::BrokenPipe.into()));
    assert!(matches!(error, Err(RestoreError::Output(_))));
    let nowhere = dir.path().join("nowhere");
    let error = dump(&nowhere, Ts::MAX, &KeyRange::ALL, &mut |_, _| Ok(())).unwrap_err();
    assert!(chain(&error).contains("nowhere"), "{error}");
    assert!(!nowhere.exists(), "looking makes nothing");
}

/// Records of one commit each, with values in the default column family.
fn generation(random: &mut Random, store: u64, from: u64, bytes: usize) -> Vec<Entry> {
    let (mut entries, mut size, mut ts) = (Vec::new(), 0, from);
    while size < bytes {
        let mut key = encode_raw_key(&random.next().to_be_bytes());
        let mut start = key.clone();
        append_ts(&mut start, Ts::new(ts));
        append_ts(&mut key, Ts::new(ts + 1));
        let write = Write::new(WriteKind::Put, Ts::new(ts), None).to_bytes();
        let len = 300 + random.below(3000) as usize;
        let value = random.bytes(len);
        size += value.len() + 100;
        let entry = |cf, key, value| Entry { region: store, version: 1, cf, kind: EntryKind::Put, key, value };
        entries.push(entry(Cf::Default, start, value));
        entries.push(entry(Cf::Write, key, write));
        ts += 2;
    }
    entries
}

/// Invariant I6: memory does not follow the data.
#[test]
fn memory_is_the_flag_whatever_the_amount_of_data() {
    let storage = memory_storage();
    begin(&storage, 1);
    checkpoint(&storage, 1, 1 << 40);
    let style = Style { compression: Compression::None, block: 200, object: 1000, tags: true, links: false };
    let dir = tempfile::tempdir().unwrap();
    let mut want = lab::State::new();
    for (round, generations) in [0u64..2, 2..10].into_iter().enumerate() {
        for g in generations {
            let mut random = Random(g);
            let entries = generation(&mut random, 1 + g % 3, 10 + (g << 32), 20 << 20);
            for pair in entries.chunks(2) {
                let (user, _) = logtide_model::split_ts(&pair[0].key).unwrap();
                want.insert(logtide_model::decode_raw_key(user).unwrap(), pair[0].value.clone());
            }
            let tag = ObjectTag { boot: 1, generation: g + 1 };
            flush(&storage, &mut random, style, 1 + g % 3, 1000 + g, tag, &entries);
        }
        let target = dir.path().join(round.to_string());
        let summary = restore(&storage, &target, None, |_| ()).unwrap();
        assert!(
            summary.peak_memory <= MIN_MEMORY,
            "{} of {MIN_MEMORY} at {}",
            summary.peak_memory,
            summary.plain_bytes
        );
        assert!(round == 0 || summary.spilled_bytes > 4 * MIN_MEMORY as u64, "{}", summary.spilled_bytes);
        assert!(state_at(&target, 1 << 40).0 == want);
    }
}
