//! The demo: backs up a live cluster, breaks it, restores it to the moment before, proves that nothing is lost.

mod accident;
mod bank;
mod command;
mod compare;
mod load;
mod nodes;
mod proof;
mod screen;
mod settings;
mod source;
mod stir;
mod story;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::settings::Settings;

/// Why the demo failed, in words.
pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let settings = Settings::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(&settings) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(&format!("the demo failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr)]
fn tell(line: &str) {
    eprintln!("{line}");
}

/// Keeps the directory if it was asked for, else works in one that vanishes.
fn run(settings: &Settings) -> Result<bool, Failed> {
    match &settings.dir {
        Some(dir) => story::tell(settings, &fresh(dir)?),
        None => {
            let dir = tempfile::Builder::new().prefix("logtide-demo-").tempdir()?;
            story::tell(settings, dir.path())
        }
    }
}

fn fresh(dir: &Path) -> Result<PathBuf, Failed> {
    if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(
            format!("{} is not empty: a demo ran there before; remove it, or name another", dir.display()).into()
        );
    }
    std::fs::create_dir_all(dir).map_err(|e| format!("cannot make {}: {e}; name another directory", dir.display()))?;
    Ok(dir.canonicalize()?)
}
