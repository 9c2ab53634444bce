//! What the demo can be told: `--quick`, and the environment.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Backs up a live cluster, breaks it, restores it to the moment before, and proves that nothing is lost.
#[derive(Debug, Parser)]
#[command(name = "demo")]
pub(crate) struct Settings {
    /// Less data, in under a minute.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Load the files of this folder instead of the sources of the project's dependencies.
    #[arg(long, env = "DEMO_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Keep everything here: storage, restored node, summary. It must not exist, or be empty.
    #[arg(long, env = "DEMO_DIR", value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

impl Settings {
    /// The most bytes to load.
    pub(crate) fn data_limit(&self) -> u64 {
        if self.quick { 40 << 20 } else { 400 << 20 }
    }

    /// How often a store flushes.
    pub(crate) fn flush_interval(&self) -> Duration {
        if self.quick { Duration::from_secs(1) } else { Duration::from_secs(3) }
    }

    /// How long transfers go on before and after the loading.
    pub(crate) fn pause(&self) -> Duration {
        if self.quick { Duration::from_secs(1) } else { Duration::from_secs(3) }
    }
}
