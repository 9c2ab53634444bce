//! The command line: verbs, flags, and what `--help` teaches.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use logtide_model::{SecretKey, Ts};

use crate::{crypter, ts_arg};

/// Controls continuous log backup, restores from it, and looks into it.
#[derive(Debug, Parser)]
#[command(name = "logtide", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// Print the result (and errors) as JSON, for scripts.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
A log backup is a task that every store of the cluster carries out by itself. The command talks to the stores through the
coordinator (a directory that they share), and to a backup through its storage URL alone.

  logtide log start --coordinator DIR --task-name pitr --storage local:///backup/pitr
  logtide log status --coordinator DIR
  logtide restore point --storage local:///backup/pitr --restored-ts '2026-11-21 12:00:00 +00:00' --to /restored

Exit status: 0 done, 1 failed, 2 wrong arguments.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Control log backup tasks.
    #[command(subcommand)]
    Log(LogCommand),
    /// Bring data back.
    #[command(subcommand)]
    Restore(RestoreCommand),
    /// Look after the storage of a log backup.
    #[command(subcommand)]
    Storage(StorageCommand),
    /// Print the keys and values of a data directory as they were at a timestamp, one a line, for diffing.
    Dump(DumpArgs),
}

/// Verbs of `logtide log`.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Begin a log backup.
    Start(StartArgs),
    /// Show tasks: state, checkpoint, lag, stores.
    Status(StatusArgs),
    /// Let every store flush what it has seen, now, and wait for it.
    Flush(FlushArgs),
    /// Pause a log backup: every store flushes, then observes nothing more.
    Pause(PauseArgs),
    /// Let a paused log backup catch up and go on.
    Resume(ResumeArgs),
    /// End a log backup. What is in the storage stays there and can be restored.
    Stop(StopArgs),
    /// Show what a storage holds and which timestamps it can restore.
    Metadata(MetadataArgs),
}

/// Verbs of `logtide restore`.
#[derive(Debug, Subcommand)]
pub(crate) enum RestoreCommand {
    /// Restore to a moment, into a new data directory, from the storage alone.
    Point(PointArgs),
}

/// Verbs of `logtide storage`.
#[derive(Debug, Subcommand)]
pub(crate) enum StorageCommand {
    /// Find what crashes left behind and nothing needs, and say why; remove it only with --delete.
    Sweep(SweepArgs),
}

/// Where the cluster's coordinator is.
#[derive(Debug, Args)]
pub(crate) struct CoordinatorArgs {
    /// Directory of the coordinator that the stores use.
    #[arg(short = 'u', long, value_name = "DIR", env = "LOGTIDE_COORDINATOR")]
    pub(crate) coordinator: PathBuf,
}

/// `logtide log start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
    /// Name of the task: letters, digits and underscores.
    #[arg(long, value_name = "NAME")]
    pub(crate) task_name: String,
    /// Where the backup goes: local:///absolute/directory, s3://, gcs:// or azure://bucket/prefix?parameters. It must be
    /// empty. Credentials in the URL are handed to every store, and are shown nowhere.
    #[arg(short, long, value_name = "URL")]
    pub(crate) storage: String,
    /// Back up what is committed above this ts. Default: now, by the clock of the cluster. 0: all that the stores hold,
    /// so that no other backup is needed to restore.
    #[arg(long, value_name = "TS|TIME", value_parser = ts_arg::parse)]
    pub(crate) start_ts: Option<Ts>,
    /// First raw key of the range to back up, in hex. Default: from the first key on.
    #[arg(long, value_name = "HEX", default_value = "", hide_default_value = true)]
    pub(crate) start_key: String,
    /// Raw key behind the range to back up, in hex. Default: to the last key.
    #[arg(long, value_name = "HEX", default_value = "", hide_default_value = true)]
    pub(crate) end_key: String,
    /// Write data files uncompressed instead of with zstd.
    #[arg(long)]
    pub(crate) no_compression: bool,
    #[command(flatten)]
    pub(crate) crypter: CrypterArgs,
}

/// With which keys data files are encrypted; the flags of `br`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Encryption")]
pub(crate) struct CrypterArgs {
    /// Cipher of the data files, for a data key: aes128-ctr, aes192-ctr or aes256-ctr.
    #[arg(long = "log.crypter.method", alias = "crypter.method", value_name = "CIPHER")]
    pub(crate) method: Option<String>,
    /// The data key, in hex. Other users of this machine may see it in the list of processes: better use a file.
    #[arg(
        long = "log.crypter.key",
        alias = "crypter.key",
        value_name = "HEX",
        value_parser = crypter::secret,
        conflicts_with = "key_file"
    )]
    pub(crate) key: Option<SecretKey>,
    /// A file with the data key, in hex.
    #[arg(long = "log.crypter.key-file", alias = "crypter.key-file", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Cipher of the data files, for master keys. Default: aes256-ctr.
    #[arg(long = "master-key-crypter-method", value_name = "CIPHER")]
    pub(crate) master_key_method: Option<String>,
    /// Master keys that encrypt the data keys, with commas between them: local:///FILE (the same on every store),
    /// aws-kms:///KEY-ID?REGION=…, gcp-kms:///projects/…
    #[arg(long = "master-key", value_name = "URL", value_parser = crypter::secret)]
    pub(crate) master_key: Option<SecretKey>,
}

/// `logtide log status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
    /// Only this task. Default: all.
    #[arg(long, value_name = "NAME")]
    pub(crate) task_name: Option<String>,
}

/// `logtide log flush`.
#[derive(Debug, Args)]
pub(crate) struct FlushArgs {
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
    /// Name of the task.
    #[arg(long, value_name = "NAME")]
    pub(crate) task_name: String,
    /// How long to wait for the stores.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(crate) timeout: humantime::Duration,
}

/// `logtide log pause`.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
    /// Name of the task.
    #[arg(long, value_name = "NAME")]
    pub(crate) task_name: String,
    /// Why; status shows it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
}

/// `logtide log resume`.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
    /// Name of the task.
    #[arg(long, value_name = "NAME")]
    pub(crate) task_name: String,
}

/// `logtide log stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
    /// Name of the task.
    #[arg(long, value_name = "NAME")]
    pub(crate) task_name: String,
}

/// `logtide log metadata`.
#[derive(Debug, Args)]
pub(crate) struct MetadataArgs {
    /// The storage of a log backup, as in 'logtide log start'.
    #[arg(short, long, value_name = "URL")]
    pub(crate) storage: String,
}

/// `logtide restore point`.
#[derive(Debug, Args)]
pub(crate) struct PointArgs {
    /// The storage of the log backup, as in 'logtide log start'.
    #[arg(short, long, value_name = "URL")]
    pub(crate) storage: String,
    /// The moment: a ts, or a time with its zone. Default: the checkpoint of the backup.
    #[arg(long, value_name = "TS|TIME", value_parser = ts_arg::parse)]
    pub(crate) restored_ts: Option<Ts>,
    /// The data directory to make. It must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Memory that the restore may use.
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    pub(crate) memory: ByteSize,
    /// Objects read and verified at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: u16,
    /// First raw key to restore, in hex.
    #[arg(long, value_name = "HEX", default_value = "", hide_default_value = true)]
    pub(crate) start_key: String,
    /// Raw key behind the last one to restore, in hex.
    #[arg(long, value_name = "HEX", default_value = "", hide_default_value = true)]
    pub(crate) end_key: String,
    /// Restore even where the log cannot tell what the keys were: keys that were removed past transactions come back (or are
    /// deleted at the commit whose value was gone before it was backed up), keys that were added so are missing. The summary
    /// lists where, and counts the lost values.
    #[arg(long)]
    pub(crate) allow_inexact: bool,
    #[command(flatten)]
    pub(crate) crypter: CrypterArgs,
}

/// `logtide storage sweep`.
#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// The storage of a log backup, as in 'logtide log start'.
    #[arg(short, long, value_name = "URL")]
    pub(crate) storage: String,
    /// Remove what is superfluous. It is refused while others restore from there with br, compact or truncate.
    #[arg(long)]
    pub(crate) delete: bool,
    /// Leave alone what changed less than this ago.
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub(crate) min_age: humantime::Duration,
    /// Memory that the sweep may use; at least 64MiB.
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    pub(crate) memory: ByteSize,
    /// Objects read at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: u16,
}

/// `logtide dump`.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// A data directory: a restored one, or that of a store. It is only read.
    pub(crate) dir: PathBuf,
    /// The moment: a ts, or a time with its zone.
    #[arg(long, value_name = "TS|TIME", value_parser = ts_arg::parse)]
    pub(crate) at: Ts,
    /// First raw key, in hex.
    #[arg(long, value_name = "HEX", default_value = "", hide_default_value = true)]
    pub(crate) start_key: String,
    /// Raw key behind the last one, in hex.
    #[arg(long, value_name = "HEX", default_value = "", hide_default_value = true)]
    pub(crate) end_key: String,
    /// Print a line of counts only.
    #[arg(long)]
    pub(crate) count: bool,
}
