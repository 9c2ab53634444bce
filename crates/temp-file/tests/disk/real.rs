//! A real file system that is too small: a tmpfs that the test mounts, where it may.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use logtide_model::{Diagnose, ErrorCode, MemoryBudget};
use logtide_temp_file::SpoolRoom;

use crate::records::{Content, content, fill, spool};

/// A mounted tmpfs; unmounted at the end.
struct Tmpfs {
    dir: PathBuf,
    _home: tempfile::TempDir,
}

impl Tmpfs {
    /// `None` where mounting is not allowed.
    fn mount(bytes: usize) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("tmpfs");
        std::fs::create_dir(&dir).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"], &dir).then_some(Tmpfs { dir, _home: home })
    }

    fn set_writable(&self, writable: bool) {
        assert!(mount(&["-o", if writable { "remount,rw" } else { "remount,ro" }], &self.dir));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.dir).status();
    }
}

fn mount(arguments: &[&str], dir: &Path) -> bool {
    Command::new("mount").args(arguments).arg(dir).output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_file_system_that_is_too_small_or_read_only_loses_nothing() {
    let Some(tmpfs) = Tmpfs::mount(4 << 20) else {
        println!("NOT RUN: this test mounts a tmpfs, and mount(8) refused; it needs root (CAP_SYS_ADMIN)");
        return;
    };
    let mut now = Instant::now();
    let mut tried_again = |room: &SpoolRoom| {
        room.disk.poll(now);
        now += Duration::from_secs(17);
        room.disk.poll(now);
        !room.disk.is_out()
    };
    let room = SpoolRoom::new(&tmpfs.dir, MemoryBudget::new(8 << 20), 1 << 30);
    let (mut spool, mut expected) = (spool(&room), Content::new());
    let taken = fill(&mut spool, &mut expected, 0, 1000, 100_000);
    assert!((8 << 10..12 << 10).contains(&taken), "{taken} KiB in 4 MiB of disk and 8 MiB of memory");
    let trouble = room.trouble().unwrap();
    assert_eq!(trouble.code(), ErrorCode::OutOfQuota);
    assert!(trouble.to_string().contains("No space left on device"), "{trouble}");
    let sealed = spool.seal().unwrap();
    assert_eq!(content(&sealed), expected);
    assert!(!tried_again(&room), "it is still full");
    drop(sealed);
    assert!(tried_again(&room), "files were removed");

    let mut expected = Content::new();
    assert_eq!(fill(&mut spool, &mut expected, 0, 1000, 6000), 6000);
    // A file that is open keeps a file system from becoming read-only.
    drop(spool.seal().unwrap());
    tmpfs.set_writable(false);
    let mut expected = Content::new();
    let taken = fill(&mut spool, &mut expected, 0, 1000, 100_000);
    assert!(taken < 9000, "{taken} KiB in 8 MiB of memory");
    let trouble = room.trouble().unwrap();
    assert!(trouble.to_string().contains("Read-only file system"), "{trouble}");
    assert_eq!(content(&spool.seal().unwrap()), expected);
    assert!(!tried_again(&room));
    tmpfs.set_writable(true);
    assert!(tried_again(&room));
    assert_eq!(fill(&mut spool, &mut Content::new(), 0, 1000, 6000), 6000);
    println!("run on a tmpfs of 4 MiB");
}
