//! Nothing that is public shows a credential: not `Debug`, not `Display`, not an error, not a shown URL.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use logtide_model::{Diagnose, KmsVendor, MasterKeyRef};
use logtide_storage::{Storage, StorageError, open, parse_master_keys, redacted, task_url};

const SECRET: &str = "S3CRETs3cretS3CRETs3cretS3CRET12";

fn assert_silent(what: &str, text: &str) {
    let bytes = format!("{:?}", SECRET.as_bytes());
    for form in ["S3CRET", "s3cret", bytes.trim_matches(['[', ']'])] {
        assert!(!text.contains(form), "{what}: {text}");
    }
}

#[test]
fn an_open_storage_shows_no_credential() {
    let of_login = r#"{"type":"authorized_user","client_id":"c","client_secret":"{}","refresh_token":"{}"}"#;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), of_login.replace("{}", SECRET)).unwrap();
    let urls = [
        "s3://b/p?endpoint=http://h&access-key={}&secret-access-key={}&session-token={}".to_owned(),
        "azure://c/p?account-name=n&account-key=UzNDUkVU{}".to_owned(),
        "azure://c/p?account-name=n&sas-token=sig%3D{}&encryption-key={}".to_owned(),
        format!("gcs://b/p?credentials-file={}", file.path().display()),
        r#"gcs://b/p?credentials-blob={"private_key":"","private_key_id":"{}","client_email":"{}","disable_oauth":true}"#
            .to_owned(),
    ];
    for url in urls.map(|url| url.replace("{}", SECRET)) {
        let storage: Storage = open(&url).unwrap();
        assert_silent("storage", &format!("{storage:?} {storage:#?} {}", storage.url));
        assert_silent("store", &format!("{} {:?} {:#?}", storage.store, storage.store, storage.store));
        assert_silent("redacted", &redacted(&url));
        assert_eq!(redacted(&task_url(&url).unwrap()), storage.url);
    }
}

#[test]
fn errors_show_no_credential() {
    let told = |error: &StorageError| format!("{error} {error:?} {error:#?} {}", error.remedy());
    for url in [
        "s3://b/p?access-key={}",
        "s3://b/p?secret-access-key={}&access-key=k&acl=x",
        "s3://b/p?secret-acess-key={}",
        "s3://b/p?session-token=a&{}",
        "s3://key:{}@b/p",
        "s3://b?access-key={}#{}",
        "gcs://b/p?no-such=x&credentials-blob={}",
        "azure://c/p?account-name=n&account-key={}-no-base64",
        "azure://c/p?account-key={}&encryption-scope=x",
        "oss://b/p?access-key={}",
        "local:///p?key={}",
    ] {
        let url = url.replace("{}", SECRET);
        assert_silent(&url.replace(SECRET, "…"), &told(&open(&url).unwrap_err()));
        assert_silent("redacted", &redacted(&url));
    }
}

#[test]
fn master_keys_show_no_credential() {
    let text = "aws-kms:///k?AWS_ACCESS_KEY_ID={}&AWS_SECRET_ACCESS_KEY={},gcp-kms:///projects/p?CREDENTIALS={}";
    let keys = parse_master_keys(&text.replace("{}", SECRET)).unwrap();
    assert!(matches!(&keys[0], MasterKeyRef::Kms(key) if key.vendor == KmsVendor::Aws));
    assert_silent("keys", &format!("{keys:?} {keys:#?}"));
    for bad in ["aws-kms:///k?TOKEN={}", "aws-kms:///?AWS_ACCESS_KEY_ID={}", "{}", "vault:///{}"] {
        let error = parse_master_keys(&bad.replace("{}", SECRET)).unwrap_err();
        assert_silent(bad, &format!("{error} {error:?} {}", error.remedy()));
    }
}
