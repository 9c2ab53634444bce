//! `logtide log metadata`.

use bytesize::ByteSize;
use logtide_restore::{LogInfo, log_info};
use serde_json::json;

use crate::args::MetadataArgs;
use crate::report::{Failure, say};
use crate::{runtime, ts_arg};

pub(crate) fn run(args: &MetadataArgs, as_json: bool) -> Result<(), Failure> {
    let storage = logtide_storage::open(&args.storage)?;
    let info = runtime::block_on(async { Ok(log_info(&storage).await?) })?;
    if as_json {
        say(&json!(info).to_string())
    } else {
        show(&info)
    }
    Ok(())
}

fn show(info: &LogInfo) {
    let unknown = || "unknown".to_owned();
    say(&format!("storage     {}", info.storage));
    say(&format!("task        {}", info.task.clone().unwrap_or_else(unknown)));
    say(&format!("cluster     {}", info.cluster_id.map_or_else(unknown, |id| id.to_string())));
    say(&format!("log-min-ts  {}", ts_arg::show(info.start_ts)));
    say(&format!("log-max-ts  {}", ts_arg::show(info.checkpoint)));
    say(&format!("objects     {} metadata, {} data, {}", info.metadata_objects, info.objects, ByteSize(info.bytes)));
}
