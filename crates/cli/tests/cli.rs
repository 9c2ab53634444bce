//! The command as its user has it: a process, its exit code, what it prints.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests, also in what tests share")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use logtide_coordinator::{DirectoryStore, FlushAnswer, NodeRecord, StoreStatus, Tasks};
use logtide_model::{Cipher, Incarnation, SecretKey, TaskEncryption, TaskName, Ts};
use logtide_storage::{CheckpointWriter, Identity, claim};
use serde_json::Value;
use tempfile::TempDir;

struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        World { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn url(&self, name: &str) -> String {
        format!("local://{}", self.path(name).display())
    }

    /// A coordinator that a node of cluster 7 has told about itself at ts 1,000.
    fn coordinator(&self) -> String {
        let dir = self.path("coordinator");
        let tasks = Tasks::new(Arc::new(DirectoryStore::open(&dir).unwrap()));
        tasks.put_node(&NodeRecord { store_id: 1, cluster_id: 7, ts: 1_000, at_ms: 0 }).unwrap();
        dir.display().to_string()
    }

    /// A storage that claims to be complete from 100 to 200, and holds nothing.
    fn storage(&self) -> String {
        std::fs::create_dir(self.path("storage")).unwrap();
        let storage = logtide_storage::open(&self.url("storage")).unwrap();
        let identity = Identity::new(7, TaskName::new("pitr").unwrap(), Incarnation(1), Ts::new(100));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            claim(&storage, &identity).await.unwrap();
            CheckpointWriter::new(storage.clone(), 1).write(Ts::new(200)).await.unwrap();
        });
        self.url("storage")
    }

    fn restore(&self, storage: &str, ts: Option<&str>, more: &[&str]) -> Output {
        let target = self.path("restored").display().to_string();
        let mut args = vec!["restore", "point", "--storage", storage, "--to", &target];
        args.extend(ts.iter().flat_map(|ts| ["--restored-ts", ts]));
        args.extend(more);
        logtide(&args)
    }
}

fn logtide(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_logtide")).args(args).env_remove("LOGTIDE_COORDINATOR").output().unwrap()
}

fn refused(output: &Output, exit: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "'{word}' is not in: {stderr}");
    }
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The backup that TiKV wrote, copied to be damaged.
fn tikv_backup(to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/tests/data/interop/zstd/backup");
    copy(&from, to);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

fn first_file(dir: &Path, ending: &str) -> PathBuf {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    let found = entries.iter().find_map(|path| {
        if path.is_dir() {
            return std::panic::catch_unwind(|| first_file(path, ending)).ok();
        }
        path.to_string_lossy().ends_with(ending).then(|| path.clone())
    });
    found.unwrap()
}

#[test]
fn a_task_begins_is_shown_and_ends() {
    let world = World::new();
    let (coordinator, url) = (world.coordinator(), world.url("new"));
    std::fs::create_dir(world.path("new")).unwrap();
    let begin = ["--json", "log", "start", "-u", &coordinator, "--task-name", "pitr", "--storage", &url];
    let begun = json(&logtide(&begin));
    assert_eq!(begun["start_ts"], 1_000, "the clock of the cluster, not that of this machine");
    refused(&logtide(&begin), 1, &["KV:LogBackup:TaskExists", "pitr"]);
    let status = json(&logtide(&["--json", "log", "status", "-u", &coordinator]));
    assert_eq!((&status[0]["name"], &status[0]["status"]), (&"pitr".into(), &"RUNNING".into()));
    let text = logtide(&["log", "status", "-u", &coordinator, "--task-name", "pitr"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("checkpoint[global]: none yet"));
    json(&logtide(&["--json", "log", "stop", "-u", &coordinator, "--task-name", "pitr"]));
    assert_eq!(json(&logtide(&["--json", "log", "status", "-u", &coordinator])), Value::Array(Vec::new()));
}

#[test]
fn a_task_that_cannot_be_is_refused() {
    let world = World::new();
    let coordinator = world.coordinator();
    let begin = |name: &str, storage: &str, more: &[&str]| {
        let mut args = vec!["log", "start", "-u", &coordinator, "--task-name", name, "--storage", storage];
        args.extend(more);
        logtide(&args)
    };
    std::fs::write(world.path("file"), "").unwrap();
    let under_file = format!("{}/below", world.url("file"));
    refused(&begin("a b", &world.url("s"), &[]), 2, &["a b", "0-9, a-z"]);
    refused(&begin("t", "nonsense", &[]), 1, &["nonsense", "local:///"]);
    let half = begin("t", "s3://bucket/p?secret-access-key=S3CRET", &[]);
    refused(&half, 1, &["secret-access-key", "there is no access-key"]);
    assert!(!String::from_utf8_lossy(&half.stderr).contains("S3CRET"));
    refused(&begin("t", &world.url("file"), &[]), 1, &["file"]);
    refused(&begin("t", &under_file, &[]), 1, &["is not a directory", "what to do"]);
    refused(&begin("t", &world.url("s"), &["--start-ts", "1001"]), 2, &["1001", "later than the cluster's clock"]);
    refused(&begin("t", &world.url("s"), &["--start-key", "zz"]), 2, &["zz", "hex"]);
    let storage = world.storage();
    refused(&begin("other", &storage, &[]), 1, &["holds the backup of task pitr of cluster 7"]);
    assert_eq!(json(&logtide(&["--json", "log", "status", "-u", &coordinator])), Value::Array(Vec::new()));
}

#[test]
fn unknown_tasks_and_coordinators_are_named() {
    let world = World::new();
    let coordinator = world.coordinator();
    for verb in ["stop", "status", "pause", "resume"] {
        let output = logtide(&["log", verb, "-u", &coordinator, "--task-name", "nope"]);
        refused(&output, 1, &["KV:LogBackup:NoSuchTask", "nope", "logtide log status"]);
    }
    let nowhere = world.path("nowhere").display().to_string();
    refused(&logtide(&["log", "status", "-u", &nowhere]), 1, &["nowhere", "--coordinator"]);
    std::fs::create_dir(world.path("nowhere")).unwrap();
    let begin = ["log", "start", "-u", &nowhere, "--task-name", "t", "--storage", &world.url("s")];
    refused(&logtide(&begin), 1, &["no storage node has told this coordinator"]);
}

#[test]
fn a_task_is_paused_and_goes_on() {
    let world = World::new();
    let (coordinator, url) = (world.coordinator(), world.url("new"));
    std::fs::create_dir(world.path("new")).unwrap();
    let log = |verb: &str, more: &[&str]| {
        let mut args = vec!["--json", "log", verb, "-u", &coordinator, "--task-name", "pitr"];
        args.extend(more);
        json(&logtide(&args))
    };
    log("start", &["--storage", &url]);
    assert_eq!(log("resume", &[])["changed"], false, "it is not paused");
    assert_eq!(log("pause", &["--message", "moving house"])["changed"], true);
    assert_eq!(log("pause", &["--message", "again"])["changed"], false);
    let status = log("status", &[]);
    assert_eq!((&status[0]["status"], &status[0]["pause"]["reason"]), (&"PAUSED".into(), &"moving house".into()));
    let text = logtide(&["log", "status", "-u", &coordinator]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("PAUSED") && text.contains("moving house") && text.contains("paused: since 2"), "{text}");
    assert_eq!(log("resume", &[])["changed"], true);
    let status = log("status", &[]);
    assert_eq!((&status[0]["status"], &status[0]["pause"]), (&"RUNNING".into(), &Value::Null));
}

#[test]
fn a_flush_is_asked_of_every_store_that_lives_and_answers_are_told_as_they_are() {
    let world = World::new();
    let (coordinator, url) = (world.coordinator(), world.url("new"));
    std::fs::create_dir(world.path("new")).unwrap();
    let common = ["-u", &coordinator, "--task-name", "t"];
    let flush = || logtide(&[&["log", "flush"][..], &common, &["--timeout", "30s"]].concat());
    refused(&flush(), 1, &["KV:LogBackup:NoSuchTask", "t"]);
    assert!(logtide(&[&["log", "start"][..], &common, &["--storage", &url]].concat()).status.success());
    refused(&flush(), 1, &["no store runs task t"]);
    let tasks = Tasks::new(Arc::new(DirectoryStore::open(world.path("coordinator")).unwrap()));
    let task = tasks.require(&TaskName::new("t").unwrap()).unwrap();
    for store_id in [1, 2] {
        let boot = tasks.boot_epoch(store_id).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        tasks.put_status(&task, &StoreStatus { store_id, boot, at_ms: now, ..StoreStatus::default() }).unwrap();
    }
    let answer = |ticket, store_id, generation, error| {
        tasks.answer_flush(&task, &FlushAnswer { ticket, store_id, generation, error }).unwrap();
    };
    let told = std::thread::scope(|scope| {
        let flush = scope.spawn(flush);
        let ticket = loop {
            match tasks.flush_requested(&task).unwrap() {
                Some(ticket) => break ticket,
                None => std::thread::yield_now(),
            }
        };
        answer(ticket, 1, Some(5), None);
        answer(ticket, 2, None, Some("its disk is full".to_owned()));
        flush.join().unwrap()
    });
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(
        said.contains("store 1: flushed, generation 5") && said.contains("store 2: not flushed: its disk"),
        "{said}"
    );
    refused(&told, 1, &["not flushed on store 2"]);
}

/// A key that must be nowhere in what the command prints.
const KEY: &str = "000102030405060708090a0b0c0d0e0f";

fn tells_no_key(output: &Output) {
    let all = [&output.stdout[..], &output.stderr].concat();
    assert!(!String::from_utf8_lossy(&all).contains("0405060708"), "{}", String::from_utf8_lossy(&all));
}

#[test]
fn keys_are_checked_kept_and_told_to_nobody() {
    let world = World::new();
    let (coordinator, url) = (world.coordinator(), world.url("new"));
    std::fs::create_dir(world.path("new")).unwrap();
    std::fs::write(world.path("key"), format!("{KEY}\n")).unwrap();
    let file = world.path("key").display().to_string();
    let nowhere = world.path("nowhere.key").display().to_string();
    let begin = |more: &[&str]| {
        let mut args = vec!["log", "start", "-u", &coordinator, "--task-name", "t", "--storage", &url];
        args.extend(more);
        let output = logtide(&args);
        tells_no_key(&output);
        output
    };
    let (key, odd) = (["--log.crypter.key", KEY], ["--log.crypter.key", "0001020304050607080"]);
    let method = |name| ["--log.crypter.method", name];
    refused(&begin(&key), 2, &["--log.crypter.method", "aes128-ctr"]);
    refused(&begin(&[method("aes256-ctr"), key].concat()), 2, &["32 bytes", "has 16"]);
    refused(&begin(&[method("aes128-ctr"), odd].concat()), 2, &["hexadecimal"]);
    refused(&begin(&[method("rot13"), key].concat()), 2, &["rot13", "aes128-ctr"]);
    refused(&begin(&method("aes128-ctr")), 2, &["key"]);
    refused(&begin(&["--log.crypter.key-file", &nowhere]), 1, &["nowhere.key"]);
    refused(&begin(&["--master-key", "vault:///x"]), 2, &["--master-key", "aws-kms"]);
    assert!(begin(&[method("aes128-ctr"), ["--log.crypter.key-file", &file]].concat()).status.success());
    for how in [&["--json"][..], &[]] {
        let shown = logtide(&[how, &["log", "status", "-u", &coordinator]].concat());
        assert!(shown.status.success());
        tells_no_key(&shown);
    }
    let name = TaskName::new("t").unwrap();
    let tasks = Tasks::new(Arc::new(DirectoryStore::open(world.path("coordinator")).unwrap()));
    let key = SecretKey::new((0..16).collect::<Vec<u8>>());
    let expected = TaskEncryption::DataKey { cipher: Cipher::Aes128Ctr, key };
    assert_eq!(tasks.require(&name).unwrap().encryption, Some(expected));
}

#[test]
fn an_encrypted_backup_of_tikv_is_restored_with_its_key_and_refused_without() {
    let world = World::new();
    let interop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/tests/data/interop");
    copy(&interop.join("zstd_masterkey_file/backup"), &world.path("tikv"));
    refused(&world.restore(&world.url("tikv"), None, &[]), 1, &["KV:LogBackup:Encryption"]);
    let master = format!("local://{}", interop.join("master_key.hex").canonicalize().unwrap().display());
    let summary = json(&world.restore(&world.url("tikv"), None, &["--json", "--master-key", &master]));
    assert_eq!((&summary["restored_ts"], &summary["inexact"]["count"]), (&summary["checkpoint"], &0.into()));
}

#[test]
fn a_ts_outside_of_the_log_is_refused_with_both_bounds() {
    let world = World::new();
    let storage = world.storage();
    for ts in ["99", "201"] {
        refused(&world.restore(&storage, Some(ts), &[]), 1, &["KV:LogBackup:TsOutOfRange", ts, "100", "200"]);
    }
    refused(&world.restore(&storage, Some("yesterday"), &[]), 2, &["yesterday", "zone"]);
    assert!(!world.path("restored").exists());
    let info = json(&logtide(&["--json", "log", "metadata", "--storage", &storage]));
    assert_eq!((&info["start_ts"], &info["checkpoint"], &info["task"]), (&100.into(), &200.into(), &"pitr".into()));
}

#[test]
fn a_backup_that_tikv_wrote_is_restored_and_dumped() {
    let world = World::new();
    tikv_backup(&world.path("tikv"));
    let summary = json(&world.restore(&world.url("tikv"), None, &["--json", "--memory", "64MiB"]));
    assert_eq!(summary["restored_ts"], summary["checkpoint"]);
    let at = summary["restored_ts"].to_string();
    let restored = world.path("restored").display().to_string();
    let lines = logtide(&["dump", &restored, "--at", &at]);
    let lines = String::from_utf8(lines.stdout).unwrap();
    let count = json(&logtide(&["--json", "dump", &restored, "--at", &at, "--count"]));
    assert_eq!(count["keys"], lines.lines().count());
    assert!(lines.lines().count() > 100, "590 records leave more keys than {}", lines.lines().count());
    assert!(lines.lines().is_sorted());
    refused(&world.restore(&world.url("tikv"), None, &[]), 1, &["KV:LogBackup:TargetInUse", "restored"]);
}

#[test]
fn damage_is_refused_by_name_and_leaves_nothing_behind() {
    let world = World::new();
    type Damage = fn(&Path);
    let truncate: Damage = |path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 3]).unwrap();
    };
    let flip: Damage = |path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let remove: Damage = |path| std::fs::remove_file(path).unwrap();
    for (name, ending, damage, word) in [
        ("truncated", ".meta", truncate, "MalformedMetadata"),
        ("flipped", ".log", flip, "offset"),
        ("missing", ".log", remove, "missing"),
    ] {
        tikv_backup(&world.path(name));
        let victim = first_file(&world.path(name).join("v1"), ending);
        damage(&victim);
        let object = victim.file_name().unwrap().to_string_lossy().into_owned();
        refused(&world.restore(&world.url(name), None, &[]), 1, &[&object, word]);
        assert!(!world.path("restored").exists(), "{name}");
    }
}

#[test]
fn a_sweep_names_what_is_superfluous_and_removes_it_if_asked_to() {
    let world = World::new();
    let url = world.storage();
    let sweep = |more: &[&str]| logtide(&[&["--json", "storage", "sweep", "--storage", &url], more].concat());
    let left = world.path("storage").join("v1/global_checkpoint/1.ts#7");
    std::fs::write(&left, b"12").unwrap();
    let young = json(&sweep(&["--delete"]));
    assert_eq!((&young["deleted"], &young["kept"][0]["reason"]), (&0.into(), &"young".into()));
    let found = json(&sweep(&["--min-age", "0s"]));
    assert_eq!((&found["deleted"], &found["found"][0]["reason"]), (&0.into(), &"temporary-file".into()));
    assert!(left.exists(), "it only looked");
    let text = logtide(&["storage", "sweep", "--storage", &url, "--min-age", "0s"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("killed while it wrote") && text.contains("1.ts#7") && text.contains("--delete"), "{text}");
    assert_eq!(json(&sweep(&["--min-age", "0s", "--delete"]))["deleted"], 1);
    assert!(!left.exists() && world.path("storage").join("v1/global_checkpoint/1.ts").exists());
    std::fs::create_dir(world.path("empty")).unwrap();
    let empty = logtide(&["storage", "sweep", "--storage", &world.url("empty")]);
    refused(&empty, 1, &["no identity of a log backup", "check the URL"]);
    refused(&sweep(&["--memory", "1MiB"]), 1, &["memory"]);
}

#[test]
fn help_teaches() {
    for args in [&["--help"][..], &["log", "start", "--help"], &["restore", "point", "--help"], &["dump", "--help"]] {
        let output = logtide(args);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("Usage: logtide"));
    }
    assert_eq!(logtide(&["log", "strat"]).status.code(), Some(2));
}
