//! The `Debug` form of nothing that holds a secret shows it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Debug;

use logtide_format::proto::{self, master_key, storage_backend, stream_backup_task_security_config as security};
use logtide_format::{DataKeys, Keys, MasterKey};
use logtide_model::{Cipher, Random, RandomError, SecretKey};
use prost::Message;

const SECRET: &str = "hunter2hunter2hunter2hunter2hunt";

#[derive(Debug)]
struct NoRandom;

impl Random for NoRandom {
    fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
        Ok(())
    }
}

/// As text, as a list of numbers, in hexadecimal digits, in a row or with a line for each.
fn assert_hidden(value: &dyn Debug) {
    for text in [format!("{value:?}"), format!("{value:#?}")] {
        let numbers: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        assert!(!text.contains("hunt") && !text.contains("68756e74"), "{text}");
        assert!(!numbers.contains("104,117,110") && !numbers.contains("0x68,0x75"), "{text}");
    }
}

fn task(storage: storage_backend::Backend, encryption: security::Encryption) -> proto::StreamBackupTaskInfo {
    proto::StreamBackupTaskInfo {
        storage: Some(proto::StorageBackend { backend: Some(storage) }),
        security_config: Some(proto::StreamBackupTaskSecurityConfig { encryption: Some(encryption) }),
        ..proto::StreamBackupTaskInfo::default()
    }
}

fn secret() -> String {
    SECRET.to_owned()
}

fn master_keys() -> security::Encryption {
    let kms = proto::MasterKeyKms {
        azure_kms: Some(proto::AzureKms {
            client_secret: secret(),
            client_certificate: secret(),
            client_certificate_password: secret(),
            ..proto::AzureKms::default()
        }),
        gcp_kms: Some(proto::GcpKms { credential: secret() }),
        aws_kms: Some(proto::AwsKms { access_key: secret(), secret_access_key: secret() }),
        ..proto::MasterKeyKms::default()
    };
    let key = proto::MasterKey { backend: Some(master_key::Backend::Kms(Box::new(kms))) };
    security::Encryption::MasterKeyConfig(proto::MasterKeyConfig { encryption_type: 4, master_keys: vec![key] })
}

#[test]
fn messages_show_no_secret() {
    let cipher = || {
        let cipher_key = SECRET.as_bytes().to_vec();
        security::Encryption::PlaintextDataKey(proto::CipherInfo { cipher_type: 4, cipher_key })
    };
    let azure = proto::AzureBlobStorage {
        shared_key: secret(),
        access_sig: secret(),
        encryption_key: Some(proto::AzureCustomerKey { encryption_key: secret(), encryption_key_sha256: secret() }),
        ..proto::AzureBlobStorage::default()
    };
    let s3 = proto::S3 {
        bucket: "bucket".to_owned(),
        access_key: secret(),
        secret_access_key: secret(),
        session_token: secret(),
        external_id: secret(),
        ..proto::S3::default()
    };
    let dynamic =
        proto::CloudDynamic { attrs: BTreeMap::from([("url".to_owned(), secret())]), ..proto::CloudDynamic::default() };
    use storage_backend::Backend;
    let tasks = [
        task(Backend::S3(s3), cipher()),
        task(Backend::Gcs(proto::Gcs { credentials_blob: secret(), ..proto::Gcs::default() }), cipher()),
        task(Backend::AzureBlobStorage(azure), master_keys()),
        task(Backend::CloudDynamic(dynamic), master_keys()),
    ];
    for task in &tasks {
        let found = String::from_utf8_lossy(&task.encode_to_vec()).matches(SECRET).count();
        assert!(found >= 2, "the messages do hold secrets");
        assert_hidden(task);
    }
    assert!(format!("{:?}", tasks[0]).contains("bucket: \"bucket\""), "what is no secret is shown");
}

#[test]
fn keys_show_no_secret() {
    let secret = || SecretKey::new(SECRET);
    let master = || MasterKey::new(secret()).unwrap();
    assert_hidden(&Keys::NONE.with_data_key(secret()).with_master_key(master()));
    let fixed = DataKeys::fixed(Cipher::Aes256Ctr, secret()).unwrap();
    let encryption = fixed.next(&NoRandom).unwrap().encrypt([1; 16], &mut [2; 3]).unwrap();
    assert_hidden(&encryption);
    assert_hidden(&fixed);
    assert_hidden(&DataKeys::wrapped(Cipher::Aes128Ctr, vec![master()]).unwrap());
    let short = DataKeys::fixed(Cipher::Aes128Ctr, secret()).unwrap_err();
    assert_hidden(&short);
    assert!(short.to_string().contains("32"), "{short}");
}
