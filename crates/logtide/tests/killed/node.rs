//! The process that is killed: a store on RocksDB with log backup linked in, and a client that writes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide::{Builder, Config, Executor};
use logtide_coordinator::{Advancer, AdvancerConfig, DirectoryStore, RawRange, Store, TaskSpec, Tasks};
use logtide_mock_raftstore::client::Client;
use logtide_mock_raftstore::{Around, Cluster, ClusterConfig};
use logtide_model::{Compression, Task, TaskName, Ts};
use logtide_storage::Storage;

use crate::deadly::{DeadlyHost, DeadlyObjects, DeadlyStore, Death, Fate};
use crate::proof::Proof;

const PATIENCE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(100);
/// Flushes that a life without an end lasts for, at the least; deaths come sooner.
const FLUSHES: usize = 10;

/// One life. If it is not killed it proves at its end that the storage has everything.
pub(crate) fn run(dir: &Path, death: Option<Death>) {
    let config = ClusterConfig {
        stores: 1,
        tick: Duration::from_millis(10),
        split_keys: vec![b"key-3".to_vec(), b"key-6".to_vec()],
        ..ClusterConfig::rocksdb(dir.join("cluster"))
    };
    let cluster = Cluster::start(config).unwrap();
    assert!(cluster.wait_ready(PATIENCE), "no leader");
    let client = Client::new(cluster.rpc());
    let proof = Proof { dir: dir.to_owned(), client: client.clone() };
    let tasks = Tasks::new(Arc::new(DirectoryStore::open(dir.join("coordinator")).unwrap()));
    let task = the_task(dir, &tasks);
    // What the life before promised, before this one can mend anything.
    advance(&cluster, &tasks);
    proof.prove(tasks.global_checkpoint(&task.name).unwrap());
    let backup = link(dir, &cluster, Fate::new(death));
    work(&client, &tasks, &task);
    backup.shutdown();
    let checkpoint = tasks.global_checkpoint(&task.name).unwrap();
    assert!(checkpoint.is_some(), "there is a checkpoint at the end");
    proof.prove(checkpoint);
    proof.sweep();
    proof.prove(checkpoint);
    assert_eq!(std::fs::read_dir(spool(dir)).unwrap().count(), 0, "spool files are left");
    cluster.shutdown();
}

/// Lets what was published become the checkpoint: once the lease of the advancer that was killed has expired.
fn advance(cluster: &Cluster, tasks: &Tasks) {
    let mut advancer = Advancer::new(tasks.store().clone(), cluster.host(1), AdvancerConfig::new(1));
    let begun = Instant::now();
    while !advancer.tick(Instant::now()).unwrap().elected {
        assert!(begun.elapsed() < PATIENCE, "the advancer is not elected");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    advancer.tick(Instant::now()).unwrap();
    advancer.resign().unwrap();
}

fn spool(dir: &Path) -> PathBuf {
    dir.join("spool")
}

fn the_task(dir: &Path, tasks: &Tasks) -> Task {
    if let Some(task) = tasks.list().unwrap().pop() {
        return task;
    }
    std::fs::create_dir_all(dir.join("storage")).unwrap();
    let spec = TaskSpec {
        name: TaskName::new("killed").unwrap(),
        storage: format!("local://{}", dir.join("storage").display()),
        start_ts: Ts::ZERO,
        ranges: vec![RawRange::default()],
        compression: Compression::Zstd,
        encryption: None,
    };
    tasks.create(&spec).unwrap()
}

fn link(dir: &Path, cluster: &Cluster, fate: Fate) -> Executor {
    let config =
        Config { temp_path: spool(dir), max_flush_interval: INTERVAL, metadata_merge_count: 3, ..Config::default() };
    let coordinator: Arc<dyn Store> = Arc::new(DirectoryStore::open(dir.join("coordinator")).unwrap());
    let objects = fate.clone();
    let backup = Builder::new(Arc::new(Around(DeadlyHost(cluster.host(1), fate.clone()))), dir)
        .coordinator(Arc::new(DeadlyStore(coordinator, fate)))
        .storages(move |url| {
            let Storage { store, url } = logtide_storage::open(url)?;
            Ok(Storage { store: Arc::new(DeadlyObjects(store, objects.clone())), url })
        })
        .config(config)
        .start()
        .unwrap();
    cluster.add_observer(1, backup.observer()).unwrap();
    backup
}

/// Writes until there were some flushes, and the checkpoint has passed what was written.
fn work(client: &Client, tasks: &Tasks, task: &Task) {
    let begun = Instant::now();
    let (mut checkpoints, mut last, mut written) = (0, Ts::ZERO, Ts::ZERO);
    for n in 0.. {
        let mut txn = client.begin().unwrap();
        for key in 0..4 {
            let value = format!("{n} of process {}", std::process::id()).repeat(1 + n % 40);
            txn.put(format!("key-{}{}", (n + key * 3) % 9, n % 7), value);
        }
        txn.delete(format!("key-{}{}", n % 9, (n + 3) % 7));
        if checkpoints < FLUSHES {
            written = txn.commit().unwrap();
        }
        let reached = tasks.global_checkpoint(&task.name).unwrap().unwrap_or(Ts::ZERO);
        checkpoints += usize::from(reached > last);
        last = reached;
        if checkpoints >= FLUSHES && reached >= written {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the checkpoint is at {reached}, and {written} was written");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
