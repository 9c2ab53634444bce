//! What catching a region up costs on RocksDB: how much slower the foreground is while a scan reads at its limit, and what
//! a catch-up from the raft log reads and takes against a scan.
//!
//! `cargo build --workspace --all-features --examples`, then `scan_cost [MB of data] [MB that are missed]`

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example that prints figures")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use logtide::{Builder, Config, Executor};
use logtide_coordinator::{DirectoryStore, Pause, RawRange, TaskSpec, Tasks};
use logtide_mock_raftstore::client::Client;
use logtide_mock_raftstore::{Around, Cluster, ClusterConfig, HostLayer};
use logtide_model::{Compression, Host, HostError, LogEntries, RegionId, Task, TaskName, Ts};
use prometheus::Registry;

const VALUE: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the foreground is measured without a scan.
const CALM: Duration = Duration::from_secs(5);

fn main() {
    let arg = |i: usize, default: usize| std::env::args().nth(i).map_or(default, |a| a.parse().unwrap());
    let (data, missed) = (arg(1, 200), arg(2, 10));
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.load("data", data * 1_000_000);
    node.load("hot", 2_000_000);
    node.stop();
    println!("{data} MB of data; the page cache is emptied before every scan");
    for limit in [ByteSize::mib(60), ByteSize::mib(20), ByteSize::gib(4)] {
        foreground(dir.path(), limit);
    }
    println!("{missed} MB are written while the task is paused, then it goes on:");
    for from_log in [true, false] {
        catch_up(dir.path(), missed, from_log);
    }
}

/// Latencies of small transactions, without and with a scan.
fn foreground(dir: &Path, limit: ByteSize) {
    let node = Node::start(dir);
    let calm = node.latencies(|| thread::sleep(CALM));
    let backup = node.link(limit, true);
    forget_pages();
    let begun = Instant::now();
    let task = node.begin_task();
    let busy = node.latencies(|| node.wait_for_checkpoint(&task));
    let took = begun.elapsed().as_secs_f64();
    let read = backup.metric("tikv_log_backup_initial_scan_disk_read");
    println!(
        "limit {limit}/s: scanned in {took:.1} s, {:.0} MB from disk ({:.0} MiB/s); foreground p50 {:.2} → {:.2} ms, p99 {:.2} → {:.2} ms \
         ({:.2}×), {} and {} transactions",
        read / 1e6,
        read / took / f64::from(1 << 20),
        calm.at(0.5),
        busy.at(0.5),
        calm.at(0.99),
        busy.at(0.99),
        busy.at(0.99) / calm.at(0.99),
        calm.0.len(),
        busy.0.len(),
    );
    node.end(backup, &task);
}

/// A gap of `missed` megabytes, closed from the raft log or by a scan.
fn catch_up(dir: &Path, missed: usize, from_log: bool) {
    let node = Node::start(dir);
    let backup = node.link(ByteSize::gib(4), from_log);
    let task = node.begin_task();
    node.wait_for_checkpoint(&task);
    let tasks = node.tasks();
    tasks.set_pause(&task, &Pause::default()).unwrap();
    node.wait(|| backup.executor.flush_now(&task.name, PATIENCE).is_err_and(|e| e.contains("does not run")));
    node.load("data", missed * 1_000_000);
    let names = ["tikv_log_backup_initial_scan_disk_read", "tikv_log_backup_incremental_scan_bytes"];
    let before = names.map(|name| backup.metric(name));
    let scanned = backup.metric("tikv_log_backup_initial_scan_duration_sec");
    forget_pages();
    let begun = Instant::now();
    tasks.clear_pause(&task).unwrap();
    node.wait_for_checkpoint(&task);
    let took = begun.elapsed();
    let [disk, records] = [0, 1].map(|i| (backup.metric(names[i]) - before[i]) / 1e6);
    println!(
        "{}: {disk:.1} MB from disk, {records:.1} MB of records, {:.2} s of scanners' time, {:.1} s until the checkpoint; sources {}",
        if from_log { "raft log" } else { "scan" },
        backup.metric("tikv_log_backup_initial_scan_duration_sec") - scanned,
        took.as_secs_f64(),
        backup.by_label("logtide_catch_up_source"),
    );
    node.end(backup, &task);
}

/// What was read is read from the disk again: as on a node whose data is larger than its memory. Needs root.
fn forget_pages() {
    let script = "sync; echo 3 > /proc/sys/vm/drop_caches";
    let done = Command::new("sh").args(["-c", script]).output().is_ok_and(|output| output.status.success());
    if !done {
        println!("(the page cache could not be emptied: not root; nothing is read from the disk)");
    }
}

/// Milliseconds, ascending.
struct Latencies(Vec<f64>);

impl Latencies {
    fn at(&self, quantile: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * quantile) as usize]
    }
}

struct Node {
    dir: PathBuf,
    cluster: Cluster,
    client: Client,
}

struct Backup {
    executor: Executor,
    registry: Registry,
}

impl Backup {
    /// The sum of a counter, or of a histogram's samples, over all labels.
    fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather().into_iter().filter(|family| family.name() == name);
        let of = |m: &prometheus::proto::Metric| m.get_counter().get_value() + m.get_histogram().get_sample_sum();
        families.map(|family| family.get_metric().iter().map(of).sum::<f64>()).sum()
    }

    fn by_label(&self, name: &str) -> String {
        let families = self.registry.gather().into_iter().filter(|family| family.name() == name);
        let of =
            |m: &prometheus::proto::Metric| format!("{} {}", m.get_label()[0].value(), m.get_counter().get_value());
        families
            .flat_map(|family| family.get_metric().iter().map(of).collect::<Vec<_>>())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl Node {
    fn start(dir: &Path) -> Node {
        let split_keys = (1..8).map(|n| format!("data-{n}").into_bytes()).collect();
        let config = ClusterConfig { stores: 1, split_keys, ..ClusterConfig::rocksdb(dir.join("cluster")) };
        let cluster = Cluster::start(config).unwrap();
        assert!(cluster.wait_ready(PATIENCE));
        Node { dir: dir.to_owned(), client: Client::new(cluster.rpc()), cluster }
    }

    fn load(&self, prefix: &str, bytes: usize) {
        for n in 0..bytes / VALUE / 64 {
            let mut txn = self.client.begin().unwrap();
            for i in 0..64 {
                let key = (n * 64 + i).wrapping_mul(0x9E37_79B9) % 90_000_000 + 10_000_000;
                // Does not compress: what is written is what is read.
                let mut state = (n * 64 + i) as u64;
                let value: Vec<u8> = std::iter::repeat_with(|| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 56) as u8
                })
                .take(VALUE)
                .collect();
                txn.put(format!("{prefix}-{key}"), value);
            }
            txn.commit().unwrap();
        }
    }

    fn tasks(&self) -> Tasks {
        Tasks::new(Arc::new(DirectoryStore::open(self.dir.join("coordinator")).unwrap()))
    }

    fn link(&self, limit: ByteSize, from_log: bool) -> Backup {
        let config = Config {
            temp_path: self.dir.join("spool"),
            max_flush_interval: Duration::from_secs(1),
            initial_scan_rate_limit: limit,
            ..Config::default()
        };
        let registry = Registry::new();
        let host: Arc<dyn Host> =
            if from_log { self.cluster.host(1) } else { Arc::new(Around(WithoutLog(self.cluster.host(1)))) };
        let builder = Builder::new(host, self.dir.join("coordinator")).config(config);
        let executor = builder.registry(&registry).start().unwrap();
        self.cluster.add_observer(1, executor.observer()).unwrap();
        Backup { executor, registry }
    }

    fn begin_task(&self) -> Task {
        let storage = self.dir.join(format!("storage-{}", self.client.timestamp().unwrap()));
        std::fs::create_dir(&storage).unwrap();
        let spec = TaskSpec {
            name: TaskName::new("cost").unwrap(),
            storage: format!("local://{}", storage.display()),
            start_ts: Ts::ZERO,
            ranges: vec![RawRange::default()],
            compression: Compression::Zstd,
            encryption: None,
        };
        self.tasks().create(&spec).unwrap()
    }

    fn wait(&self, done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < PATIENCE, "it takes too long");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Until all that is committed now is covered.
    fn wait_for_checkpoint(&self, task: &Task) {
        let (now, tasks) = (self.client.timestamp().unwrap(), self.tasks());
        self.wait(|| tasks.global_checkpoint(&task.name).unwrap().is_some_and(|checkpoint| checkpoint >= now));
    }

    /// Of transactions that read two hot keys and write one, by two clients, while something else is done.
    fn latencies(&self, meanwhile: impl FnOnce()) -> Latencies {
        let over = AtomicBool::new(false);
        let client = |seed: usize| {
            let (mut all, mut n) = (Vec::new(), seed);
            while !over.load(Ordering::Relaxed) {
                n = n.wrapping_mul(0x9E37_79B9).wrapping_add(1);
                let begun = Instant::now();
                let mut txn = self.client.begin().unwrap();
                let key = |n: usize| format!("hot-{seed}{}", n % 1000).into_bytes();
                txn.get(&key(n)).unwrap();
                txn.get(&key(n / 7)).unwrap();
                txn.put(key(n / 3), vec![n as u8; 100]);
                txn.commit().unwrap();
                all.push(begun.elapsed().as_secs_f64() * 1e3);
                thread::sleep(Duration::from_millis(1));
            }
            all
        };
        let mut all = thread::scope(|scope| {
            let clients = [1, 2].map(|seed| scope.spawn(move || client(seed)));
            meanwhile();
            over.store(true, Ordering::Relaxed);
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<f64>>()
        });
        all.sort_by(f64::total_cmp);
        Latencies(all)
    }

    fn end(self, backup: Backup, task: &Task) {
        self.tasks().remove(&task.name).unwrap();
        backup.executor.shutdown();
        self.stop();
    }

    fn stop(self) {
        self.cluster.shutdown();
    }
}

/// A host that keeps no raft log.
struct WithoutLog(Arc<dyn Host>);

impl HostLayer for WithoutLog {
    fn below(&self) -> &dyn Host {
        &*self.0
    }

    fn raft_log(&self, _: RegionId, _: u64, _: u64, _: u64) -> Result<Option<Box<dyn LogEntries>>, HostError> {
        Ok(None)
    }
}
