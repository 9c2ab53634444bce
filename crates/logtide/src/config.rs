//! What the host can set. It owns the defaults, the bounds and the errors about them; it opens nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use logtide_temp_file::SpoolConfig;
use serde::{Deserialize, Serialize};

use crate::ConfigError;

/// The longest between two looks.
const SLOWEST_LOOK: Duration = Duration::from_secs(1);

/// Configuration of the log backup of one store: by TOML, or by setting fields of [`Config::default`].
///
/// Keys are TiKV's `log-backup.*` where it has them. Sizes are written as `"256MiB"`, durations as `"3m"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Off: the store observes nothing and runs no task. Default: true.
    pub enable: bool,
    /// Shards: threads that own regions and write the spool. Default: half the cores, 1 to 8. Range: 1 to 64.
    pub num_threads: usize,
    /// How often a task is flushed; the checkpoint lags by about as much. Without meaning if there is an `rpo-target`.
    /// Default: 3 min. Minimum: 100 ms.
    #[serde(with = "humantime_serde")]
    pub max_flush_interval: Duration,
    /// How far the checkpoint may lag behind: the interval follows it, shorter by what a flush takes. Default: none.
    /// Minimum: 100 ms.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub rpo_target: Option<Duration>,
    /// Objects that a task may add to its storage in an hour, on this store; the interval is longer where they would be
    /// more. It wins over `rpo-target` and `max-flush-interval`, and the status says so; flushes by size and on demand
    /// are not held back, but count. Default: no limit. Minimum: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_objects_per_hour: Option<u64>,
    /// The longest that a seal waits for the confirmation of leaderships. Default: 5 s.
    #[serde(with = "humantime_serde")]
    pub confirm_timeout: Duration,
    /// No data object is larger by more than a block. A generation that holds as many raw bytes is flushed early.
    /// Default: 256 MiB. Minimum: 1 MiB.
    pub file_size_limit: ByteSize,
    /// Directory of the spool; it is created, and spool files of dead processes are removed from it at start.
    /// Default: `log-backup-temp` in the working directory.
    pub temp_path: PathBuf,
    /// Memory for blocks of the spool that are not on disk. Default: 128 MiB. Minimum: 4 MiB.
    pub temp_file_memory_quota: ByteSize,
    /// Bytes that the spool may have in `temp-path`, of all tasks together. Above it the regions that find no room are
    /// released, and caught up later. Default: 50 GiB. Minimum: 64 MiB.
    pub temp_file_disk_quota: ByteSize,
    /// Raw bytes of a block of the spool. Default: 128 KiB. Range: 4 KiB to 16 MiB.
    pub block_size: ByteSize,
    /// Memory for what is observed: applied events on their way, lock tracking and scans, all together. Each has a quota of
    /// its own within it. Default: 128 MiB. Minimum: 3 MiB.
    pub memory_quota: ByteSize,
    /// Memory for applied events on their way to the shards; what finds no room is dropped, and its region is caught up
    /// later. Default: 64 MiB. Minimum: 1 MiB.
    pub pending_memory_quota: ByteSize,
    /// Memory for lock tracking. Default: 64 MiB. Minimum: 1 MiB.
    pub lock_memory_quota: ByteSize,
    /// Memory for records found by initial scans on their way to the shards. Default: 32 MiB. Minimum: 1 MiB.
    pub initial_scan_pending_memory_quota: ByteSize,
    /// Bytes per second that initial scans may read, all together. Default: 60 MiB. Minimum: 1 KiB.
    pub initial_scan_rate_limit: ByteSize,
    /// Initial scans at once; taken before the snapshot. Default: 6. Range: 1 to 64.
    pub initial_scan_concurrency: usize,
    /// Memory for uploads. Default: 64 MiB. Minimum: 8 MiB.
    pub upload_memory_quota: ByteSize,
    /// Objects uploaded at once. Default: 4. Range: 1 to 64.
    pub upload_concurrency: usize,
    /// Sealed generations of a task that may be in flight; above, sealing waits. Default: 4. Range: 1 to 64.
    pub generations_in_flight: usize,
    /// So many small metadata objects of a task become one, in the background; 0: they stay as they are. Default: 16.
    /// Range: 0, or 2 to 1024.
    pub metadata_merge_count: usize,
}

impl Default for Config {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Config {
            enable: true,
            num_threads: (cores / 2).clamp(1, 8),
            max_flush_interval: Duration::from_secs(180),
            rpo_target: None,
            max_objects_per_hour: None,
            confirm_timeout: Duration::from_secs(5),
            file_size_limit: ByteSize::mib(256),
            temp_path: PathBuf::from("log-backup-temp"),
            temp_file_memory_quota: ByteSize::mib(128),
            temp_file_disk_quota: ByteSize::gib(50),
            block_size: ByteSize::b(SpoolConfig::BLOCK_SIZE as u64),
            memory_quota: ByteSize::mib(128),
            pending_memory_quota: ByteSize::mib(64),
            lock_memory_quota: ByteSize::mib(64),
            initial_scan_pending_memory_quota: ByteSize::mib(32),
            initial_scan_rate_limit: ByteSize::mib(60),
            initial_scan_concurrency: 6,
            upload_memory_quota: ByteSize::mib(64),
            upload_concurrency: 4,
            generations_in_flight: 4,
            metadata_merge_count: 16,
        }
    }
}

impl Config {
    /// Reads TOML: the keys of the `[log-backup]` table, without the table.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] that names the key.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config: Config = toml::from_str(text).map_err(|e| ConfigError::Invalid(e.to_string()))?;
        config.validate()?;
        Ok(config)
    }

    /// Reads a TOML file.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] that names the file and the key.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let named = |e: String| ConfigError::Invalid(format!("{}: {e}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| named(e.to_string()))?;
        Config::from_toml(&text).map_err(|e| named(e.to_string()))
    }

    /// Checks the bounds that the fields document.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] that names the key, its value and the bound.
    pub fn validate(&self) -> Result<(), ConfigError> {
        at_least("file-size-limit", self.file_size_limit, ByteSize::mib(1))?;
        at_least("temp-file-memory-quota", self.temp_file_memory_quota, ByteSize::mib(4))?;
        at_least("temp-file-disk-quota", self.temp_file_disk_quota, ByteSize::mib(64))?;
        at_least("block-size", self.block_size, ByteSize::kib(4))?;
        at_least("memory-quota", self.memory_quota, ByteSize::mib(3))?;
        at_least("pending-memory-quota", self.pending_memory_quota, ByteSize::mib(1))?;
        at_least("lock-memory-quota", self.lock_memory_quota, ByteSize::mib(1))?;
        at_least("initial-scan-pending-memory-quota", self.initial_scan_pending_memory_quota, ByteSize::mib(1))?;
        at_least("initial-scan-rate-limit", self.initial_scan_rate_limit, ByteSize::kib(1))?;
        at_least("upload-memory-quota", self.upload_memory_quota, ByteSize::mib(8))?;
        within("num-threads", self.num_threads)?;
        within("initial-scan-concurrency", self.initial_scan_concurrency)?;
        within("upload-concurrency", self.upload_concurrency)?;
        within("generations-in-flight", self.generations_in_flight)?;
        if self.block_size > ByteSize::mib(16) {
            return Err(ConfigError::Invalid(format!("block-size is {}: at most 16 MiB", self.block_size)));
        }
        let intervals = [("max-flush-interval", Some(self.max_flush_interval)), ("rpo-target", self.rpo_target)];
        for (key, given) in intervals {
            if let Some(given) = given.filter(|given| *given < Duration::from_millis(100)) {
                return Err(ConfigError::Invalid(format!("{key} is {given:?}: at least 100ms")));
            }
        }
        if self.metadata_merge_count == 1 || self.metadata_merge_count > 1024 {
            let given = self.metadata_merge_count;
            return Err(ConfigError::Invalid(format!("metadata-merge-count is {given}: 0, or 2 to 1024")));
        }
        if self.max_objects_per_hour == Some(0) {
            return Err(ConfigError::Invalid("max-objects-per-hour is 0: at least 1".to_owned()));
        }
        Ok(())
    }

    /// How far the checkpoint is meant to lag behind at most, as far as flushing decides it.
    pub(crate) fn wanted_lag(&self) -> Duration {
        self.rpo_target.unwrap_or(self.max_flush_interval)
    }

    /// How often to look whether there is something to advance or to write: a fraction of the lag.
    pub(crate) fn look_interval(&self) -> Duration {
        (self.wanted_lag() / 8).clamp(Duration::from_millis(20), SLOWEST_LOOK)
    }

    /// Checks that `next` differs from this only in what can change while the store runs.
    ///
    /// # Errors
    /// [`ConfigError::Fixed`] that names the first other key.
    pub(crate) fn check_change(&self, next: &Config) -> Result<(), ConfigError> {
        fixed("enable", &self.enable, &next.enable)?;
        fixed("num-threads", &self.num_threads, &next.num_threads)?;
        fixed("temp-path", &self.temp_path, &next.temp_path)?;
        fixed("block-size", &self.block_size, &next.block_size)
    }
}

fn fixed<T: PartialEq + std::fmt::Debug>(key: &'static str, now: &T, wanted: &T) -> Result<(), ConfigError> {
    if now == wanted {
        return Ok(());
    }
    Err(ConfigError::Fixed { key, now: format!("{now:?}"), wanted: format!("{wanted:?}") })
}

fn at_least(key: &str, given: ByteSize, least: ByteSize) -> Result<(), ConfigError> {
    if given >= least { Ok(()) } else { Err(ConfigError::Invalid(format!("{key} is {given}: at least {least}"))) }
}

fn within(key: &str, given: usize) -> Result<(), ConfigError> {
    let good = (1..=64).contains(&given);
    if good { Ok(()) } else { Err(ConfigError::Invalid(format!("{key} is {given}: 1 to 64"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_toml_and_keeps_defaults() {
        let config = Config::from_toml("max-flush-interval = \"2s\"\ntemp-file-memory-quota = \"32MiB\"").unwrap();
        assert_eq!(config.max_flush_interval, Duration::from_secs(2));
        assert_eq!(config.temp_file_memory_quota, ByteSize::mib(32));
        assert_eq!(config.upload_concurrency, Config::default().upload_concurrency);
    }

    #[test]
    fn errors_name_the_key() {
        for (toml, key) in [
            ("max-flush-intervall = \"2s\"", "max-flush-intervall"),
            ("max-flush-interval = \"1ms\"", "max-flush-interval"),
            ("num-threads = 0", "num-threads"),
            ("temp-file-disk-quota = \"63MiB\"", "temp-file-disk-quota"),
            ("block-size = \"17MiB\"", "block-size"),
            ("upload-memory-quota = \"1MiB\"", "upload-memory-quota"),
            ("rpo-target = \"99ms\"", "rpo-target"),
            ("max-objects-per-hour = 0", "max-objects-per-hour"),
            ("metadata-merge-count = 1", "metadata-merge-count"),
        ] {
            let error = Config::from_toml(toml).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn defaults_are_valid_and_survive_toml() {
        let config = Config::default();
        config.validate().unwrap();
        assert_eq!(Config::from_toml(&toml::to_string(&config).unwrap()).unwrap(), config);
        let (rpo_target, max_objects_per_hour) = (Some(Duration::from_secs(20)), Some(100));
        let targets = Config { rpo_target, max_objects_per_hour, ..config };
        assert_eq!(Config::from_toml(&toml::to_string(&targets).unwrap()).unwrap(), targets);
    }
}
