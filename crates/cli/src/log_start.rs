//! `logtide log start`.

use logtide_coordinator::{NodeRecord, RawRange, TaskSpec, Tasks};
use logtide_model::{Compression, TaskName, Ts};
use logtide_storage::Storage;
use serde_json::json;

use crate::args::StartArgs;
use crate::report::{Failure, say};
use crate::{coordinator, crypter};
use crate::{range_arg, runtime, ts_arg};

pub(crate) fn run(args: &StartArgs, as_json: bool) -> Result<(), Failure> {
    let name =
        TaskName::new(&args.task_name).map_err(|e| Failure::usage(e.to_string(), "choose another --task-name"))?;
    let encryption = crypter::encryption(&args.crypter)?;
    let (start, end) = range_arg::raw(&args.start_key, &args.end_key)?;
    let tasks = coordinator::open(&args.coordinator)?;
    if tasks.get(&name)?.is_some() {
        return Err(logtide_coordinator::CoordinatorError::TaskExists(name).into());
    }
    let node = newest_node(&tasks)?;
    let now = Ts::new(node.ts);
    let start_ts = args.start_ts.unwrap_or(now);
    if start_ts > now {
        let what =
            format!("--start-ts {} is later than the cluster's clock, {}", ts_arg::show(start_ts), ts_arg::show(now));
        return Err(Failure::usage(what, "leave --start-ts out to start now"));
    }
    let storage = logtide_storage::open(&args.storage)?;
    check(&storage)?;
    let spec = TaskSpec {
        name,
        // With the credentials: every store opens it by the task's record.
        storage: logtide_storage::task_url(&args.storage)?,
        start_ts,
        ranges: vec![RawRange::new(start, end)],
        compression: if args.no_compression { Compression::None } else { Compression::Zstd },
        encryption,
    };
    let task = tasks.create(&spec)?;
    if as_json {
        say(&json!({ "name": task.name.as_str(), "start_ts": task.start_ts.get(), "storage": storage.url }).to_string());
    } else {
        say(&format!("task {} begins: from {} into {}", task.name, ts_arg::show(task.start_ts), storage.url));
        say("every store takes it up by itself; 'logtide log status' shows how far it is");
    }
    Ok(())
}

/// The clock of the cluster, as its nodes last told.
fn newest_node(tasks: &Tasks) -> Result<NodeRecord, Failure> {
    let nodes = tasks.nodes()?;
    nodes.into_iter().max_by_key(|node| node.ts).ok_or_else(|| {
        Failure::failed(
            "no storage node has told this coordinator about itself",
            "check that --coordinator is the directory that the nodes use, and that a node is running",
        )
    })
}

/// What the stores would find out only later: that the storage cannot be written, or is another's.
fn check(storage: &Storage) -> Result<(), Failure> {
    runtime::block_on(async {
        logtide_storage::probe(storage).await?;
        match logtide_storage::read_identity(storage).await? {
            None => Ok(()),
            Some(other) => Err(Failure::failed(
                format!(
                    "{} holds the backup of task {} of cluster {} already",
                    storage.url, other.task, other.cluster_id
                ),
                "use an empty directory or prefix: a backup belongs to one life of one task",
            )),
        }
    })
}
