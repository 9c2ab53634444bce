//! Master keys in a key management service: the one that `.ci/servers/run` started, moto's (Amazon) or our own fake
//! (Google). Built with the feature `test-server` only, and it fails without a service: nothing is skipped in silence.
#![cfg(feature = "test-server")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use logtide_format::{DataKeys, Keys};
use logtide_model::{
    Cipher, Class, Diagnose, Kms, KmsError, KmsKey, KmsVendor, MasterKeyRef, SecretKey, TaskEncryption,
};
use logtide_storage::{OsRandom, open_data_keys, open_keys, open_kms, parse_master_keys};

fn url() -> String {
    let missing = "LOGTIDE_TEST_KMS names no master key; run these tests with `make test-kms` or \
                   `.ci/servers/run moto cargo test -p logtide-storage --all-features --test kms`";
    std::env::var("LOGTIDE_TEST_KMS").ok().filter(|url| !url.is_empty()).unwrap_or_else(|| panic!("{missing}"))
}

fn key() -> KmsKey {
    match parse_master_keys(&url()).unwrap().remove(0) {
        MasterKeyRef::Kms(key) => key,
        MasterKeyRef::File { path } => panic!("{path} is a file"),
    }
}

/// Another key of the same service.
fn other(name: &str) -> KmsKey {
    let mut key = key();
    key.key_id = match key.vendor {
        KmsVendor::Gcp => format!("projects/p/locations/l/keyRings/r/cryptoKeys/{name}"),
        _ => name.to_owned(),
    };
    key
}

fn client(key: &KmsKey) -> Arc<dyn Kms> {
    open_kms(key).unwrap()
}

/// What must stand in no error.
fn assert_silent(error: &KmsError) {
    let shown = format!("{error} {error:?}");
    for secret in key().credentials.values() {
        let secret = std::str::from_utf8(secret.expose()).unwrap();
        let is_path = secret.starts_with('/');
        // moto's keys are words that may stand anywhere; its secret one is not.
        assert!(is_path || secret == "test" || !shown.contains(secret), "{shown}");
    }
}

#[test]
fn a_data_key_comes_back_as_it_was() {
    let kms = client(&key());
    assert_eq!(kms.vendor(), key().vendor);
    let (first, second) = (kms.generate().unwrap(), kms.generate().unwrap());
    assert_eq!((first.plain.len(), second.plain.len()), (32, 32));
    assert!(first.plain != second.plain && first.encrypted != second.encrypted);
    assert!(!first.encrypted.windows(32).any(|part| part == first.plain.expose()), "it is encrypted");
    for made in [&first, &second] {
        assert_eq!(client(&key()).decrypt(&made.encrypted).unwrap(), made.plain, "also by another client");
    }
}

#[test]
fn a_task_writes_and_a_restore_reads_with_it() {
    let encryption = TaskEncryption::MasterKeys { cipher: Cipher::Aes256Ctr, keys: vec![MasterKeyRef::Kms(key())] };
    let keys: DataKeys = open_data_keys(&encryption, &open_kms).unwrap();
    keys.next(&OsRandom).unwrap();
    let keys: Keys = open_keys(&encryption, &open_kms).unwrap();
    assert!(!keys.is_empty());
}

#[tokio::test]
async fn it_may_be_asked_and_dropped_where_nothing_may_block() {
    let kms = client(&key());
    let made = kms.generate().unwrap();
    assert_eq!(kms.decrypt(&made.encrypted).unwrap(), made.plain);
    drop(kms);
}

#[test]
fn a_key_that_is_not_there_is_told_with_its_name_and_a_remedy() {
    let missing = other("missing");
    let error = client(&missing).generate().unwrap_err();
    assert!(!error.retry && error.message.contains(&missing.key_id), "{error}");
    assert!(error.message.contains("check the"), "{error}");
    assert_silent(&error);
    let encryption = TaskEncryption::MasterKeys { cipher: Cipher::Aes256Ctr, keys: vec![MasterKeyRef::Kms(missing)] };
    let error = open_data_keys(&encryption, &open_kms).map(drop).unwrap_err();
    assert!(error.to_string().contains("missing") && error.class() == Class::Fatal, "{error}");
}

#[test]
fn what_another_key_encrypted_or_nobody_did_is_refused() {
    let kms = client(&key());
    let mut made = kms.generate().unwrap().encrypted;
    *made.last_mut().unwrap() ^= 1;
    for bad in [&made[..], b"", b"no key of ours at all, and long enough to be one, whoever made it up"] {
        let error = kms.decrypt(bad).unwrap_err();
        assert!(!error.retry && error.message.contains(&key().key_id), "{error}");
        assert_silent(&error);
    }
}

#[test]
fn a_service_that_is_away_may_come_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&KmsKey { endpoint, ..key() }).generate().unwrap_err();
    assert!(error.retry && error.message.contains("refused"), "{error}");
    assert_silent(&error);
    let encryption = TaskEncryption::MasterKeys {
        cipher: Cipher::Aes256Ctr,
        keys: vec![MasterKeyRef::Kms(KmsKey { endpoint: "http://127.0.0.1:1".to_owned(), ..key() })],
    };
    let error = open_data_keys(&encryption, &open_kms).map(drop).unwrap_err();
    assert_eq!(error.class(), Class::Retry, "{error}");
}

/// A server that answers everything with the same, and tells what it was asked.
fn answering(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; 16 << 10];
        let length = stream.read(&mut request).unwrap();
        write!(stream, "HTTP/1.1 400 No\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}", answer.len())
            .unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (endpoint, serving)
}

#[test]
fn the_request_is_signed_and_names_the_operation_and_a_refusal_repeats_nothing_of_it() {
    let secret = |text: &str| SecretKey::new(text);
    let (endpoint, serving) = answering("<html>S3CRET\nS3CRET</html>");
    let mut key = KmsKey { vendor: KmsVendor::Aws, key_id: "k".to_owned(), region: "r".to_owned(), endpoint, ..key() };
    key.credentials = [("access_key", secret("AK")), ("secret_access_key", secret("S3CRET"))]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
    let error = client(&key).generate().unwrap_err();
    assert!(!error.retry && !format!("{error:?}").contains("S3CRET"), "{error}");
    let request = serving.join().unwrap().to_ascii_lowercase();
    assert!(request.contains("x-amz-target: trentservice.generatedatakey"), "{request}");
    assert!(request.contains("credential=ak/") && request.contains("/r/kms/aws4_request"), "{request}");
    assert!(!request.contains("s3cret"), "{request}");
}

#[test]
fn googles_answers_are_told_apart() {
    if key().vendor != KmsVendor::Gcp {
        // moto has no such keys; the request above is what can be seen of it.
        assert_eq!(key().vendor, KmsVendor::Aws);
        return;
    }
    for (name, retry, says) in
        [("forbidden", false, "cryptoKeyEncrypterDecrypter"), ("disabled", false, "enable"), ("lying", true, "damaged")]
    {
        let error = client(&other(name)).generate().unwrap_err();
        assert!(error.retry == retry && error.message.contains(says), "{error}");
        assert_silent(&error);
    }
    // Two answers that it is busy are waited out.
    let key = other("busy-twice");
    client(&key).generate().unwrap();
    let made = client(&self::key()).generate().unwrap();
    assert!(client(&key).decrypt(&made.encrypted).is_err(), "the key of another name");
}
