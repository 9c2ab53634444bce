//! The objects of an encrypted task: no plaintext in them, the same at every try, and read back with the key alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use logtide_flusher::SealedGeneration;
use logtide_format::{DataKeys, FormatError, Keys, MasterKey, MetaName, decode_metadata, open_file, open_file_with};
use logtide_model::{Cf, Cipher, Random, RandomError, SecretKey};
use logtide_temp_file::{SealedSpool, SpoolEncryption};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::fault_store::{Fault, FaultPublisher, FaultStore, Kind, Log};
use crate::fixture::{
    Event, config, content_of, end_of, event, flusher, generation, marks, noise, objects, read_back_with, spool_with,
};
use crate::merging::Alone;

/// In every value and key, so that it can be looked for.
const PLAIN: &[u8] = b"PLAINTEXT-OF-A-VALUE";

/// For a test only: the same in every run.
#[derive(Debug, Default)]
struct Counter(AtomicU8);

impl Random for Counter {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
        Ok(())
    }
}

fn key() -> SecretKey {
    SecretKey::new([0x55; 24])
}

fn master() -> MasterKey {
    MasterKey::new(SecretKey::new([0x66; 32])).unwrap()
}

fn events() -> Vec<Event> {
    let plain = |n: u64| {
        let value = [PLAIN, &noise(n, 9_000), PLAIN].concat();
        Event { value, ..event(n % 5, Cf::Default, 11 + n, 0) }
    };
    (0..60).map(plain).collect()
}

/// A spool whose blocks are all on the disk, or all in memory.
fn spool(dir: &std::path::Path, keys: DataKeys, on_disk: bool) -> SealedSpool {
    let encryption = SpoolEncryption { keys: Arc::new(keys), random: Arc::<Counter>::default() };
    let memory = if on_disk { 256 << 10 } else { 64 << 20 };
    let sealed = spool_with(dir, "s", memory, Some(encryption), &events());
    assert!(sealed.files.iter().all(|file| file.is_on_disk() == on_disk));
    sealed
}

async fn flush(store: Arc<dyn ObjectStore>, log: &Log, sealed: SealedSpool) {
    let mut config = config();
    config.file_size_limit = 100 << 10;
    config.request_timeout = Duration::from_millis(200);
    let (flusher, _) = flusher(store, FaultPublisher::new(log, vec![]), config);
    end_of(flusher.submit(generation(1, vec![sealed]))).await.unwrap();
}

#[tokio::test]
async fn objects_are_ciphertext_and_read_back_with_the_key() {
    type Case = (fn() -> DataKeys, fn() -> Keys);
    let cases: [Case; 2] = [
        (|| DataKeys::fixed(Cipher::Aes192Ctr, key()).unwrap(), || Keys::NONE.with_data_key(key())),
        (|| DataKeys::wrapped(Cipher::Aes256Ctr, vec![master()]).unwrap(), || Keys::NONE.with_master_key(master())),
    ];
    for ((writer, reader), on_disk) in cases.into_iter().zip([true, false]) {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(InMemory::new());
        flush(store.clone(), &Log::default(), spool(dir.path(), writer(), on_disk)).await;
        let all = objects(&*store).await;
        assert!(all.len() > 2);
        for (path, bytes) in all.iter().filter(|(path, _)| path.ends_with(".log")) {
            assert!(!bytes.windows(PLAIN.len()).any(|window| window == PLAIN), "{path} is plain");
        }
        for (path, bytes) in &all {
            let secrets = [[0x55; 24].as_slice(), &[0x66; 32]];
            assert!(
                !secrets.iter().any(|s| bytes.windows(s.len()).any(|window| window == *s)),
                "{path} has a key in it"
            );
        }
        assert_eq!(read_back_with(&all, 1, &mut Vec::new(), &reader()), content_of(&events()));

        let (path, bytes) = all.iter().find(|(path, _)| path.ends_with(".meta")).unwrap();
        let group = &decode_metadata(path, bytes).unwrap().file_groups[0];
        let info = &group.data_files_info[0];
        let stored = &all[&group.path][..info.range_length as usize];
        let error = open_file(&group.path, info, stored).unwrap_err();
        assert!(matches!(error, FormatError::Encrypted { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_repeated_upload_sends_the_same_ciphertext() {
    let keys = || DataKeys::wrapped(Cipher::Aes256Ctr, vec![master()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let plain = Arc::new(InMemory::new());
    flush(plain.clone(), &Log::default(), spool(dir.path(), keys(), true)).await;
    let log = Log::default();
    let inner = Arc::new(InMemory::new());
    // First nothing arrives, then the answer is lost: every object is sent again, and found to be there.
    let faults = |kind, _: &str, nth| match (kind, nth) {
        (Kind::Put, 0) => Fault::Before,
        (Kind::Put, 1) => Fault::After,
        _ => Fault::None,
    };
    let faulty = FaultStore::new(inner.clone(), &log, Box::new(faults));
    flush(faulty.clone(), &log, spool(dir.path(), keys(), true)).await;
    assert_eq!(objects(&*inner).await, objects(&*plain).await, "I5");
    assert!(faulty.count(Kind::Put) > objects(&*plain).await.len(), "something was sent again");
}

#[tokio::test]
async fn merged_metadata_has_the_keys_of_all_and_leaves_marks_alone() {
    let (dir, store, log) = (tempfile::tempdir().unwrap(), Arc::new(InMemory::new()), Log::default());
    let (flusher, _) = flusher(store.clone(), FaultPublisher::new(&log, vec![]), config());
    let merging = flusher.merging();
    for number in 1..=4 {
        // A data key for each generation.
        let keys = DataKeys::wrapped(Cipher::Aes256Ctr, vec![master()]).unwrap();
        let random = Arc::new(Counter(AtomicU8::new(number as u8 * 50)));
        let encryption = SpoolEncryption { keys: Arc::new(keys), random };
        let events = [event(number % 2, Cf::Default, number * 100, 500), event(2, Cf::Write, number * 100 + 1, 0)];
        let sealed = spool_with(dir.path(), &format!("g{number}"), 1 << 20, Some(encryption), &events);
        let marks = if number == 2 { marks(2) } else { vec![] };
        end_of(flusher.submit(SealedGeneration { marks, ..generation(number, vec![sealed]) })).await.unwrap();
    }
    let before = objects(&*store).await;
    assert!(merging.is_due(3));
    merging.run(&Alone::default()).await.unwrap().unwrap();
    let after = objects(&*store).await;
    let metas = |all: &BTreeMap<String, bytes::Bytes>| all.keys().filter(|path| path.ends_with(".meta")).count();
    assert_eq!((metas(&before), metas(&after), after.len()), (4, 2, before.len() - 2));
    let others = |all: &BTreeMap<String, bytes::Bytes>| {
        let mut others = all.clone();
        others.retain(|path, _| !path.ends_with(".meta"));
        others
    };
    assert_eq!(others(&after), others(&before), "data and marks are as they were");
    let (path, bytes) = after.iter().find(|(path, _)| path.ends_with("n0000000000000003.meta")).unwrap();
    assert_eq!(MetaName::parse(path).unwrap().flags, 0, "there is schema in it");
    let keys = Keys::NONE.with_master_key(master());
    let mut read = 0;
    for group in decode_metadata(path, bytes).unwrap().file_groups {
        for info in &group.data_files_info {
            let range = info.range_offset as usize..(info.range_offset + info.range_length) as usize;
            assert!(open_file(&group.path, info, &after[&group.path][range.clone()]).is_err(), "it is encrypted");
            open_file_with(&group.path, info, &after[&group.path][range], &keys).unwrap();
            read += info.number_of_entries;
        }
    }
    assert_eq!(read, 6);
}
