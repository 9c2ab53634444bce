//! `logtide storage sweep`.

use std::time::{SystemTime, UNIX_EPOCH};

use bytesize::ByteSize;
use logtide_restore::{SweepOptions, SweepReport, SweepRow, sweep};
use serde_json::json;

use crate::args::SweepArgs;
use crate::report::{Failure, say};
use crate::runtime;

pub(crate) fn run(args: &SweepArgs, as_json: bool) -> Result<(), Failure> {
    let storage = logtide_storage::open(&args.storage)?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let options = SweepOptions {
        delete: args.delete,
        min_age_ms: u64::try_from(args.min_age.as_millis()).unwrap_or(u64::MAX),
        memory: usize::try_from(args.memory.as_u64()).unwrap_or(usize::MAX),
        concurrency: usize::from(args.concurrency),
        ..SweepOptions::at(now_ms)
    };
    let report = runtime::block_on(async { Ok(sweep(&storage, &options).await?) })?;
    if as_json {
        say(&json!(report).to_string())
    } else {
        show(&report)
    }
    Ok(())
}

fn show(report: &SweepReport) {
    say(&format!("storage  {}", report.storage));
    say(&format!("objects  {}", report.objects));
    if report.found.is_empty() {
        say("nothing is superfluous");
    } else {
        say("superfluous:");
        report.found.iter().for_each(show_row);
    }
    if !report.kept.is_empty() {
        say("left alone:");
        report.kept.iter().for_each(show_row);
    }
    if report.delete {
        say(&format!("removed  {} objects, {}", report.deleted, ByteSize(report.deleted_bytes)));
    } else if !report.found.is_empty() {
        say("nothing was removed; --delete removes what is superfluous");
    }
}

fn show_row<R: std::fmt::Display>(row: &SweepRow<R>) {
    let bytes = ByteSize(row.bytes).to_string();
    say(&format!("  {:>8}  {bytes:>10}  {}", row.objects, row.reason));
    row.examples.iter().for_each(|name| say(&format!("                        {name}")));
    let more = row.objects.saturating_sub(row.examples.len() as u64);
    if more > 0 {
        say(&format!("                        and {more} more"));
    }
}
