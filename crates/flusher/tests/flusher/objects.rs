//! Objects: few, of planned names and bytes (I5), and equal to what went in.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use logtide_flusher::{FlushEvent, Flushed};
use logtide_format::{DataFile, HEAD_PREFIX, METADATA_PREFIX, RegionNote, decode_head, decode_metadata};
use logtide_model::{Cf, KeyRange, RegionEpoch, Ts};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use proptest::prelude::*;

use crate::fault_store::{Entry, Fault, FaultPublisher, FaultStore, Kind, Log};
use crate::fixture::{Event, config, content_of, end_of, event, flusher, generation, objects, read_back, spool};

async fn flush(store: Arc<dyn ObjectStore>, log: &Log, limit: u64, part_size: usize, events: &[Event]) -> Flushed {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.file_size_limit = limit;
    config.part_size = part_size;
    config.request_timeout = Duration::from_millis(200);
    let (flusher, _) = flusher(store, FaultPublisher::new(log, vec![]), config);
    let sealed = spool(dir.path(), "s", 64 << 20, events);
    end_of(flusher.submit(generation(1, vec![sealed]))).await.unwrap()
}

fn many_regions(regions: u64, schema: bool) -> Vec<Event> {
    let first = if schema { 0 } else { 1 };
    let records =
        (first..=regions).flat_map(|r| [event(r, Cf::Default, r * 2 + 11, 100), event(r, Cf::Write, r * 2 + 12, 0)]);
    records.collect()
}

#[tokio::test]
async fn objects_do_not_depend_on_the_number_of_regions() {
    for (regions, schema, expected) in [(1, false, 2), (700, false, 2), (700, true, 3)] {
        let store = Arc::new(InMemory::new());
        let events = many_regions(regions, schema);
        let flushed = flush(store.clone(), &Log::default(), 256 << 20, 8 << 20, &events).await;
        let all = objects(&*store).await;
        assert_eq!((flushed.objects, all.len()), (expected, expected));
        let heads = store.list(Some(&HEAD_PREFIX.into())).try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(heads.len(), 1, "one for the boot, however many flushes there are");
        assert_eq!(flushed.bytes, all.values().map(|b| b.len() as u64).sum::<u64>());
        let mut seen = Vec::new();
        assert_eq!(read_back(&all, 1, &mut seen), content_of(&events));
        assert_eq!(seen.len(), expected);
        assert_eq!(seen.iter().filter(|path| path.contains("/schema-meta/")).count(), usize::from(schema));
    }
}

#[tokio::test]
async fn no_object_is_larger_than_the_limit_by_a_block() {
    let events: Vec<_> = (0..200).map(|i| event(1 + i % 3, Cf::Default, 11 + i, 20_000)).collect();
    let store = Arc::new(InMemory::new());
    let limit = 500 << 10;
    flush(store.clone(), &Log::default(), limit, 8 << 20, &events).await;
    let all = objects(&*store).await;
    let (metadata_path, bytes) = all.iter().find(|(path, _)| path.starts_with(METADATA_PREFIX)).unwrap();
    let groups = decode_metadata(metadata_path, bytes).unwrap().file_groups;
    assert!(groups.len() > 3);
    let block = groups.iter().flat_map(|g| &g.data_files_info).map(|f| f.range_length).max().unwrap();
    for (i, group) in groups.iter().enumerate() {
        assert!(group.length < limit + block, "{} bytes", group.length);
        assert!(group.length >= limit || i + 1 == groups.len(), "object {i} was closed at {} bytes", group.length);
    }
    assert_eq!(read_back(&all, 1, &mut Vec::new()), content_of(&events));
}

/// Runs the same flush without and with faults, on memory and on a directory; the objects have to be the same.
async fn is_repeated_the_same(part_size: usize, faults: fn(Kind, usize) -> Fault, touched: Kind) {
    let events: Vec<_> = (0..40).map(|i| event(i % 4, Cf::Default, 11 + i, 9_000)).collect();
    let plain = Arc::new(InMemory::new());
    flush(plain.clone(), &Log::default(), 200 << 10, part_size, &events).await;
    let expected = objects(&*plain).await;
    assert!(expected.len() > 3);
    let dir = tempfile::tempdir().unwrap();
    let local = Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap().with_fsync(true));
    let inners: [Arc<dyn ObjectStore>; 2] = [Arc::new(InMemory::new()), local];
    for inner in inners {
        let log = Log::default();
        let store = FaultStore::new(inner, &log, Box::new(move |kind, _, nth| faults(kind, nth)));
        flush(store.clone(), &log, 200 << 10, part_size, &events).await;
        assert_eq!(objects(&*store.inner).await, expected, "same names, same bytes, no orphans");
        assert!(store.count(touched) > expected.len() / 2, "the fault was not met");
        for entry in log.lock().unwrap().iter() {
            if let Entry::Durable(path, bytes) = entry {
                match path.starts_with(HEAD_PREFIX) {
                    true => assert!(expected.contains_key(&decode_head(path, bytes).unwrap().0)),
                    false => assert_eq!(&expected[path], bytes),
                }
            }
        }
    }
}

#[tokio::test]
async fn refused_puts_are_repeated() {
    is_repeated_the_same(
        8 << 20,
        |kind, nth| if kind == Kind::Put && nth < 2 { Fault::Before } else { Fault::None },
        Kind::Put,
    )
    .await;
}

#[tokio::test]
async fn an_object_that_is_refused_a_hundred_times_is_put_the_next_time() {
    is_repeated_the_same(
        8 << 20,
        |kind, nth| if kind == Kind::Put && nth < 100 { Fault::Before } else { Fault::None },
        Kind::Put,
    )
    .await;
}

#[tokio::test]
async fn the_metadata_names_the_shape_of_regions_that_stated_something() {
    let store = Arc::new(InMemory::new());
    let dir = tempfile::tempdir().unwrap();
    let (flusher, _) = flusher(store.clone(), FaultPublisher::new(&Log::default(), vec![]), config());
    let mut sealed = generation(1, vec![spool(dir.path(), "s", 8 << 20, &many_regions(2, false))]);
    let (range, first, second) = (
        KeyRange::from_raw(b"a", b"c"),
        RegionEpoch { conf_ver: 1, version: 2 },
        RegionEpoch { conf_ver: 3, version: 4 },
    );
    let note = RegionNote { range: range.clone(), epochs: vec![first, second] };
    sealed.regions = [(1, (note, Ts::new(600)))].into();
    end_of(flusher.submit(sealed)).await.unwrap();
    let all = objects(&*store).await;
    let (path, bytes) = all.iter().find(|(path, _)| path.starts_with(METADATA_PREFIX)).unwrap();
    let (mut with, mut without) = (0, 0);
    for group in decode_metadata(path, bytes).unwrap().file_groups {
        for (index, info) in group.data_files_info.iter().enumerate() {
            let region = DataFile::parse(&group.path, index, info).unwrap().key.region_id;
            let shape = (&info.region_start_key[..], &info.region_end_key[..]);
            let epochs: Vec<_> = info.region_epoch.iter().map(|e| (e.conf_ver, e.version)).collect();
            if region == 1 {
                with += 1;
                assert_eq!((shape, info.resolved_ts), ((&range.start[..], &range.end[..]), 600));
                assert_eq!(epochs, [(1, 2), (3, 4)]);
            } else {
                without += 1;
                assert_eq!((shape, info.resolved_ts, epochs), ((&[][..], &[][..]), 0, vec![]), "region {region}");
            }
        }
    }
    assert_eq!((with, without), (2, 2), "a file of each column family");
}

#[tokio::test]
async fn puts_with_lost_answers_are_repeated_and_compared() {
    is_repeated_the_same(
        8 << 20,
        |kind, nth| if kind == Kind::Put && nth < 2 { Fault::After } else { Fault::None },
        Kind::Get,
    )
    .await;
}

#[tokio::test]
async fn puts_that_never_answer_are_given_up_and_repeated() {
    is_repeated_the_same(
        8 << 20,
        |kind, nth| if kind == Kind::Put && nth == 0 { Fault::Hang } else { Fault::None },
        Kind::Get,
    )
    .await;
}

#[tokio::test]
async fn uploads_in_parts_survive_faults_of_every_step() {
    let faults = |kind, nth| match (kind, nth) {
        (Kind::Begin, 0) | (Kind::Part, 1) | (Kind::Part, 4) => Fault::Before,
        (Kind::Part, 8) | (Kind::Complete, 0) => Fault::After,
        (Kind::Complete, 1) => Fault::Before,
        _ => Fault::None,
    };
    is_repeated_the_same(40_000, faults, Kind::Complete).await;
}

#[tokio::test]
async fn a_storage_without_create_if_absent_gets_plain_puts() {
    let events = many_regions(3, false);
    let log = Log::default();
    let store = FaultStore::in_memory(&log, |kind, _, nth| match (kind, nth) {
        (Kind::Put, 0) => Fault::Unsupported,
        _ => Fault::None,
    });
    flush(store.clone(), &log, 1 << 20, 8 << 20, &events).await;
    assert_eq!(read_back(&objects(&*store.inner).await, 1, &mut Vec::new()), content_of(&events));
    assert_eq!(store.count(Kind::Put), 6, "two of each: a data object, the metadata object, the head");
}

#[tokio::test]
async fn an_idle_store_writes_no_object_and_publishes_its_facts() {
    let log = Log::default();
    let store = FaultStore::in_memory(&log, |_, _, _| Fault::None);
    let (flusher, events) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), config());
    let flushed = end_of(flusher.submit(generation(1, vec![]))).await.unwrap();
    assert_eq!((flushed.objects, flushed.bytes), (0, 0));
    assert!(objects(&*store.inner).await.is_empty());
    let log = log.lock().unwrap();
    assert!(matches!(&log[..], [Entry::Published(p)] if p.generation == 1 && p.facts.len() == 1), "{log:?}");
    let events = events.lock().unwrap();
    assert!(matches!(events.last(), Some(FlushEvent::Published(f)) if *f == flushed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Few objects, bounded files: a block has 64 KiB, and the record that filled it.
    #[test]
    fn a_flush_has_one_metadata_object_and_as_few_data_objects_as_the_limit_allows(
        records in prop::collection::vec((0u64..6, prop::bool::ANY, 0usize..30_000), 1..120), limit in 1u64..400_000,
    ) {
        let of = |(ts, (region, is_value, length)): (u64, (u64, bool, usize))| {
            event(region, if is_value { Cf::Default } else { Cf::Write }, ts, length)
        };
        let events: Vec<_> = (10..).zip(records).map(of).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let all = runtime.block_on(async {
            let log = Log::default();
            let store = FaultStore::in_memory(&log, |_, _, _| Fault::None);
            flush(store.clone(), &log, limit, 8 << 20, &events).await;
            objects(&*store).await
        });
        let (metadata, data): (Vec<_>, Vec<_>) = all.iter().partition(|(path, _)| path.starts_with(METADATA_PREFIX));
        let bytes: u64 = data.iter().map(|(_, content)| content.len() as u64).sum();
        prop_assert_eq!(metadata.len(), 1);
        prop_assert!(data.len() as u64 <= bytes.div_ceil(limit) + 1, "{} objects of {} bytes", data.len(), bytes);
        let most = limit + (64 << 10) + 31_000;
        prop_assert!(data.iter().all(|(_, content)| (content.len() as u64) < most));
    }
}
