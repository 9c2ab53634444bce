//! A disk that is full, read-only or broken: what was appended stays, memory is bounded, and it is used again by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide_model::{Diagnose, ErrorCode};
use logtide_temp_file::{Spool, SpoolError, SpoolRoom};
use proptest::prelude::*;

use crate::faulty::{EIO, ENOSPC, EROFS, Faults, Faulty};
use crate::records::{Content, append, content, fill, on_disk, room, spool};

const MEMORY: usize = 8 << 20;
const TOO_MANY: u64 = 100_000;

fn faulty(dir: &std::path::Path) -> (Faulty, SpoolRoom) {
    let files = Faulty::default();
    (files.clone(), room(dir, MEMORY, 1 << 30, Arc::new(files)))
}

/// Lets time pass until the disk was tried again.
fn pass(room: &SpoolRoom, now: &mut Instant) {
    for _ in 0..2 {
        room.disk.poll(*now);
        *now += Duration::from_secs(17);
    }
}

#[test]
fn what_cannot_be_written_stays_in_memory_until_the_disk_is_back() {
    let cases = [
        (Faults::full(), ENOSPC, ErrorCode::OutOfQuota, "free space"),
        (Faults::read_only(), EROFS, ErrorCode::Io, "writable"),
        (Faults { read: None, ..Faults::broken() }, EIO, ErrorCode::Io, "working disk"),
    ];
    for (faults, errno, code, remedy) in cases {
        let (dir, mut now) = (tempfile::tempdir().unwrap(), Instant::now());
        let (files, room) = faulty(dir.path());
        let (mut spool, mut expected) = (spool(&room), Content::new());
        // Some of it is on the disk already.
        let before = fill(&mut spool, &mut expected, 0, 1000, 20_000);
        assert_eq!(before, 20_000);
        assert!(on_disk(dir.path()) > 8 << 20);
        files.set(faults);
        let more = fill(&mut spool, &mut expected, before, 1000, TOO_MANY);
        assert!(more < 10_000, "{more} records with {MEMORY} bytes of memory");
        assert!(room.memory.peak() <= MEMORY + (1 << 20), "{}", room.memory.peak());
        let trouble = room.trouble().unwrap();
        let text = format!("{trouble}; {}", trouble.remedy());
        assert_eq!(trouble.code(), code, "{text}");
        assert!(text.contains(&std::io::Error::from_raw_os_error(errno).to_string()), "{text}");
        assert!(text.contains(dir.path().to_str().unwrap()) && text.contains(remedy), "{text}");

        // A generation is sealed and opened meanwhile.
        let sealed = spool.seal().unwrap();
        assert!(room.memory.peak() <= 2 * MEMORY, "{} while sealing", room.memory.peak());
        let mut next = Content::new();
        append(&mut spool, &mut next, 1, 1, 10);
        pass(&room, &mut now);
        assert!(room.disk.is_out() && room.trouble().is_some(), "it still fails");
        files.set(Faults::default());
        pass(&room, &mut now);
        assert_eq!((room.disk.is_out(), room.trouble()), (false, None));
        assert_eq!(content(&sealed), expected);
        drop(sealed);
        assert_eq!(fill(&mut spool, &mut next, 2, 1000, 20_000), 20_000, "the disk takes them again");
        assert_eq!(content(&spool.seal().unwrap()), next);
        drop(spool);
        assert_eq!((room.memory.used(), room.disk.used(), on_disk(dir.path())), (0, 0, 0));
    }
}

#[test]
fn a_disk_that_cannot_be_opened_stops_no_spool() {
    let (dir, mut now) = (tempfile::tempdir().unwrap(), Instant::now());
    let (files, room) = faulty(dir.path());
    files.set(Faults::read_only());
    let (mut spool, mut expected) = (spool(&room), Content::new());
    assert!(room.disk.is_out(), "known before memory gets short");
    assert!(fill(&mut spool, &mut expected, 0, 1000, TOO_MANY) > 3000);
    assert_eq!(content(&spool.seal().unwrap()), expected);
    files.set(Faults::default());
    pass(&room, &mut now);
    assert_eq!(fill(&mut spool, &mut Content::new(), 0, 1000, 20_000), 20_000);
}

#[test]
fn a_directory_that_vanished_is_made_again() {
    let (home, mut now) = (tempfile::tempdir().unwrap(), Instant::now());
    let dir = home.path().join("spool");
    let room = SpoolRoom::new(&dir, logtide_model::MemoryBudget::new(1), 1 << 30);
    let mut spool = spool(&room);
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, b"").unwrap();
    assert!(fill(&mut spool, &mut Content::new(), 0, 1000, TOO_MANY) < 10_000);
    let text = room.trouble().unwrap().to_string();
    assert!(text.contains(dir.to_str().unwrap()), "{text}");
    std::fs::remove_file(&dir).unwrap();
    pass(&room, &mut now);
    assert!(!room.disk.is_out());
    assert_eq!(fill(&mut spool, &mut Content::new(), 0, 1000, 20_000), 20_000);
}

#[test]
fn a_disk_that_fails_is_tried_again_with_growing_patience() {
    let dir = tempfile::tempdir().unwrap();
    let (files, room) = faulty(dir.path());
    files.set(Faults::broken());
    drop(spool(&room));
    let mut now = Instant::now();
    let tries = |room: &SpoolRoom, now: &mut Instant, seconds: u64| {
        let before = files.tries();
        for _ in 0..seconds * 100 {
            room.disk.poll(*now);
            *now += Duration::from_millis(10);
        }
        files.tries() - before
    };
    assert_eq!(tries(&room, &mut now, 15), 4, "after 0.5, 1.5, 3.5 and 7.5 seconds");
    assert!((37..=40).contains(&tries(&room, &mut now, 600)), "every 16 seconds");
    // It seems to be well, and is not: the patience is the same.
    files.set(Faults::default());
    tries(&room, &mut now, 17);
    assert!(!room.disk.is_out());
    files.set(Faults::broken());
    drop(spool(&room));
    assert_eq!(tries(&room, &mut now, 15), 0, "no try within 16 seconds");
    files.set(Faults::default());
    tries(&room, &mut now, 100);
    files.set(Faults::broken());
    drop(spool(&room));
    assert_eq!(tries(&room, &mut now, 15), 4, "it was well for more than a minute");
}

#[test]
fn a_file_that_cannot_be_removed_is_accounted_until_it_is() {
    let (dir, mut now) = (tempfile::tempdir().unwrap(), Instant::now());
    let (files, room) = faulty(dir.path());
    let mut spool = spool(&room);
    fill(&mut spool, &mut Content::new(), 0, 1000, 20_000);
    let sealed = spool.seal().unwrap();
    let used = room.disk.used();
    assert_eq!(used, on_disk(dir.path()));
    files.set(Faults { remove: Some(EROFS), ..Faults::default() });
    drop(sealed);
    assert_eq!((room.disk.used(), room.disk.is_out()), (used, true));
    files.set(Faults::default());
    pass(&room, &mut now);
    assert_eq!((room.disk.used(), room.disk.is_out(), on_disk(dir.path())), (0, false, 0));
}

#[test]
fn what_cannot_be_read_back_is_an_error_and_the_disk_is_not_trusted() {
    for faults in [Faults { read: Some(EIO), ..Faults::default() }, Faults { lies: true, ..Faults::default() }] {
        let (dir, mut now) = (tempfile::tempdir().unwrap(), Instant::now());
        let (files, room) = faulty(dir.path());
        let mut spool = spool(&room);
        fill(&mut spool, &mut Content::new(), 0, 1000, 20_000);
        let sealed = spool.seal().unwrap();
        files.set(faults);
        let error = sealed.files.iter().find_map(|file| file.read().err()).expect("most are on the disk");
        assert!(matches!(error, SpoolError::Io { action: "read", .. } | SpoolError::Corrupt { .. }), "{error}");
        pass(&room, &mut now);
        assert!(room.disk.is_out(), "what is written is read before the disk is trusted");
        let before = on_disk(dir.path());
        fill(&mut spool, &mut Content::new(), 0, 1000, TOO_MANY);
        assert_eq!(on_disk(dir.path()), before, "nothing more goes there");
    }
}

#[test]
fn runs_that_cannot_become_blocks_lose_the_generation_rather_than_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (files, room) = faulty(dir.path());
    let (mut spool, mut expected) = (spool(&room), Content::new());
    // Plain short tails, four times the memory.
    for n in 0..160_000 {
        assert!(append(&mut spool, &mut expected, n % 4000, n, 200));
    }
    assert!(on_disk(dir.path()) > 3 * MEMORY as u64);
    files.set(Faults::full());
    assert!(matches!(spool.seal(), Err(SpoolError::Overfull)));
    assert!(room.memory.peak() <= 2 * MEMORY + (1 << 20), "{}", room.memory.peak());
    spool.discard();
    assert_eq!(on_disk(dir.path()), 0);
    let mut expected = Content::new();
    assert!(append(&mut spool, &mut expected, 1, 1, 100));
    assert_eq!(content(&spool.seal().unwrap()), expected);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Append(u64, usize),
    Faults(u8),
    Pass,
    Seal,
    Free,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => (0..40u64, prop_oneof![9 => 0..3000usize, 1 => 3000..400_000usize]).prop_map(|(r, n)| Step::Append(r, n)),
        4 => any::<u8>().prop_map(Step::Faults),
        4 => Just(Step::Pass),
        2 => Just(Step::Seal),
        2 => Just(Step::Free),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_the_disk_does_what_was_taken_comes_out(
        steps in prop::collection::vec(step(), 0..600), memory in (3usize << 20)..(6 << 20), quota in 0u64..(8 << 20),
    ) {
        let (dir, mut now) = (tempfile::tempdir().unwrap(), Instant::now());
        let files = Faulty::default();
        let room = room(dir.path(), memory, quota, Arc::new(files.clone()));
        let (mut spool, mut expected): (Spool, Content) = (spool(&room), Content::new());
        let mut generations = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append(region, len) => drop(append(&mut spool, &mut expected, region, n as u64, len)),
                Step::Faults(which) => files.set(match which % 4 {
                    0 => Faults::full(),
                    1 => Faults::read_only(),
                    2 => Faults { create: Some(EIO), ..Faults::full() },
                    _ => Faults::default(),
                }),
                Step::Pass => pass(&room, &mut now),
                Step::Seal => generations.push((spool.seal().unwrap(), std::mem::take(&mut expected))),
                Step::Free => drop(generations.pop()),
            }
            prop_assert!(room.disk.used() <= quota, "{} of {quota}", room.disk.used());
            prop_assert!(room.memory.used() <= 2 * memory.max(8 << 20), "{} of {memory}", room.memory.used());
        }
        generations.push((spool.seal().unwrap(), expected));
        for (sealed, expected) in &generations {
            prop_assert_eq!(&content(sealed), expected);
        }
        files.set(Faults::default());
        drop((spool, generations));
        pass(&room, &mut now);
        prop_assert_eq!((room.memory.used(), room.disk.used(), on_disk(dir.path())), (0, 0, 0));
    }
}
