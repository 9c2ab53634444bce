//! Flushing sealed generations, against the same bytes put by `object_store` alone (DESIGN §13).
//!
//! `cargo bench -p logtide-benches --bench flush`; with a real S3 server on loopback:
//! `.ci/servers/run s3s-fs cargo bench -p logtide-benches --bench flush`, which sets `LOGTIDE_TEST_STORAGE`.
//!
//! Each turn seals new spools (not timed), then times the floors and the flush one after the other. The floor is the data
//! objects alone: as many, of the same sizes, in the same parts, with the same number of requests at once, from memory or
//! from a plain file on the disk as the spool has its blocks. The flush is
//! all of it: planning, reading and verifying the spool, the data objects, then the metadata object and the head in
//! order, publishing to memory, and removing the spool.
//!
//! A local floor is measured without and with fsync: `object_store` alone does none unless it is asked to, and what a
//! flush promises is durable. The ratio that counts is that to the floor with fsync.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark: its output is the figures")]

mod floor;
mod names;
mod subject;

use std::time::Duration;

use logtide_benches::{Took, Turns};
use object_store::ObjectStore;
use tokio::runtime::Runtime;

use crate::floor::{Objects, bare_s3, clear};
use crate::subject::{Bed, Spooled};

/// Requests at once, as `upload-concurrency` has it by default.
const AT_ONCE: usize = 4;
/// Turns of each case.
const TURNS: usize = 5;

/// What is flushed.
#[derive(Clone, Copy)]
struct Case {
    /// Generations that are submitted together.
    generations: usize,
    /// Bytes of key and value in each; about half as many are stored.
    plain: usize,
    /// Where the spools keep their blocks.
    spooled: Spooled,
}

const CASES: [Case; 4] = [
    Case { generations: 1, plain: 32 << 20, spooled: Spooled::Memory },
    Case { generations: 1, plain: 256 << 20, spooled: Spooled::Memory },
    Case { generations: 1, plain: 256 << 20, spooled: Spooled::Disk },
    Case { generations: 4, plain: 64 << 20, spooled: Spooled::Memory },
];

/// A storage under test: how `object_store` alone opens it, and how logtide does.
struct Place {
    name: &'static str,
    /// Name of a floor, and its store.
    floors: Vec<(&'static str, Box<dyn ObjectStore>)>,
    url: String,
    /// True if it takes the names of metadata objects.
    long_names: bool,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut places = vec![local(&directory)];
    match std::env::var("LOGTIDE_TEST_STORAGE") {
        Ok(url) if url.starts_with("s3://") => places.push(s3(url)),
        _ => println!("S3 is not measured: set LOGTIDE_TEST_STORAGE to an s3:// URL, as `.ci/servers/run s3s-fs` does"),
    }
    println!("MB of stored bytes a second, medians of {TURNS} turns; ratio: flush to floor, by the wall");
    println!("storage  spool   generations  stored MB  flush  floor{:15}MB/s  ratio  processor s (flush, floor)", "");
    // As criterion has it: a word on the command line chooses storages by name.
    let chosen = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    for place in places.iter().filter(|place| place.name.contains(&chosen)) {
        for case in CASES {
            measure(&runtime, place, case);
        }
    }
}

fn local(directory: &tempfile::TempDir) -> Place {
    let root = directory.path().join("storage");
    std::fs::create_dir(&root).unwrap();
    let alone = || object_store::local::LocalFileSystem::new_with_prefix(&root).unwrap();
    let floors: Vec<(&str, Box<dyn ObjectStore>)> =
        vec![("without fsync", Box::new(alone())), ("with fsync", Box::new(alone().with_fsync(true)))];
    Place { name: "local", floors, url: format!("local://{}", root.display()), long_names: true }
}

fn s3(url: String) -> Place {
    let defects = std::env::var("LOGTIDE_TEST_DEFECTS").unwrap_or_default();
    Place {
        name: "S3",
        floors: vec![("object_store", bare_s3(&url))],
        url,
        long_names: !defects.split(' ').any(|defect| defect == "short-names"),
    }
}

fn measure(runtime: &Runtime, place: &Place, case: Case) {
    let mut bed = Bed::new(runtime, &place.url, place.long_names);
    let mut turns: Vec<Turns> = place.floors.iter().map(|_| Turns::default()).collect();
    let mut stored = 0;
    for turn in 0..=TURNS {
        let generations = bed.seal(case.generations, case.plain, case.spooled);
        let objects: Vec<_> = generations.iter().map(Objects::of).collect();
        stored = objects.iter().map(Objects::bytes).sum();
        let floors: Vec<Took> =
            place.floors.iter().map(|(_, store)| floor_of(runtime, store.as_ref(), &objects)).collect();
        let flush = bed.flush(generations);
        runtime.block_on(clear(&*bed.store));
        // The first turn opens connections and directories.
        if turn > 0 {
            for (turns, floor) in turns.iter_mut().zip(floors) {
                turns.run(&mut (), |()| floor, |()| flush);
            }
        }
    }
    for ((name, _), turns) in place.floors.iter().zip(&turns) {
        println!("{}", row(place.name, case, stored, name, turns));
    }
}

fn floor_of(runtime: &Runtime, store: &dyn ObjectStore, objects: &[Objects]) -> Took {
    let (took, ()) = Took::of_process(|| runtime.block_on(floor::put_all(store, objects)));
    runtime.block_on(clear(store));
    took
}

fn row(place: &str, case: Case, stored: u64, floor: &str, turns: &Turns) -> String {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let rate = |time: Duration| stored as f64 / time.as_secs_f64() / 1e6;
    let (of_flush, of_floor) = (turns.subject(), turns.floor());
    format!(
        "{place:<8} {:<7} {:>11} {:>10.0} {:>6.0}  {floor:<14} {:>5.0} {:>6.2} {:>8.0}  {:.0}, {:.0}",
        case.spooled.name(),
        case.generations,
        stored as f64 / 1e6,
        rate(of_flush.wall),
        rate(of_floor.wall),
        1.0 / turns.ratio().0,
        millis(of_flush.wall) - millis(of_floor.wall),
        millis(of_flush.cpu),
        millis(of_floor.cpu),
    )
}
