//! A disk that fails, and what is left afterwards.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use logtide_format::EntryKind;
use logtide_model::{Cf, Compression, Diagnose, ErrorCode, MemoryBudget};

use super::{Spool, SpoolConfig};
use crate::SpoolError;
use crate::disk::create;

/// Every write fails with "no space left on device".
fn full(path: &Path) -> io::Result<File> {
    create(path)?;
    OpenOptions::new().read(true).write(true).open("/dev/full")
}

fn config(dir: &Path, limit: usize) -> SpoolConfig {
    SpoolConfig {
        dir: dir.to_owned(),
        memory: MemoryBudget::new(limit),
        block_size: 4 << 10,
        compression: Compression::None,
        encryption: None,
    }
}

fn append(spool: &mut Spool, n: u64) -> Result<(), SpoolError> {
    spool.append(n % 5, Cf::Default, EntryKind::Put, &n.to_be_bytes(), &[n as u8; 1000])
}

#[test]
fn a_full_disk_poisons_until_discard() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::with_files(config(dir.path(), 0), "full", full).unwrap();
    let error = (0..10_000).find_map(|n| append(&mut spool, n).err()).expect("memory is 0 and the disk is full");
    assert_eq!(error.code(), ErrorCode::OutOfQuota);
    assert!(error.to_string().contains("logtide-full."), "{error}");
    assert!(error.remedy().contains("free space"), "{}", error.remedy());
    for again in [append(&mut spool, 1).unwrap_err(), spool.seal().map(drop).unwrap_err()] {
        assert!(matches!(&again, SpoolError::Poisoned { cause } if *cause == error.to_string()), "{again}");
    }

    spool.create = create;
    spool.discard();
    assert_eq!((spool.open_bytes(), spool.open_segments()), (0, 0));
    append(&mut spool, 7).unwrap();
    let sealed = spool.seal().unwrap();
    assert_eq!(sealed.files.iter().map(|file| file.summary.entries).sum::<u64>(), 1, "the spool works again");
}

#[test]
fn a_disk_that_is_full_at_the_seal_poisons_too() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1 << 30);
    let memory = config.memory.clone();
    let mut spool = Spool::with_files(config, "full", full).unwrap();
    (0..103).for_each(|n| append(&mut spool, n).unwrap());
    memory.set_limit(0);
    assert_eq!(spool.seal().map(drop).unwrap_err().code(), ErrorCode::OutOfQuota);
    assert!(matches!(spool.seal(), Err(SpoolError::Poisoned { .. })));
    spool.discard();
    drop(spool);
    assert_eq!(memory.used(), 0);
}

#[test]
fn discard_gives_everything_back_that_an_open_generation_took() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 300 << 10);
    let memory = config.memory.clone();
    let mut spool = Spool::new(config, "discard").unwrap();
    let files = || std::fs::read_dir(dir.path()).unwrap().count();
    (0..2_000).for_each(|n| append(&mut spool, n).unwrap());
    assert_eq!(files(), 1, "two megabytes do not fit");
    spool.discard();
    assert_eq!(files(), 0);
    let idle = spool.work.accounted + spool.pool.bytes();
    assert_eq!(spool.ledger.used(), idle);
    drop(spool);
    assert_eq!(memory.used(), 0);
}
