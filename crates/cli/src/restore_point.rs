//! `logtide restore point`.

use std::sync::Arc;

use bytesize::ByteSize;
use logtide_model::{KeyRange, Ts};
use logtide_restore::{InexactRanges, RestoreOptions, RestoreSummary, restore_point};
use serde_json::json;

use crate::args::PointArgs;
use crate::bars::Bars;
use crate::report::{Failure, say};
use crate::{crypter, range_arg, runtime, ts_arg};

pub(crate) fn run(args: &PointArgs, as_json: bool) -> Result<(), Failure> {
    let range = range_arg::parse(&args.start_key, &args.end_key)?;
    let keys = Arc::new(crypter::keys(&args.crypter)?);
    let storage = logtide_storage::open(&args.storage)?;
    let options = RestoreOptions {
        restored_ts: args.restored_ts,
        memory: usize::try_from(args.memory.as_u64()).unwrap_or(usize::MAX),
        concurrency: usize::from(args.concurrency),
        allow_inexact: args.allow_inexact,
        keys,
        range: (range != KeyRange::ALL).then_some(range),
        ..RestoreOptions::new(&args.to)
    };
    let bars = Bars::new(as_json);
    let result = runtime::block_on(async { Ok(restore_point(&storage, &options, &bars).await?) });
    bars.finish();
    let summary = result?;
    if as_json {
        say(&json!(summary).to_string())
    } else {
        show(&summary)
    }
    Ok(())
}

fn show(summary: &RestoreSummary) {
    let records = &summary.records;
    say(&format!("restored to   {}", ts_arg::show(Ts::new(summary.restored_ts))));
    say(&format!("into          {}", summary.target.display()));
    say(&format!("from          {}", summary.storage));
    say(&format!("read          {} of data objects, {} records", ByteSize(summary.bytes_read), records.read));
    say(&format!(
        "written       {} writes, {} values, {} in {} SST files",
        records.writes,
        records.values,
        ByteSize(records.bytes),
        summary.ssts
    ));
    show_inexact(&summary.inexact);
    if records.lost_values > 0 {
        say(&lost(records.lost_values));
    }
    say(&format!(
        "took          {:.1} s ({:.1} MB/s), {} of memory accounted at most",
        summary.took.total().as_secs_f64(),
        summary.mb_per_second,
        ByteSize(summary.peak_memory as u64)
    ));
}

/// Commits that are deletes now.
fn lost(values: u64) -> String {
    format!(
        "lost          {values} values, removed by range deletes before they were backed up: their keys are restored as \
         deleted at these commits"
    )
}

/// What the log could not tell.
fn show_inexact(inexact: &InexactRanges) {
    if inexact.count == 0 {
        return;
    }
    say(&format!("inexact       in {} places", inexact.count));
    inexact.first.iter().for_each(|place| say(&format!("              {place}")));
    let more = inexact.count.saturating_sub(inexact.first.len() as u64);
    if more > 0 {
        say(&format!("              and {more} more"));
    }
}
