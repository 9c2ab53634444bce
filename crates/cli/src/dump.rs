//! `logtide dump`.

use std::io::{self, BufWriter, Write};

use logtide_restore::dump;
use serde_json::json;

use crate::args::DumpArgs;
use crate::range_arg;
use crate::report::{Failure, say};

pub(crate) fn run(args: &DumpArgs, as_json: bool) -> Result<(), Failure> {
    let range = range_arg::parse(&args.start_key, &args.end_key)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut closed = false;
    let summary = dump(&args.dir, args.at, &range, &mut |key, value| {
        if !args.count && !closed {
            closed = line(&mut out, key, value, as_json).is_err();
        }
        Ok(())
    })?;
    let _ = out.flush();
    drop(out);
    if args.count {
        let line = if as_json {
            json!({ "keys": summary.keys, "bytes": summary.bytes, "locks": summary.locks }).to_string()
        } else {
            format!("{} keys, {} bytes of values, {} locks", summary.keys, summary.bytes, summary.locks)
        };
        say(&line);
    }
    Ok(())
}

/// `key TAB value`, both in hex: one line whatever the bytes are.
fn line(out: &mut impl Write, key: &[u8], value: &[u8], as_json: bool) -> io::Result<()> {
    let (key, value) = (hex::encode(key), hex::encode(value));
    if as_json { writeln!(out, "{}", json!({ "key": key, "value": value })) } else { writeln!(out, "{key}\t{value}") }
}
