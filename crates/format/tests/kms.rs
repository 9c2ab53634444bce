//! Master keys that a key management service keeps, with a service in this process.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use logtide_format::{
    DataKeys, EntryKind, FileKey, FormatError, KeyFault, Keys, LogicalFile, MasterKey, data_file_info, encode_record,
    open_file_with, proto, summarize,
};
use logtide_model::{
    Cf, Cipher, Class, Compression, Diagnose, Kms, KmsDataKey, KmsError, KmsVendor, Random, RandomError, SecretKey, Ts,
    append_ts, encode_raw_key,
};

/// Keys by their "encrypted" form, which only this service can tell.
#[derive(Debug)]
struct TestKms {
    vendor: KmsVendor,
    made: Mutex<BTreeMap<Vec<u8>, u8>>,
    asked: AtomicUsize,
    away: AtomicBool,
}

impl TestKms {
    fn new(vendor: KmsVendor) -> Arc<Self> {
        Arc::new(TestKms { vendor, made: Mutex::default(), asked: AtomicUsize::new(0), away: AtomicBool::new(false) })
    }

    fn ask(&self) -> Result<(), KmsError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let retry = self.away.load(Ordering::Relaxed);
        if retry { Err(KmsError { message: "no answer".to_owned(), retry }) } else { Ok(()) }
    }
}

impl Kms for TestKms {
    fn vendor(&self) -> KmsVendor {
        self.vendor
    }

    fn generate(&self) -> Result<KmsDataKey, KmsError> {
        self.ask()?;
        let mut made = self.made.lock().unwrap();
        let number = made.len() as u8 + 1;
        let encrypted = format!("{} key {number}", self.vendor).into_bytes();
        made.insert(encrypted.clone(), number);
        Ok(KmsDataKey { encrypted, plain: SecretKey::new([number; 32]) })
    }

    fn decrypt(&self, encrypted: &[u8]) -> Result<SecretKey, KmsError> {
        self.ask()?;
        let number = self.made.lock().unwrap().get(encrypted).copied();
        let error = KmsError { message: "access denied".to_owned(), retry: false };
        number.map(|n| SecretKey::new([n; 32])).ok_or(error)
    }
}

/// A counter: for a test only.
#[derive(Debug, Default)]
struct Counter(AtomicUsize);

impl Random for Counter {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        bytes.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed) as u8);
        Ok(())
    }
}

const OBJECT: &str = "v1/20251009/08/1/1-x.log";

/// An encrypted logical file.
fn file(keys: &DataKeys, random: &Counter) -> (proto::DataFileInfo, Vec<u8>, Vec<u8>) {
    let mut key = encode_raw_key(b"k");
    append_ts(&mut key, Ts::new(7));
    let mut plain = Vec::new();
    encode_record(&key, b"value", &mut plain);
    let key = FileKey::of(1, Cf::Default, EntryKind::Put, &key);
    let mut stored = plain.clone();
    let mut iv = [0; 16];
    random.fill(&mut iv).unwrap();
    let encryption = keys.next(random).unwrap().encrypt(iv, &mut stored).unwrap();
    let file = LogicalFile {
        summary: summarize(&key, &plain).unwrap(),
        key,
        resolved_ts: Ts::ZERO,
        stored_length: stored.len() as u64,
        compression: Compression::None,
        encryption: Some(encryption),
        region: None,
    };
    (data_file_info(&file, 0), stored, plain)
}

fn content_of(info: &proto::DataFileInfo) -> &proto::EncryptedContent {
    match info.file_encryption_info.as_ref().unwrap().mode.as_ref().unwrap() {
        proto::file_encryption_info::Mode::MasterKeyBased(based) => &based.data_key_encrypted_content[0],
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_service_is_asked_once_to_write_and_once_to_read() {
    for (vendor, note) in [(KmsVendor::Aws, "AWS"), (KmsVendor::Gcp, "gcp"), (KmsVendor::Azure, "azure")] {
        let kms = TestKms::new(vendor);
        let keys = DataKeys::wrapped(Cipher::Aes192Ctr, vec![MasterKey::kms(kms.clone())]).unwrap();
        let random = Counter::default();
        let files = [file(&keys, &random), file(&keys, &random)];
        assert_eq!(kms.asked.load(Ordering::Relaxed), 1, "at the start, and not for a file");
        let contents = files.each_ref().map(|(info, ..)| content_of(info));
        assert_ne!(contents[0].content, contents[1].content, "every data key is another");
        assert_eq!(contents[0].content.len(), 24);
        assert_eq!(contents[0].metadata["kms_vendor"], note.as_bytes());
        assert_eq!(contents[0].metadata["kms_ciphertext_key"], format!("{vendor} key 1").into_bytes());

        let reader = Keys::NONE.with_master_key(MasterKey::kms(kms.clone()));
        for (info, stored, plain) in &files {
            assert_ne!(stored, plain);
            assert_eq!(&open_file_with(OBJECT, info, stored, &reader).unwrap(), plain);
        }
        assert_eq!(kms.asked.load(Ordering::Relaxed), 2);
    }
}

#[test]
fn a_service_that_is_away_or_another_one_is_told() {
    let kms = TestKms::new(KmsVendor::Aws);
    let keys = DataKeys::wrapped(Cipher::Aes256Ctr, vec![MasterKey::kms(kms.clone())]).unwrap();
    let (info, stored, plain) = file(&keys, &Counter::default());
    let read = |kms: &Arc<TestKms>| {
        let keys = Keys::NONE.with_master_key(MasterKey::kms(kms.clone()));
        open_file_with(OBJECT, &info, &stored, &keys)
    };
    kms.away.store(true, Ordering::Relaxed);
    let away = read(&kms).unwrap_err();
    assert_eq!(away.class(), Class::Retry, "{away}");
    assert!(away.to_string().contains("aws key management service: no answer"), "{away}");
    kms.away.store(false, Ordering::Relaxed);
    assert_eq!(read(&kms).unwrap(), plain);

    let denied = read(&TestKms::new(KmsVendor::Aws)).unwrap_err();
    assert_eq!(denied.class(), Class::Fatal, "{denied}");
    assert!(denied.to_string().contains("access denied"), "{denied}");
    for keys in [
        Keys::NONE.with_master_key(MasterKey::kms(TestKms::new(KmsVendor::Gcp))),
        Keys::NONE.with_master_key(MasterKey::new(SecretKey::new([1; 32])).unwrap()),
    ] {
        let error = open_file_with(OBJECT, &info, &stored, &keys).unwrap_err();
        assert!(
            matches!(error, FormatError::Key { fault: KeyFault::NoKms(KmsVendor::Aws), .. }),
            "it takes AWS: {error}"
        );
    }
}

#[test]
fn the_first_master_key_that_works_encrypts() {
    let away = TestKms::new(KmsVendor::Gcp);
    away.away.store(true, Ordering::Relaxed);
    let spare = || MasterKey::new(SecretKey::new([8; 32])).unwrap();
    let keys = DataKeys::wrapped(Cipher::Aes128Ctr, vec![MasterKey::kms(away.clone()), spare()]).unwrap();
    let (info, stored, plain) = file(&keys, &Counter::default());
    let reader = Keys::NONE.with_master_key(MasterKey::kms(away.clone())).with_master_key(spare());
    assert_eq!(open_file_with(OBJECT, &info, &stored, &reader).unwrap(), plain);

    let none = DataKeys::wrapped(Cipher::Aes128Ctr, vec![MasterKey::kms(away)]).unwrap_err();
    assert!(matches!(none, KeyFault::Kms { retry: true, .. }), "{none}");
    assert_eq!(DataKeys::wrapped(Cipher::Aes128Ctr, Vec::new()).unwrap_err(), KeyFault::NoMasterKey);
}
