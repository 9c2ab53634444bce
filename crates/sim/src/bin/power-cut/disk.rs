//! A file system in a file, on a loop device: made, mounted, shut down.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// Bytes of the image: xfs wants no less than 300 MiB.
const BYTES: u64 = 512 << 20;

/// See the module. Dropping unmounts it.
pub(crate) struct Disk {
    system: String,
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// True if there is a command that makes such a file system.
    pub(crate) fn can_make(system: &str) -> bool {
        is_there(&format!("mkfs.{system}"))
    }

    /// What this machine lacks.
    pub(crate) fn missing(systems: &[String]) -> Vec<String> {
        let tools = ["mount", "umount", "xfs_io"].map(str::to_owned).into_iter();
        let tools = tools.chain(systems.iter().map(|system| format!("mkfs.{system}")));
        let mut missing: Vec<String> =
            tools.filter(|tool| !is_there(tool)).map(|tool| format!("the command {tool}")).collect();
        let id = Command::new("id").arg("-u").output();
        if !id.is_ok_and(|id| id.stdout.trim_ascii() == b"0") {
            missing.push("root".to_owned());
        }
        if !Path::new("/dev/loop-control").exists() {
            missing.push("loop devices (/dev/loop-control)".to_owned());
        }
        missing
    }

    /// A new one, empty, in `dir`.
    pub(crate) fn make(dir: &Path, system: &str) -> Result<Self, Failure> {
        let (image, mount) = (dir.join("disk.img"), dir.join("mnt"));
        std::fs::create_dir_all(&mount)?;
        std::fs::File::create(&image)?.set_len(BYTES)?;
        let quiet = if system == "ext4" { ["-q", "-F"] } else { ["-q", "-f"] };
        done(Command::new(format!("mkfs.{system}")).args(quiet).arg(&image))?;
        Ok(Disk { system: system.to_owned(), image, mount })
    }

    /// Mounts it. The journal is not written by the clock in a while that matters.
    pub(crate) fn mount(&self) -> Result<(), Failure> {
        let options = if self.system == "ext4" { "loop,commit=60" } else { "loop" };
        done(Command::new("mount").args(["-o", options]).arg(&self.image).arg(&self.mount))
    }

    /// Unmounts it.
    pub(crate) fn unmount(&self) -> Result<(), Failure> {
        done(Command::new("umount").arg(&self.mount))
    }

    /// The power goes: nothing that is not on the disk reaches it any more, the journal neither.
    pub(crate) fn shut_down(&self) -> Result<(), Failure> {
        done(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.mount))
    }

    /// Where the backup is.
    pub(crate) fn storage(&self) -> PathBuf {
        self.mount.join("storage")
    }

    /// Where the spool is.
    pub(crate) fn spool(&self) -> PathBuf {
        self.mount.join("spool")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It is unmounted, unless something failed; then as far as possible.
        let _ = Command::new("umount").arg("-l").arg(&self.mount).stderr(Stdio::null()).status();
    }
}

fn is_there(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&paths).chain(usual).any(|dir| dir.join(tool).exists())
}

fn done(command: &mut Command) -> Result<(), Failure> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
