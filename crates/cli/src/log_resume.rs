//! `logtide log resume`.

use logtide_model::TaskName;
use serde_json::json;

use crate::args::ResumeArgs;
use crate::coordinator;
use crate::report::{Failure, say};
use crate::ts_arg;

pub(crate) fn run(args: &ResumeArgs, as_json: bool) -> Result<(), Failure> {
    let name = TaskName::new(&args.task_name).map_err(|e| Failure::usage(e.to_string(), "see 'logtide log status'"))?;
    let tasks = coordinator::open(&args.coordinator)?;
    let status = tasks.status(&name)?;
    let changed = status.pause.is_some();
    if changed {
        tasks.clear_pause(&status.task)?;
    }
    let checkpoint = status.checkpoint;
    if as_json {
        say(&json!({ "name": name.as_str(), "changed": changed, "checkpoint": checkpoint.get() }).to_string());
    } else if changed {
        say(&format!("task {name} goes on: every store catches up from checkpoint {}", ts_arg::show(checkpoint)));
        say("'logtide log status' shows how far it is");
    } else {
        say(&format!("task {name} is not paused"));
    }
    Ok(())
}
