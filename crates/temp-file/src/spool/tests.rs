//! What an open generation leaves behind.

use logtide_format::EntryKind;
use logtide_model::{Cf, Compression, MemoryBudget};

use super::{Spool, SpoolConfig};
use crate::SpoolRoom;

#[test]
fn discard_gives_everything_back_that_an_open_generation_took() {
    let dir = tempfile::tempdir().unwrap();
    let room = SpoolRoom::new(dir.path(), MemoryBudget::new(300 << 10), u64::MAX);
    let config =
        SpoolConfig { room: room.clone(), block_size: 4 << 10, compression: Compression::None, encryption: None };
    let mut spool = Spool::new(config, "discard").unwrap();
    let files = || std::fs::read_dir(dir.path()).unwrap().count();
    for n in 0..2_000u64 {
        spool.append(n % 5, Cf::Default, EntryKind::Put, &n.to_be_bytes(), &[n as u8; 1000]).unwrap();
    }
    assert_eq!(files(), 1, "two megabytes do not fit");
    assert!(room.disk.used() > 1_500_000, "{} bytes are on the disk", room.disk.used());
    spool.discard();
    assert_eq!((files(), room.disk.used()), (0, 0));
    let idle = spool.work.accounted + spool.pool.bytes();
    assert_eq!(spool.ledger.used(), idle);
    drop(spool);
    assert_eq!(room.memory.used(), 0);
}
