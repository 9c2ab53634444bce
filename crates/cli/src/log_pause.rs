//! `logtide log pause`.

use std::time::SystemTime;

use logtide_coordinator::{Pause, PauseReason};
use logtide_model::TaskName;
use serde_json::json;

use crate::args::PauseArgs;
use crate::coordinator;
use crate::report::{Failure, say};
use crate::ts_arg;

pub(crate) fn run(args: &PauseArgs, as_json: bool) -> Result<(), Failure> {
    let name = TaskName::new(&args.task_name).map_err(|e| Failure::usage(e.to_string(), "see 'logtide log status'"))?;
    let tasks = coordinator::open(&args.coordinator)?;
    let status = tasks.status(&name)?;
    // A pause that is there stays: an error may be its reason.
    let changed = status.pause.is_none();
    if changed {
        let reason = args.message.clone().map_or(PauseReason::None, PauseReason::Message);
        tasks.set_pause(&status.task, &Pause::asked_for(reason, SystemTime::now()))?;
    }
    let checkpoint = status.checkpoint;
    if as_json {
        say(&json!({ "name": name.as_str(), "changed": changed, "checkpoint": checkpoint.get() }).to_string());
    } else if changed {
        say(&format!("task {name} pauses: every store flushes what it has seen, then observes nothing more"));
        say(&format!(
            "its checkpoint stays near {}; 'logtide log resume' catches up from there",
            ts_arg::show(checkpoint)
        ));
        say("until then the cluster must keep the versions above it: garbage collection must not pass it");
    } else {
        say(&format!("task {name} is paused already, at checkpoint {}", ts_arg::show(checkpoint)));
    }
    Ok(())
}
