//! What the demo can be told: `--quick`, and the environment.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;

use crate::Failed;

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
    /// Back up to this storage, into a folder of its own below it, instead of to a directory: s3://, gcs://, azure://.
    #[arg(long, env = "DEMO_STORAGE", value_name = "URL", hide_env_values = true)]
    pub(crate) storage: Option<String>,
}

impl Settings {
    /// Where the backup goes. Every demo has a folder of its own: what lies there already is somebody's.
    pub(crate) fn storage_url(&self, dir: &Path) -> Result<String, Failed> {
        let Some(url) = &self.storage else {
            std::fs::create_dir_all(dir.join("storage"))?;
            return Ok(format!("local://{}", dir.join("storage").display()));
        };
        let (place, parameters) = url.split_once('?').unwrap_or((url, ""));
        let begun = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let url = format!("{}/logtide-demo-{begun}?{parameters}", place.trim_end_matches('/'));
        logtide_storage::open(&url)?;
        Ok(url)
    }

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
