//! `logtide log stop`.

use logtide_model::TaskName;
use logtide_storage::redacted;
use serde_json::json;

use crate::args::StopArgs;
use crate::coordinator;
use crate::report::{Failure, say};
use crate::ts_arg;

pub(crate) fn run(args: &StopArgs, as_json: bool) -> Result<(), Failure> {
    let name = TaskName::new(&args.task_name).map_err(|e| Failure::usage(e.to_string(), "see 'logtide log status'"))?;
    let tasks = coordinator::open(&args.coordinator)?;
    let status = tasks.status(&name)?;
    tasks.remove(&name)?;
    let (storage, checkpoint) = (redacted(&status.task.storage), status.checkpoint);
    if as_json {
        say(&json!({ "name": name.as_str(), "storage": storage, "checkpoint": checkpoint.get() }).to_string());
    } else {
        say(&format!("task {name} has ended at checkpoint {}", ts_arg::show(checkpoint)));
        say(&format!("its backup stays in {storage} and can be restored up to there"));
    }
    Ok(())
}
