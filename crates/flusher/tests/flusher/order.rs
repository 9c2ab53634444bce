//! I1: a checkpoint is published only after the metadata object of its generation and of all earlier ones is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use logtide_flusher::FlushEvent;
use logtide_format::{
    HEAD_PREFIX, MARKS_PREFIX, METADATA_PREFIX, MetaLink, MetaName, ObjectTag, decode_head, decode_marks,
    decode_metadata, marks_path,
};
use logtide_model::{Cf, Ts};
use proptest::prelude::*;
use tokio::sync::Semaphore;

use crate::fault_store::{Answer, Entry, Fault, FaultPublisher, FaultStore, Kind, Log};
use crate::fixture::{
    BOOT, Event, STORE, config, content_of, end_of, event, flusher, generation, marks, objects, read_back, spool, until,
};

/// The generation of a metadata object.
fn generation_of(path: &str) -> u64 {
    MetaName::parse(path).unwrap().tag.unwrap().generation
}

/// The object of a generation's marks.
fn marks_of(generation: u64) -> String {
    marks_path(STORE, ObjectTag { boot: BOOT, generation })
}

/// Walks the log and holds it against the invariant. `with_data` are the generations that have metadata objects,
/// `with_marks` those that have marks.
pub(crate) fn check_order(log: &[Entry], with_data: &BTreeSet<u64>, with_marks: &BTreeSet<u64>) {
    let mut durable: BTreeMap<&str, &Bytes> = BTreeMap::new();
    let mut committed = BTreeSet::new();
    let (mut published, mut head) = (0, 0);
    for entry in log {
        match entry {
            Entry::Tried(path) if path.starts_with(METADATA_PREFIX) => {
                let earlier = with_data.range(..generation_of(path));
                assert!(earlier.clone().all(|g| committed.contains(g)), "{path} was put before {earlier:?}");
                let marked = with_marks.range(..=generation_of(path)).all(|g| durable.contains_key(&marks_of(*g)[..]));
                assert!(marked, "{path} was put before the marks of its generation and of all earlier ones");
            }
            Entry::Tried(path) if path.starts_with(MARKS_PREFIX) => {
                let number = with_marks.iter().find(|g| marks_of(**g) == *path).unwrap();
                let earlier = with_data.range(..number).all(|g| committed.contains(g));
                assert!(earlier, "the marks of {number} tell what earlier generations have, which are not there");
            }
            Entry::Tried(_) => {}
            Entry::Durable(path, bytes) if path.starts_with(HEAD_PREFIX) => {
                let (metadata, name) = decode_head(path, bytes).unwrap();
                assert!(durable.contains_key(&metadata[..]), "the head names {metadata}, which is not there");
                head = name.tag.unwrap().generation;
            }
            Entry::Durable(path, bytes) => {
                if let Some(before) = durable.insert(path, bytes) {
                    assert_eq!(before, bytes, "{path} was put with other bytes");
                }
                if path.starts_with(METADATA_PREFIX) {
                    for group in decode_metadata(path, bytes).unwrap().file_groups {
                        assert!(durable.contains_key(&group.path[..]), "{path} came before {}", group.path);
                    }
                    let number = generation_of(path);
                    let previous = MetaLink::parse(path).unwrap().unwrap().previous;
                    assert_eq!(previous.map(|p| p.generation), with_data.range(..number).next_back().copied());
                    let named = durable.keys().map(|path| (path, MetaName::parse(path)));
                    for (path, name) in named.filter_map(|(path, name)| Some((path, name.ok()?))) {
                        let bounds = previous.map(|p| (p.min_ts, p.max_ts));
                        let is_it = previous.is_some_and(|p| name.tag.unwrap().generation == p.generation);
                        assert!(!is_it || bounds == Some((name.min_ts, name.max_ts)), "{path}: {bounds:?}");
                    }
                    committed.insert(number);
                }
            }
            Entry::Published(publication) => {
                let number = publication.generation;
                assert!(number == published || number == published + 1, "{number} after {published}");
                let missing: Vec<_> = with_data.range(..=number).filter(|g| !committed.contains(g)).collect();
                assert!(missing.is_empty(), "{number} was published before the metadata of {missing:?}");
                let marked = with_marks.range(..=number).all(|g| durable.contains_key(&marks_of(*g)[..]));
                assert!(marked, "{number} was published before the marks");
                let newest = with_data.range(..=number).next_back().copied().unwrap_or(0);
                assert!(head >= newest, "{number} was published while the head names {head}, not {newest}");
                assert_eq!(publication.facts[0].checkpoint, Ts::new(number * 1000), "facts travel in the generation");
                published = number;
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Case {
    /// Records of each spool of each generation: (region, length of a value).
    generations: Vec<Vec<Vec<(u64, usize)>>>,
    /// Bit by bit, which generations have marks.
    marked: u8,
    faults: Vec<u8>,
    answers: Vec<u8>,
    create_if_absent: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let spool = prop::collection::vec((0..4u64, 1..3000usize), 0..12);
    let generations = prop::collection::vec(prop::collection::vec(spool, 0..3), 1..6);
    let faults = prop::collection::vec(any::<u8>(), 1..40);
    let answers = prop::collection::vec(0..5u8, 0..5);
    (generations, any::<u8>(), faults, answers, any::<bool>()).prop_map(
        |(generations, marked, faults, answers, create_if_absent)| Case {
            generations,
            marked,
            faults,
            answers,
            create_if_absent,
        },
    )
}

fn fault(dice: u8) -> Fault {
    match dice % 8 {
        0 => Fault::Before,
        1 => Fault::After,
        2 | 3 => Fault::Slow(usize::from(dice)),
        4 => Fault::Slow(usize::from(dice) * 40),
        _ => Fault::None,
    }
}

fn answer(dice: u8) -> Answer {
    [Answer::Yes, Answer::Refused, Answer::Lost, Answer::Panic, Answer::Yes][usize::from(dice)].clone()
}

async fn run(case: &Case) {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::default();
    let dice = case.faults.clone();
    // The sixth try of a request and later ones succeed, so that every case ends.
    let store = FaultStore::in_memory(&log, move |kind, path, nth| match nth {
        0..5 => fault(
            dice[(path.len() * 31 + nth * 7 + path.bytes().map(usize::from).sum::<usize>() + kind as usize)
                % dice.len()],
        ),
        _ => Fault::None,
    });
    let publisher = FaultPublisher::new(&log, case.answers.iter().map(|dice| answer(*dice)).collect());
    let mut config = config();
    config.create_if_absent = case.create_if_absent;
    config.file_size_limit = 4000;
    config.part_size = 3000;
    config.upload_concurrency = 3;
    let (flusher, _) = flusher(store.clone(), publisher, config);
    let mut expected: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
    let mut answers = Vec::new();
    for (number, spools) in (1..).zip(&case.generations) {
        let mut sealed = Vec::new();
        for (shard, records) in spools.iter().enumerate() {
            let mut events = Vec::new();
            for (i, (region, length)) in (0..).zip(records) {
                let region = if *region == 0 { 0 } else { region * 10 + shard as u64 };
                events.push(event(region, Cf::Default, number * 100 + i * 2 + 1, *length));
                events.push(event(region, Cf::Write, number * 100 + i * 2 + 2, 0));
            }
            sealed.push(spool(dir.path(), &format!("g{number}-s{shard}"), 8 << 20, &events));
            // Schema records of all spools have one file key; their order is that of the spools.
            expected.entry(number).or_default().extend(events);
        }
        let mut sealed = generation(number, sealed);
        if case.marked >> number & 1 == 1 {
            sealed.marks = marks(number);
        }
        answers.push(flusher.submit(sealed));
    }
    let mut written = 0;
    for (number, answer) in (1..).zip(answers) {
        let flushed = end_of(answer).await.unwrap();
        assert_eq!(flushed.generation, number);
        written += flushed.objects;
    }
    let with_marks = (1..=case.generations.len() as u64).filter(|number| case.marked >> number & 1 == 1).collect();
    let with_data = expected.iter().filter(|(_, events)| !events.is_empty()).map(|(number, _)| *number).collect();
    check_order(&log.lock().unwrap(), &with_data, &with_marks);
    let mut all = objects(&*store.inner).await;
    assert_eq!(all.len(), written);
    check_marks(&mut all, &with_marks);
    check_content(&all, &expected, case.generations.len());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the spool was not freed");
}

/// Marks read back; their objects are taken out.
fn check_marks(all: &mut BTreeMap<String, Bytes>, with_marks: &BTreeSet<u64>) {
    for number in with_marks {
        let path = marks_of(*number);
        let bytes = all.remove(&path).unwrap_or_else(|| panic!("{path} is missing"));
        assert_eq!(decode_marks(&path, &bytes).unwrap(), (STORE, marks(*number)));
    }
}

/// Everything reads back, and there is nothing else (I5: no orphans).
fn check_content(all: &BTreeMap<String, Bytes>, expected: &BTreeMap<u64, Vec<Event>>, generations: usize) {
    let mut seen = Vec::new();
    for number in 1..=generations as u64 {
        let events = expected.get(&number).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(read_back(all, number, &mut seen), content_of(events), "generation {number}");
    }
    seen.sort();
    assert_eq!(seen, all.keys().cloned().collect::<Vec<_>>(), "every object is part of a generation, once");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_published_before_it_is_durable(case in cases()) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(run(&case));
    }
}

#[tokio::test]
async fn a_late_upload_holds_back_all_later_generations() {
    let dir = tempfile::tempdir().unwrap();
    let (log, gate) = (Log::default(), Arc::new(Semaphore::new(0)));
    let held = gate.clone();
    // Held: the data object of generation 1, known by its smallest ts.
    let store = FaultStore::in_memory(&log, move |kind, path, _| match kind {
        Kind::Put if path.contains("/101-") => Fault::Hold(held.clone()),
        _ => Fault::None,
    });
    let (flusher, events) = flusher(store, FaultPublisher::new(&log, vec![]), config());
    let sealed = |g: u64| spool(dir.path(), &format!("g{g}"), 8 << 20, &[event(1, Cf::Default, g * 100 + 1, 50)]);
    let answers: Vec<_> = (1..=3)
        // Generation 2 is empty: it needs no object, and waits all the same.
        .map(|g| flusher.submit(generation(g, if g == 2 { vec![] } else { vec![sealed(g)] })))
        .collect();
    until(|| events.lock().unwrap().iter().any(|e| format!("{e:?}").starts_with("Uploaded { generation: 3"))).await;
    let metadata = |log: &Log| {
        let log = log.lock().unwrap();
        let tried = log.iter().filter(|e| matches!(e, Entry::Tried(p) if p.starts_with(METADATA_PREFIX))).count();
        (tried, log.iter().filter(|e| matches!(e, Entry::Published(_))).count())
    };
    assert_eq!(metadata(&log), (0, 0), "metadata or facts went ahead of generation 1");
    gate.add_permits(1);
    for answer in answers {
        end_of(answer).await.unwrap();
    }
    assert_eq!(metadata(&log), (2, 3));
    check_order(&log.lock().unwrap(), &BTreeSet::from([1, 3]), &BTreeSet::new());
}

#[tokio::test]
async fn marks_without_data_are_the_only_object_and_hold_the_facts_back() {
    let log = Log::default();
    let refused = marks_of(1);
    let store = FaultStore::in_memory(&log, move |kind, path, nth| match (kind, nth) {
        (Kind::Put, 0) if path == refused => Fault::Before,
        (Kind::Put, 1..3) if path == refused => Fault::After,
        _ => Fault::None,
    });
    let (flusher, events) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), config());
    let mut sealed = generation(1, vec![]);
    sealed.marks = marks(1);
    let answers = [flusher.submit(sealed), flusher.submit(generation(2, vec![]))];
    let mut ends = Vec::new();
    for answer in answers {
        ends.push(end_of(answer).await.unwrap());
    }
    let mut all = objects(&*store.inner).await;
    let bytes = all[&marks_of(1)].len() as u64;
    assert_eq!((ends[0].objects, ends[0].bytes, ends[1].objects), (1, bytes, 0));
    check_marks(&mut all, &BTreeSet::from([1]));
    assert!(all.is_empty(), "{all:?}");
    check_order(&log.lock().unwrap(), &BTreeSet::new(), &BTreeSet::from([1]));
    let again = |e: &FlushEvent| matches!(e, FlushEvent::Retrying { generation: 1, what, .. } if *what == marks_of(1));
    assert!(events.lock().unwrap().iter().filter(|e| again(e)).count() >= 2, "refused, and an answer lost");
}

#[tokio::test]
async fn a_crash_before_the_marks_are_durable_publishes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for at in [MARKS_PREFIX, METADATA_PREFIX] {
        let (log, gate) = (Log::default(), Arc::new(Semaphore::new(0)));
        let store = FaultStore::in_memory(&log, move |kind, path, _| match kind {
            Kind::Put if path.starts_with(at) => Fault::Hold(gate.clone()),
            _ => Fault::None,
        });
        let (flusher, _) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), config());
        let mut sealed = generation(1, vec![spool(dir.path(), "s", 8 << 20, &[event(1, Cf::Default, 11, 50)])]);
        sealed.marks = marks(1);
        let answers = [flusher.submit(sealed), flusher.submit(generation(2, vec![]))];
        let tried = |e: &Entry| matches!(e, Entry::Tried(path) if path.starts_with(at));
        until(|| log.lock().unwrap().iter().any(tried)).await;
        drop(flusher);
        for answer in answers {
            assert!(end_of(answer).await.is_err());
        }
        let log = log.lock().unwrap();
        assert!(!log.iter().any(|e| matches!(e, Entry::Published(_))), "{log:?}");
        let durable = |prefix: &str| log.iter().any(|e| matches!(e, Entry::Durable(p, _) if p.starts_with(prefix)));
        assert_eq!((durable(MARKS_PREFIX), durable(METADATA_PREFIX)), (at == METADATA_PREFIX, false));
    }
}
