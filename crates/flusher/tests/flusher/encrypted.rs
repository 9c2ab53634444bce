//! The objects of an encrypted task: no plaintext in them, the same at every try, and read back with the key alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use logtide_format::{DataKeys, FormatError, Keys, MasterKey, decode_metadata, open_file};
use logtide_model::{Cf, Cipher, Random, RandomError, SecretKey};
use logtide_temp_file::{SealedSpool, SpoolEncryption};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::fault_store::{Fault, FaultPublisher, FaultStore, Kind, Log};
use crate::fixture::{
    Event, config, content_of, end_of, event, flusher, generation, noise, objects, read_back_with, spool_with,
};

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
