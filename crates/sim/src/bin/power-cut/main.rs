//! A real power cut, again and again: a store with threads, its spool and its storage on a file system that is shut down
//! under load, as if the power went (`shutdown` of `xfs_io`: nothing more reaches the disk, and what is only in the kernel's
//! memory is gone). Coordinator and cluster are elsewhere and live on. What a checkpoint covered that was published before,
//! or after, is restored from what is left and compared with the cluster in both directions.
//!
//! Needs root, loop devices, mkfs of each file system, and xfs_io (Debian: xfsprogs); says what is missing.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command")]

mod broken;
mod disk;
mod node;
mod proof;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use broken::Break;
use disk::Disk;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: power-cut [--runs N] [--fs ext4,xfs] [--seed N] [--dir DIR] [--break metadata|directory]
  --runs N    power cuts for each file system (20)
  --fs LIST   file systems (ext4, and xfs where mkfs.xfs exists)
  --seed N    of the moments (1)
  --dir DIR   for the image and the mount point (a temporary one)
  --break W   leaves a sync out: `metadata` of metadata objects, `directory` of all directories. It succeeds if that is found";

struct Options {
    runs: u64,
    systems: Vec<String>,
    seed: u64,
    dir: Option<PathBuf>,
    broken: Option<Break>,
}

fn options() -> Option<Options> {
    let systems = ["ext4", "xfs"].into_iter().filter(|fs| *fs == "ext4" || Disk::can_make(fs)).map(str::to_owned);
    let mut options = Options { runs: 20, systems: systems.collect(), seed: 1, dir: None, broken: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--runs" => options.runs = args.next()?.parse().ok()?,
            "--fs" => options.systems = args.next()?.split(',').map(str::to_owned).collect(),
            "--seed" => options.seed = args.next()?.parse().ok()?,
            "--dir" => options.dir = Some(args.next()?.into()),
            "--break" => options.broken = Some(Break::named(&args.next()?)?),
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let missing = Disk::missing(&options.systems);
    if !missing.is_empty() {
        eprintln!("the power cut was NOT tested; missing: {}", missing.join("; "));
        return ExitCode::from(3);
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("power-cut: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True if all is as it should be: nothing is missing, or something is where a sync was left out.
fn run(options: &Options) -> Result<bool, Failure> {
    let home = tempfile::tempdir()?;
    let dir = options.dir.clone().unwrap_or_else(|| home.path().to_owned());
    let mut good = true;
    for system in &options.systems {
        let (mut total, mut found) = (proof::Proof::default(), 0);
        for n in 0..options.runs {
            // From a quarter of a second to three seconds after the first checkpoint.
            let after = Duration::from_millis(250 + (options.seed * 7919 + n * 977) % 2750);
            let proof = cut(&Disk::make(&dir, system)?, after, options.broken)?;
            if let Some(wrong) = &proof.wrong {
                found += 1;
                println!("{system}, cut {n} after {after:?}: {wrong}");
            }
            total += proof;
        }
        println!("{system}: {} cuts, {found} with something missing; {total}", options.runs);
        good &= (found > 0) == options.broken.is_some();
    }
    Ok(good)
}

/// One life of a store, until the power goes.
fn cut(disk: &Disk, after: Duration, broken: Option<Break>) -> Result<proof::Proof, Failure> {
    let outside = tempfile::tempdir()?;
    disk.mount()?;
    let life = node::live(disk, outside.path(), after, broken)?;
    disk.unmount()?;
    disk.mount()?;
    let proof = proof::prove(&disk.storage(), life);
    disk.unmount()?;
    Ok(proof)
}
