//! Names of spool files, and the removal of those that dead processes left behind.
//!
//! `logtide-{name}.{pid}.{start}.{sequence}.spool`: the process id and when the process started (clock ticks since boot,
//! `/proc/{pid}/stat` field 22, see proc(5)) tell a living owner from another process that got its number.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::SpoolError;

const PREFIX: &str = "logtide-";
const SUFFIX: &str = ".spool";

/// A path in `dir` that no other spool file of this machine has.
pub(crate) fn new_path(dir: &Path, name: &str) -> PathBuf {
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    let name: String = name.chars().map(safe).collect();
    let Owner { pid, start } = Owner::this();
    dir.join(format!("{PREFIX}{name}.{pid}.{start}.{sequence}{SUFFIX}"))
}

/// Removes the spool files that processes which are dead now have left in `dir`; other files, and those of living
/// processes, stay. Returns how many were removed; a directory that does not exist has none.
///
/// # Errors
/// [`SpoolError::Io`] if the directory cannot be listed or a file cannot be removed.
pub fn remove_stale(dir: &Path) -> Result<usize, SpoolError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(SpoolError::io("list", dir))?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(SpoolError::io("list", dir))?;
        let stale = entry.file_name().to_str().and_then(Owner::of).is_some_and(|owner| owner.is_dead());
        if stale {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                done => done.map_err(SpoolError::io("remove", &entry.path()))?,
            }
            removed += 1;
        }
    }
    Ok(removed)
}

/// The process that a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    pid: u32,
    /// 0 where the system does not tell.
    start: u64,
}

impl Owner {
    fn this() -> Self {
        static THIS: OnceLock<Owner> = OnceLock::new();
        *THIS.get_or_init(|| Owner { pid: process::id(), start: started(process::id()).unwrap_or(0) })
    }

    /// The owner that a file name tells; `None` for other files than ours.
    fn of(file_name: &str) -> Option<Self> {
        let name = file_name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let [_, pid, start, sequence] = <[&str; 4]>::try_from(name.split('.').collect::<Vec<_>>()).ok()?;
        sequence.parse::<u64>().ok()?;
        Some(Owner { pid: pid.parse().ok()?, start: start.parse().ok()? })
    }

    /// True only if that is certain: where this process cannot see itself, it cannot see others.
    fn is_dead(self) -> bool {
        let this = Owner::this();
        self != this && this.start != 0 && started(self.pid) != Some(self.start)
    }
}

/// When a living process started, in clock ticks since boot.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may contain anything; the start is the 22nd.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_spool_files_of_dead_processes_go() {
        let dir = tempfile::tempdir().unwrap();
        let mine = new_path(dir.path(), "task/1");
        let Owner { pid, start } = Owner::this();
        assert!(start > 0, "this test needs /proc");
        let keep = [
            mine.clone(),
            dir.path().join("logtide-t.1.1.spool"),
            dir.path().join("logtide-t.x.1.1.spool"),
            dir.path().join("other-t.1.1.1.spool"),
            dir.path().join("logtide-t.1.1.1.sst"),
        ];
        let stale = [
            dir.path().join(format!("logtide-t.{pid}.{}.1.spool", start + 1)),
            // Above the largest process id of Linux (2^22).
            dir.path().join(format!("logtide-t.4194305.{start}.1.spool")),
        ];
        keep.iter().chain(&stale).for_each(|path| fs::write(path, b"x").unwrap());
        assert_eq!(remove_stale(dir.path()).unwrap(), stale.len());
        assert!(keep.iter().all(|path| path.exists()) && stale.iter().all(|path| !path.exists()));
        assert_eq!(remove_stale(&dir.path().join("none")).unwrap(), 0);
    }

    #[test]
    fn another_living_process_keeps_its_files() {
        let mut child = process::Command::new("sleep").arg("60").spawn().unwrap();
        let owner = Owner { pid: child.id(), start: started(child.id()).unwrap() };
        assert!(!owner.is_dead());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(owner.is_dead());
    }
}
