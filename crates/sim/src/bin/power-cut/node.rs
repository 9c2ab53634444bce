//! A store under load until the power of its disk goes, and what it had promised by then.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use logtide::{Builder, Config, Executor};
use logtide_coordinator::{DirectoryStore, RawRange, TaskSpec, Tasks};
use logtide_mock_raftstore::client::Client;
use logtide_mock_raftstore::{Cluster, ClusterConfig, Driver};
use logtide_model::{Compression, Task, TaskName, Ts};

use crate::Failure;
use crate::broken::{self, Break};
use crate::disk::Disk;
use crate::proof::{Life, Moment};

const WRITERS: u64 = 3;
/// Nothing takes so long.
const PATIENCE: Duration = Duration::from_secs(120);
/// The store goes on for so long without its disk.
const AFTERWARDS: Duration = Duration::from_millis(300);
/// How often the published checkpoint is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Runs a store on `disk`, whose power goes `after` its first checkpoint.
pub(crate) fn live(disk: &Disk, outside: &Path, after: Duration, broken: Option<Break>) -> Result<Life, Failure> {
    let split_keys = [b"3".to_vec(), b"6".to_vec()].into();
    let cluster = Cluster::start(ClusterConfig { stores: 1, split_keys, ..ClusterConfig::memory(Driver::Threads) })?;
    if !cluster.wait_ready(PATIENCE) {
        return Err("the cluster has no leaders".into());
    }
    let executor = start(disk, outside, &cluster, broken)?;
    let tasks = Tasks::new(Arc::new(DirectoryStore::open(outside)?));
    let task = begin(disk, &tasks)?;
    let (stop, commits) = (AtomicBool::new(false), AtomicU64::new(0));
    let published = thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (client, stop, commits) = (Client::new(cluster.rpc()), &stop, &commits);
            scope.spawn(move || write(&client, writer, stop, commits));
        }
        let published = watch(disk, &tasks, &task, after);
        stop.store(true, Ordering::Relaxed);
        published
    })?;
    drop(executor);
    let client = Client::new(cluster.rpc());
    // What was published last, and something from the middle of it.
    let of_interest = published.iter().copied().last().into_iter().chain(published.get(published.len() / 2).copied());
    let mut moments = Vec::new();
    for ts in of_interest {
        moments.push(Moment { ts, truth: client.snapshot(ts).scan(b"", b"", usize::MAX)?.into_iter().collect() });
    }
    cluster.shutdown();
    Ok(Life { moments, published: published.len() as u64, commits: commits.into_inner() })
}

fn start(disk: &Disk, outside: &Path, cluster: &Cluster, broken: Option<Break>) -> Result<Executor, Failure> {
    let config = Config {
        temp_path: disk.spool(),
        temp_file_memory_quota: ByteSize::mib(4),
        max_flush_interval: Duration::from_millis(100),
        file_size_limit: ByteSize::mib(1),
        num_threads: 2,
        ..Config::default()
    };
    let mut builder = Builder::new(cluster.host(1), outside).config(config);
    if let Some(broken) = broken {
        builder = builder.storages(move |url| broken::open(url, broken));
    }
    let executor = builder.start()?;
    cluster.add_observer(1, executor.observer())?;
    Ok(executor)
}

fn begin(disk: &Disk, tasks: &Tasks) -> Result<Task, Failure> {
    let spec = TaskSpec {
        name: TaskName::new("power")?,
        storage: format!("local://{}", disk.storage().display()),
        start_ts: Ts::ZERO,
        ranges: vec![RawRange::default()],
        compression: Compression::Zstd,
        encryption: None,
    };
    Ok(tasks.create(&spec)?)
}

/// Small and large values over all regions; keys come again, some are deleted.
fn write(client: &Client, writer: u64, stop: &AtomicBool, commits: &AtomicU64) {
    let mut n = writer;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut txn) = client.begin() else { continue };
        for _ in 0..8 {
            n += WRITERS;
            let key = format!("{:03}-{writer}", n * 37 % 1000);
            let length = if n.is_multiple_of(5) { 20_000 } else { 30 };
            let value = format!("{n}-").repeat(length / 6).into_bytes();
            if n.is_multiple_of(13) { txn.delete(key) } else { txn.put(key, value) }
        }
        // One that fails is not there, or is: the cluster knows.
        if txn.commit().is_ok() {
            commits.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Waits for the first checkpoint, then for a while, then cuts the power; all checkpoints that were published, those after
/// it too.
fn watch(disk: &Disk, tasks: &Tasks, task: &Task, after: Duration) -> Result<Vec<Ts>, Failure> {
    let (begun, mut first, mut cut) = (Instant::now(), None, None);
    let mut published: Vec<Ts> = Vec::new();
    loop {
        let checkpoint = tasks.global_checkpoint(&task.name)?.unwrap_or(Ts::ZERO);
        if checkpoint > published.last().copied().unwrap_or(Ts::ZERO) {
            published.push(checkpoint);
            first.get_or_insert_with(Instant::now);
        }
        match (first, cut) {
            (None, _) if begun.elapsed() > PATIENCE => return Err("there is no checkpoint".into()),
            (Some(first), None) if first.elapsed() >= after => {
                disk.shut_down()?;
                cut = Some(Instant::now());
            }
            (_, Some(cut)) if cut.elapsed() >= AFTERWARDS => return Ok(published),
            _ => thread::park_timeout(LOOK),
        }
    }
}
