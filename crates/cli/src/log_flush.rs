//! `logtide log flush`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use logtide_coordinator::{FlushAnswer, TaskStatus};
use logtide_model::{ErrorCode, StoreId, TaskName};
use serde_json::json;

use crate::args::FlushArgs;
use crate::coordinator;
use crate::report::{Failure, say};
use crate::ts_arg;

/// How often answers are looked for.
const LOOK: Duration = Duration::from_millis(100);
/// A store whose status is older runs no more.
const SILENT_MS: u64 = 10_000;

pub(crate) fn run(args: &FlushArgs, as_json: bool) -> Result<(), Failure> {
    let name = TaskName::new(&args.task_name).map_err(|e| Failure::usage(e.to_string(), "see 'logtide log status'"))?;
    let tasks = coordinator::open(&args.coordinator)?;
    let status = tasks.status(&name)?;
    if status.pause.is_some() {
        return Err(Failure::failed(
            format!("task {name} is paused: what was observed before the pause is flushed already"),
            "'logtide log resume' lets it go on",
        ));
    }
    let asked = living(&status);
    if asked.is_empty() {
        return Err(Failure::failed(
            format!("no store runs task {name} now"),
            "see 'logtide log status'; start the storage nodes with log backup enabled",
        )
        .coded(ErrorCode::RaftReq));
    }
    let ticket = tasks.request_flush(&status.task)?;
    let until = Instant::now() + *args.timeout;
    let mut answers = BTreeMap::new();
    while answers.len() < asked.len() && Instant::now() < until {
        std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        answers = tasks.flush_answers(&status.task, ticket)?;
        answers.retain(|store, _| asked.contains(store));
    }
    tell(&tasks.status(&name)?, &asked, &answers, as_json);
    judge(&name, &asked, &answers, *args.timeout)
}

/// The stores that said something lately.
fn living(status: &TaskStatus) -> BTreeSet<StoreId> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let lives = |at_ms: u64| now.saturating_sub(at_ms) <= SILENT_MS;
    status.stores.values().filter(|store| lives(store.at_ms)).map(|store| store.store_id).collect()
}

fn tell(status: &TaskStatus, asked: &BTreeSet<StoreId>, answers: &BTreeMap<StoreId, FlushAnswer>, as_json: bool) {
    if as_json {
        let stores: Vec<_> = asked.iter().map(|store| store_json(*store, answers.get(store))).collect();
        let checkpoint = status.checkpoint.get();
        say(&json!({ "name": status.task.name.as_str(), "checkpoint": checkpoint, "stores": stores }).to_string());
        return;
    }
    for store in asked {
        let what = match answers.get(store) {
            Some(FlushAnswer { error: Some(error), .. }) => format!("not flushed: {error}"),
            Some(FlushAnswer { generation: Some(generation), .. }) => format!("flushed, generation {generation}"),
            Some(_) | None => "no answer".to_owned(),
        };
        say(&format!("store {store}: {what}"));
    }
    if status.checkpoint > status.task.start_ts {
        say(&format!("checkpoint[global]: {}", ts_arg::show(status.checkpoint)));
    } else {
        say("checkpoint[global]: none yet: some region is not observed so far; 'logtide log status' says which");
    }
}

fn store_json(store: StoreId, answer: Option<&FlushAnswer>) -> serde_json::Value {
    let generation = answer.and_then(|answer| answer.generation);
    let error = answer.map_or(Some("no answer"), |answer| answer.error.as_deref());
    json!({ "store_id": store, "success": generation.is_some(), "generation": generation, "error": error })
}

fn judge(
    name: &TaskName,
    asked: &BTreeSet<StoreId>,
    answers: &BTreeMap<StoreId, FlushAnswer>,
    timeout: Duration,
) -> Result<(), Failure> {
    let failed = |store: &&StoreId| answers.get(store).is_none_or(|answer| answer.generation.is_none());
    let failed: Vec<String> = asked.iter().filter(failed).map(ToString::to_string).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let stores = failed.join(", ");
    Err(Failure::failed(
        format!("task {name} was not flushed on store {stores} within {}", humantime::format_duration(timeout)),
        "see 'logtide log status' for what holds it up; a larger --timeout waits longer",
    )
    .coded(ErrorCode::Io))
}
