//! Generations made of real spools, and the reading back of what became of them.

use std::collections::BTreeMap;
use std::path::Path as FsPath;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use logtide_checkpoint::Backoff;
use logtide_flusher::{FlushConfig, FlushError, FlushEvent, Flushed, Flusher, SealedGeneration};
use logtide_format::{
    DataFile, EntryKind, FileKey, HEAD_PREFIX, Keys, METADATA_PREFIX, Mark, MarkKind, MetaLink, MetaName, Records,
    RegionNote, content_crc, decode_metadata, open_file_with,
};
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{
    Cf, Compression, Incarnation, KeyRange, MemoryBudget, Publisher, RegionEpoch, RegionFact, Task, TaskName, Ts,
    append_ts, encode_raw_key,
};
use logtide_temp_file::{SealedSpool, Spool, SpoolConfig, SpoolEncryption, SpoolRoom};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub(crate) const STORE: u64 = 4;
pub(crate) const BOOT: u64 = 9;

/// A record before it is spooled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) region: u64,
    pub(crate) cf: Cf,
    pub(crate) kind: EntryKind,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// Records by logical file, in order.
pub(crate) type Content = BTreeMap<FileKey, Vec<(Vec<u8>, Vec<u8>)>>;

/// Bytes that do not compress; the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A write record of region and table `region` (0: a schema key), or the value for it.
pub(crate) fn event(region: u64, cf: Cf, ts: u64, length: usize) -> Event {
    let mut raw = b"mDB:1".to_vec();
    if region > 0 {
        raw = [&b"t"[..], &(region | 1 << 63).to_be_bytes(), b"_r", &ts.to_be_bytes()].concat();
    }
    let mut key = encode_raw_key(&raw);
    append_ts(&mut key, Ts::new(ts));
    let value = match cf {
        Cf::Write => Write::new(WriteKind::Put, Ts::new(ts - 1), None).to_bytes(),
        _ => noise(ts ^ region, length),
    };
    Event { region: region.max(1), cf, kind: EntryKind::Put, key, value }
}

pub(crate) fn spool(dir: &FsPath, name: &str, memory: usize, events: &[Event]) -> SealedSpool {
    spool_with(dir, name, memory, None, events)
}

/// As [`spool`], encrypted; a spool that is plain where none is given.
pub(crate) fn spool_with(
    dir: &FsPath,
    name: &str,
    memory: usize,
    encryption: Option<SpoolEncryption>,
    events: &[Event],
) -> SealedSpool {
    let config = SpoolConfig {
        room: SpoolRoom::new(dir, MemoryBudget::new(memory), u64::MAX),
        block_size: 64 << 10,
        compression: Compression::Zstd,
        encryption,
    };
    let mut spool = Spool::new(config, name).unwrap();
    for e in events {
        spool.append(e.region, e.cf, e.kind, &e.key, &e.value).unwrap();
    }
    spool.seal().unwrap()
}

pub(crate) fn task() -> Arc<Task> {
    Arc::new(Task {
        name: TaskName::new("pitr").unwrap(),
        incarnation: Incarnation(3),
        storage: "memory://test".to_owned(),
        start_ts: Ts::new(1),
        ranges: vec![KeyRange::ALL],
        compression: Compression::Zstd,
        encryption: None,
    })
}

/// A range delete that a generation is to tell of.
pub(crate) fn marks(number: u64) -> Vec<Mark> {
    let (range, after, before) =
        (KeyRange::from_raw(b"a", b"b"), Ts::new(number * 1000 - 1000), Ts::new(number * 1000));
    vec![Mark { kind: MarkKind::RangeDelete, region_id: 1, version: 2, cf: Cf::Write, range, after, before }]
}

/// A generation of those spools; its fact is `number * 1000`.
pub(crate) fn generation(number: u64, spools: Vec<SealedSpool>) -> SealedGeneration {
    let note = RegionNote { range: KeyRange::ALL, epochs: vec![RegionEpoch { conf_ver: 1, version: 2 }] };
    let checkpoint = Ts::new(number * 1000);
    let fact = RegionFact { region_id: 1, version: 2, range: KeyRange::ALL, checkpoint, index: number, term: 5 };
    SealedGeneration {
        task: task(),
        store_id: STORE,
        boot: BOOT,
        generation: number,
        flush_ts: Ts::new(7000 + number),
        resolved_ts: checkpoint,
        spools,
        regions: BTreeMap::from([(1, (note, Ts::new(77)))]),
        marks: vec![],
        facts: vec![fact],
    }
}

pub(crate) fn config() -> FlushConfig {
    FlushConfig {
        backoff: Backoff { first: Duration::from_micros(200), cap: Duration::from_millis(2) },
        create_if_absent: true,
        ..FlushConfig::default()
    }
}

pub(crate) type Events = Arc<Mutex<Vec<FlushEvent>>>;

pub(crate) fn flusher(
    store: Arc<dyn ObjectStore>,
    publisher: Arc<dyn Publisher>,
    config: FlushConfig,
) -> (Flusher, Events) {
    let events = Events::default();
    let heard = events.clone();
    let hear = move |event| heard.lock().unwrap().push(event);
    (Flusher::new(Handle::current(), store, publisher, config, hear), events)
}

pub(crate) fn content_of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Content {
    let mut content = Content::new();
    for e in events {
        let key = FileKey::of(e.region, e.cf, e.kind, &e.key);
        content.entry(key).or_default().push((e.key.clone(), e.value.clone()));
    }
    content
}

/// All objects by name, but for heads.
pub(crate) async fn objects(store: &dyn ObjectStore) -> BTreeMap<String, bytes::Bytes> {
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    let mut objects = BTreeMap::new();
    for meta in listed.into_iter().filter(|meta| !meta.location.as_ref().starts_with(HEAD_PREFIX)) {
        let bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        objects.insert(meta.location.to_string(), bytes);
    }
    objects
}

/// Reads all of a generation back through `format`, as a restore does it, and checks that its objects are all there.
/// Names of the objects go to `seen`.
pub(crate) fn read_back(all: &BTreeMap<String, bytes::Bytes>, number: u64, seen: &mut Vec<String>) -> Content {
    read_back_with(all, number, seen, &Keys::NONE)
}

/// As [`read_back`], with keys.
pub(crate) fn read_back_with(
    all: &BTreeMap<String, bytes::Bytes>,
    number: u64,
    seen: &mut Vec<String>,
    keys: &Keys,
) -> Content {
    let mut content = Content::new();
    for (path, bytes) in all.iter().filter(|(path, _)| path.starts_with(METADATA_PREFIX)) {
        let name = MetaName::parse(path).unwrap();
        let tag = name.tag.unwrap();
        assert_eq!((name.store_id, tag.boot), (STORE, BOOT));
        if tag.generation != number {
            continue;
        }
        seen.push(path.clone());
        let metadata = decode_metadata(path, bytes).unwrap();
        assert_eq!(name, MetaName::of(&metadata, name.flush_ts, name.tag), "name and content agree");
        assert_eq!(MetaLink::parse(path).unwrap().unwrap().crc, content_crc(bytes));
        for group in &metadata.file_groups {
            let object = all.get(&group.path).unwrap_or_else(|| panic!("{} is missing", group.path));
            assert_eq!(object.len() as u64, group.length);
            seen.push(group.path.clone());
            for (index, info) in group.data_files_info.iter().enumerate() {
                let file = DataFile::parse(&group.path, index, info).unwrap();
                let range = info.range_offset as usize..(info.range_offset + info.range_length) as usize;
                let plain = open_file_with(&group.path, info, &object[range], keys).unwrap();
                let records = Records::new(&plain).map(|r| r.unwrap());
                content.entry(file.key).or_default().extend(records.map(|r| (r.key.to_vec(), r.value.to_vec())));
            }
        }
    }
    content
}

/// True if an object of that name is there.
pub(crate) async fn exists(store: &dyn ObjectStore, path: &str) -> bool {
    store.head(&Path::from(path)).await.is_ok()
}

/// Lets others work until something is so; a minute is more than it can take.
pub(crate) async fn until(mut so: impl FnMut() -> bool) {
    let wait = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
}

/// The end of a generation; it must come.
pub(crate) async fn end_of(answer: oneshot::Receiver<Result<Flushed, FlushError>>) -> Result<Flushed, FlushError> {
    tokio::time::timeout(Duration::from_secs(60), answer).await.unwrap().unwrap()
}
