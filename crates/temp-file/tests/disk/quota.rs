//! The quota: kept, given back, and what happens when it is used up.

use std::sync::Arc;

use logtide_model::{Diagnose, ErrorCode};
use logtide_temp_file::{SealedSpool, SpoolTrouble};

use crate::faulty::Faulty;
use crate::records::{Content, append, content, fill, on_disk, room, spool};

const MEMORY: usize = 8 << 20;
const QUOTA: u64 = 16 << 20;
/// More than both.
const TOO_MANY: u64 = 100_000;

#[test]
fn memory_then_disk_then_no_room_and_nothing_of_it_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let room = room(dir.path(), MEMORY, QUOTA, Arc::new(Faulty::default()));
    let (mut spool, mut expected) = (spool(&room), Content::new());
    let taken = fill(&mut spool, &mut expected, 0, 1000, TOO_MANY) * 1016;
    assert!(taken > QUOTA + MEMORY as u64 / 2, "{taken} bytes were taken");
    assert!(taken < QUOTA + MEMORY as u64, "{taken} bytes were taken");
    assert!(on_disk(dir.path()) <= QUOTA && room.disk.used() <= QUOTA);
    assert!(room.memory.peak() <= MEMORY + (1 << 20), "{}", room.memory.peak());
    assert!(room.disk.is_full() && room.is_tight());
    let trouble = room.trouble().unwrap();
    assert!(matches!(trouble, SpoolTrouble::Full { quota: QUOTA, .. }) && trouble.code() == ErrorCode::OutOfQuota);
    let text = format!("{trouble}; {}", trouble.remedy());
    assert!(text.contains(dir.path().to_str().unwrap()) && text.contains("temp-file-disk-quota"), "{text}");

    let sealed = spool.seal().unwrap();
    assert_eq!(content(&sealed), expected);
    assert!(room.memory.peak() <= MEMORY + (2 << 20), "{} while sealing", room.memory.peak());
    drop(sealed);
    assert_eq!((room.disk.used(), room.trouble(), room.is_tight()), (0, None, false));
    assert!(append(&mut spool, &mut Content::new(), 1, 1, 1000));
}

#[test]
fn a_full_disk_takes_nothing_until_it_is_below_the_low_water_mark() {
    let dir = tempfile::tempdir().unwrap();
    let room = room(dir.path(), 4 << 20, QUOTA, Arc::new(Faulty::default()));
    let (mut spool, mut sealed): (_, Vec<SealedSpool>) = (spool(&room), Vec::new());
    let mut n = 0;
    while !room.disk.is_full() {
        n += fill(&mut spool, &mut Content::new(), n, 1000, 2000);
        sealed.push(spool.seal().unwrap());
    }
    assert!(sealed.len() > 6);
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    while room.disk.used() > QUOTA / 4 * 3 {
        assert!(room.disk.is_full() && room.is_tight());
        assert!(fill(&mut spool, &mut Content::new(), n, 40_000, TOO_MANY) < 100, "no more than memory holds");
        assert!(std::fs::read_dir(dir.path()).unwrap().count() <= files, "no new file");
        drop(sealed.remove(0));
    }
    assert!(!room.disk.is_full() && room.trouble().is_none());
    assert!(fill(&mut spool, &mut Content::new(), n, 1000, 3000) > 1000);
}

#[test]
fn runs_of_many_short_tails_do_not_pass_the_quota_when_they_become_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let room = room(dir.path(), 4 << 20, QUOTA, Arc::new(Faulty::default()));
    let (mut spool, mut expected) = (spool(&room), Content::new());
    let taken = (0..TOO_MANY).find(|n| !append(&mut spool, &mut expected, n % 4000, *n, 200)).unwrap();
    assert!(on_disk(dir.path()) > 4 << 20, "{taken} records, {} bytes on the disk", on_disk(dir.path()));
    let sealed = spool.seal().unwrap();
    assert!(on_disk(dir.path()) <= QUOTA, "{} bytes on the disk", on_disk(dir.path()));
    assert!(room.disk.used() <= QUOTA);
    assert_eq!(content(&sealed), expected);
    drop(sealed);
    assert_eq!(room.disk.used(), 0);
}

#[test]
fn all_spools_share_the_quota_and_it_can_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let room = room(dir.path(), MEMORY, QUOTA, Arc::new(Faulty::default()));
    let mut spools = [spool(&room), spool(&room), spool(&room)];
    let mut full = 0;
    for n in 0..TOO_MANY {
        full += usize::from(!append(&mut spools[n as usize % 3], &mut Content::new(), n % 5, n, 1000));
        assert!(room.disk.used() <= QUOTA);
        if full == 100 {
            break;
        }
    }
    assert!(room.disk.is_full());
    room.disk.set_quota(4 * QUOTA);
    assert!(!room.disk.is_full());
    assert!(fill(&mut spools[0], &mut Content::new(), 0, 1000, 20_000) > 10_000);
    drop(spools);
    assert_eq!((room.disk.used(), room.memory.used()), (0, 0));
}
