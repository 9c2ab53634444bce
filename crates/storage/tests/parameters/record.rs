//! The way of a URL through the record of a task: TiDB's message in a coordinator, and back.

use std::sync::Arc;

use logtide_coordinator::{MemoryStore, RawRange, Store, TaskSpec, Tasks};
use logtide_format::proto::storage_backend::Backend;
use logtide_format::proto::{AzureBlobStorage, AzureCustomerKey, Gcs, S3, StreamBackupTaskInfo};
use logtide_model::{Compression, TaskName, Ts};
use prost::Message;

/// The storage of a task as it stands in the coordinator, and as every store reads it there.
pub(crate) fn through_a_task(url: &str) -> (Backend, String) {
    let store = Arc::new(MemoryStore::new());
    let tasks = Tasks::new(store.clone());
    let name = TaskName::new("t").unwrap();
    let spec = TaskSpec {
        name: name.clone(),
        storage: url.to_owned(),
        start_ts: Ts::new(1),
        ranges: vec![RawRange::new("a", "b")],
        compression: Compression::Zstd,
        encryption: None,
    };
    let made = tasks.create(&spec).unwrap();
    let value = store.get(b"/tidb/br-stream/info/t").unwrap().unwrap().value;
    let info = StreamBackupTaskInfo::decode(&value[..]).unwrap();
    let read = tasks.get(&name).unwrap().unwrap().storage;
    assert_eq!(made.storage, read, "who makes a task has it as who reads it");
    (info.storage.unwrap().backend.unwrap(), read)
}

/// The fields of a message but for place and prefix, as text. One that is added to the message is missed here by the
/// compiler.
pub(crate) fn fields(backend: &Backend) -> Vec<(&'static str, String)> {
    match backend {
        Backend::S3(s3) => of_s3(s3.clone()),
        Backend::Gcs(Gcs { endpoint, bucket: _, prefix: _, storage_class, predefined_acl, credentials_blob }) => {
            texts([
                ("endpoint", endpoint),
                ("storage_class", storage_class),
                ("predefined_acl", predefined_acl),
                ("credentials_blob", credentials_blob),
            ])
        }
        Backend::AzureBlobStorage(azure) => of_azure(azure.clone()),
        Backend::Noop(_) | Backend::Local(_) | Backend::Hdfs(_) | Backend::CloudDynamic(_) => Vec::new(),
    }
}

fn of_s3(s3: S3) -> Vec<(&'static str, String)> {
    let S3 {
        endpoint,
        region,
        bucket: _,
        prefix: _,
        storage_class,
        sse,
        acl,
        access_key,
        secret_access_key,
        force_path_style,
        sse_kms_key_id,
        role_arn,
        external_id,
        object_lock_enabled,
        session_token,
        provider,
        profile,
    } = s3;
    texts([
        ("endpoint", &endpoint),
        ("region", &region),
        ("storage_class", &storage_class),
        ("sse", &sse),
        ("acl", &acl),
        ("access_key", &access_key),
        ("secret_access_key", &secret_access_key),
        ("force_path_style", &force_path_style.to_string()),
        ("sse_kms_key_id", &sse_kms_key_id),
        ("role_arn", &role_arn),
        ("external_id", &external_id),
        ("object_lock_enabled", &object_lock_enabled.to_string()),
        ("session_token", &session_token),
        ("provider", &provider),
        ("profile", &profile),
    ])
}

fn of_azure(azure: AzureBlobStorage) -> Vec<(&'static str, String)> {
    let AzureBlobStorage {
        endpoint,
        bucket: _,
        prefix: _,
        storage_class,
        account_name,
        shared_key,
        access_sig,
        encryption_scope,
        encryption_key,
    } = azure;
    let AzureCustomerKey { encryption_key, encryption_key_sha256 } = encryption_key.unwrap_or_default();
    texts([
        ("endpoint", &endpoint),
        ("storage_class", &storage_class),
        ("account_name", &account_name),
        ("shared_key", &shared_key),
        ("access_sig", &access_sig),
        ("encryption_scope", &encryption_scope),
        ("encryption_key", &encryption_key),
        ("encryption_key_sha256", &encryption_key_sha256),
    ])
}

fn texts<const N: usize>(fields: [(&'static str, &String); N]) -> Vec<(&'static str, String)> {
    fields.map(|(name, text)| (name, text.clone())).to_vec()
}
