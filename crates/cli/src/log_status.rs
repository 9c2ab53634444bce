//! `logtide log status`.

use std::time::{SystemTime, UNIX_EPOCH};

use bytesize::ByteSize;
use logtide_coordinator::{Holder, Pause, PauseReason, StoreStatus, TaskStatus, Tasks};
use logtide_model::{TaskName, Ts};
use logtide_storage::redacted;
use serde_json::{Value, json};

use crate::args::StatusArgs;
use crate::coordinator;
use crate::report::{Failure, say};
use crate::ts_arg;

/// A store that has not told anything for so long is shown as silent.
const SILENT_MS: u64 = 10_000;

pub(crate) fn run(args: &StatusArgs, as_json: bool) -> Result<(), Failure> {
    let tasks = coordinator::open(&args.coordinator)?;
    let all = match &args.task_name {
        Some(name) => vec![named(&tasks, name)?],
        None => tasks.list()?.iter().map(|task| tasks.status(&task.name)).collect::<Result<_, _>>()?,
    };
    let now = now_ms(&tasks)?;
    if as_json {
        say(&Value::Array(all.iter().map(|status| to_json(status, now)).collect()).to_string());
    } else if all.is_empty() {
        say("there is no task; 'logtide log start' begins one");
    } else {
        all.iter().for_each(|status| show(status, now));
    }
    Ok(())
}

fn named(tasks: &Tasks, name: &str) -> Result<TaskStatus, Failure> {
    let name = TaskName::new(name).map_err(|e| Failure::usage(e.to_string(), "see 'logtide log status'"))?;
    Ok(tasks.status(&name)?)
}

/// The cluster's clock as the nodes tell it, moved on by the time since; this machine's where there is no node.
fn now_ms(tasks: &Tasks) -> Result<u64, Failure> {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let newest = tasks.nodes()?.into_iter().max_by_key(|node| node.ts);
    Ok(newest.map_or(wall, |node| Ts::new(node.ts).physical_ms() + wall.saturating_sub(node.at_ms)))
}

fn lag_ms(status: &TaskStatus, now: u64) -> u64 {
    now.saturating_sub(status.checkpoint.physical_ms())
}

/// The field names of `br log status --json`, and ours.
fn to_json(status: &TaskStatus, now: u64) -> Value {
    let task = &status.task;
    json!({
        "name": task.name.as_str(),
        "status": status.state.as_str(),
        "start_ts": task.start_ts.get(),
        "storage": redacted(&task.storage),
        "storage_shortcoming": shortcoming(status),
        "encrypted": task.encryption.is_some(),
        "pause": status.pause.as_ref().map(pause_json),
        "checkpoint": status.checkpoint.get(),
        "lag_ms": lag_ms(status, now),
        "storage_checkpoint": status.storage_checkpoint.map(Ts::get),
        "progress": status.stores.values().collect::<Vec<_>>(),
        "last_errors": status.errors.values().map(error_json).collect::<Vec<_>>(),
        "held_back_by": status.holder.as_ref().map(holder_json),
    })
}

/// What the storage cannot do: all stores see the same one.
fn shortcoming(status: &TaskStatus) -> Option<&str> {
    status.stores.values().find_map(|store| store.storage_shortcoming.as_deref())
}

fn pause_json(pause: &Pause) -> Value {
    json!({ "time": pause.time, "host": pause.host, "pid": pause.pid, "reason": reason(pause) })
}

fn reason(pause: &Pause) -> Option<String> {
    match &pause.reason {
        PauseReason::None => None,
        PauseReason::Message(text) => Some(text.clone()),
        PauseReason::Error(error) => Some(format!("[{}] {}", error.error_code, error.error_message)),
    }
}

fn error_json(error: &logtide_format::proto::StreamBackupError) -> Value {
    json!({
        "store_id": error.store_id, "happen_at": error.happen_at,
        "error_code": error.error_code, "error_message": error.error_message,
    })
}

fn holder_json(holder: &Holder) -> Value {
    json!({
        "start_key": hex::encode(&holder.range.start), "end_key": hex::encode(&holder.range.end),
        "region_id": holder.region.map(|(region, _)| region), "store_id": holder.region.map(|(_, store)| store),
        "since_ms": holder.since_ms,
    })
}

fn show(status: &TaskStatus, now: u64) {
    let task = &status.task;
    let gap = humantime::format_duration(std::time::Duration::from_millis(lag_ms(status, now)));
    say(&format!("● {}", task.name));
    say(&format!("             status: {}", status.state.as_str()));
    say(&format!("              start: {}", start(task.start_ts)));
    say(&format!("            storage: {}", redacted(&task.storage)));
    if let Some(shortcoming) = shortcoming(status) {
        say(&format!("                     {shortcoming}"));
    }
    if task.encryption.is_some() {
        say("         encryption: on");
    }
    if let Some(pause) = &status.pause {
        show_pause(pause);
    }
    if status.checkpoint == task.start_ts {
        say(" checkpoint[global]: none yet");
    } else {
        say(&format!(" checkpoint[global]: {}; gap={gap}", ts_arg::show(status.checkpoint)));
    }
    status.stores.values().for_each(|store| show_store(store, now));
    for error in status.errors.values() {
        say(&format!("     error[store={}]: [{}] {}", error.store_id, error.error_code, error.error_message));
    }
    if let Some(holder) = &status.holder {
        let region = holder.region.map_or("a region that nobody spoke for yet".to_owned(), |(region, store)| {
            format!("region {region} of store {store}")
        });
        say(&format!("       held back by: {region}, from key {}", hex::encode(&holder.range.start)));
    }
}

fn show_pause(pause: &Pause) {
    let or_unknown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
    let (time, host) = (or_unknown(&pause.time), or_unknown(&pause.host));
    say(&format!("             paused: since {time}, by process {} of {host}", pause.pid));
    if let Some(reason) = reason(pause) {
        say(&format!("                     {reason}"));
    }
}

fn start(ts: Ts) -> String {
    if ts.is_zero() { "0 (all that the stores hold)".to_owned() } else { ts_arg::show(ts) }
}

fn show_store(store: &StoreStatus, now: u64) {
    let silent = now.saturating_sub(store.at_ms) > SILENT_MS;
    let flushed = match &store.last_flush {
        Some(flush) => format!("last flush {} objects, {}", flush.objects, ByteSize(flush.bytes)),
        None => "not flushed yet".to_owned(),
    };
    say(&format!(
        "           store {}: {} regions, {} scans pending, {} spooled, {flushed}{}",
        store.store_id,
        store.observed_regions,
        store.pending_scans,
        ByteSize(store.spool_bytes),
        if silent { " (silent)" } else { "" },
    ));
    if let (Some(ms), Some(bound_by)) = (store.flush_interval_ms, &store.flush_bound_by) {
        let interval = humantime::format_duration(std::time::Duration::from_millis(ms));
        say(&format!("                    flushes every {interval} or sooner, by {bound_by}"));
    }
    if let Some(trouble) = &store.degraded {
        say(&format!("                    [{}] {}", trouble.code, trouble.what));
    }
}
