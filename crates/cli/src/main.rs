//! The `logtide` command: one file per verb.

mod args;
mod bars;
mod coordinator;
mod crypter;
mod dump;
mod log_flush;
mod log_metadata;
mod log_pause;
mod log_resume;
mod log_start;
mod log_status;
mod log_stop;
mod range_arg;
mod report;
mod restore_point;
mod runtime;
mod storage_sweep;
mod ts_arg;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command, LogCommand, RestoreCommand, StorageCommand};
use crate::report::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging();
    report::finish(run(&cli), cli.json)
}

fn run(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Log(LogCommand::Start(args)) => log_start::run(args, cli.json),
        Command::Log(LogCommand::Status(args)) => log_status::run(args, cli.json),
        Command::Log(LogCommand::Flush(args)) => log_flush::run(args, cli.json),
        Command::Log(LogCommand::Pause(args)) => log_pause::run(args, cli.json),
        Command::Log(LogCommand::Resume(args)) => log_resume::run(args, cli.json),
        Command::Log(LogCommand::Stop(args)) => log_stop::run(args, cli.json),
        Command::Log(LogCommand::Metadata(args)) => log_metadata::run(args, cli.json),
        Command::Restore(RestoreCommand::Point(args)) => restore_point::run(args, cli.json),
        Command::Storage(StorageCommand::Sweep(args)) => storage_sweep::run(args, cli.json),
        Command::Dump(args) => dump::run(args, cli.json),
    }
}

/// Logs go to standard error, as `RUST_LOG` asks; warnings by default.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
