//! Where a backup goes (`brpb.StorageBackend`).

use std::collections::BTreeMap;

/// A storage.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StorageBackend {
    /// Which.
    #[prost(oneof = "storage_backend::Backend", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub backend: Option<storage_backend::Backend>,
}

/// Parts of [`StorageBackend`].
pub mod storage_backend {
    /// The kinds of storage.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Backend {
        /// Nowhere.
        #[prost(message, tag = "1")]
        Noop(super::Noop),
        /// A directory.
        #[prost(message, tag = "2")]
        Local(super::Local),
        /// Amazon S3 and compatibles.
        #[prost(message, tag = "3")]
        S3(super::S3),
        /// Google Cloud Storage.
        #[prost(message, tag = "4")]
        Gcs(super::Gcs),
        /// By provider name; TiKV refuses it.
        #[prost(message, tag = "5")]
        CloudDynamic(super::CloudDynamic),
        /// Hadoop.
        #[prost(message, tag = "6")]
        Hdfs(super::Hdfs),
        /// Azure Blob Storage.
        #[prost(message, tag = "7")]
        AzureBlobStorage(super::AzureBlobStorage),
    }
}

/// No storage.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Noop {}

/// A directory.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Local {
    /// Its path on every store.
    #[prost(string, tag = "1")]
    pub path: String,
}

/// Hadoop.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Hdfs {
    /// The URL.
    #[prost(string, tag = "1")]
    pub remote: String,
}

/// Amazon S3 and compatibles.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
#[prost(skip_debug)]
pub struct S3 {
    /// The server's URL; empty for Amazon's.
    #[prost(string, tag = "1")]
    pub endpoint: String,
    /// The region.
    #[prost(string, tag = "2")]
    pub region: String,
    /// The bucket.
    #[prost(string, tag = "3")]
    pub bucket: String,
    /// Prefix of all objects.
    #[prost(string, tag = "4")]
    pub prefix: String,
    /// Storage class of new objects.
    #[prost(string, tag = "5")]
    pub storage_class: String,
    /// Server side encryption.
    #[prost(string, tag = "6")]
    pub sse: String,
    /// A canned ACL.
    #[prost(string, tag = "7")]
    pub acl: String,
    /// The access key.
    #[prost(string, tag = "8")]
    pub access_key: String,
    /// Its secret.
    #[prost(string, tag = "9")]
    pub secret_access_key: String,
    /// Bucket in the path, not in the host name.
    #[prost(bool, tag = "10")]
    pub force_path_style: bool,
    /// The key of server side encryption.
    #[prost(string, tag = "11")]
    pub sse_kms_key_id: String,
    /// A role to assume.
    #[prost(string, tag = "12")]
    pub role_arn: String,
    /// The external id for that.
    #[prost(string, tag = "13")]
    pub external_id: String,
    /// The bucket has object lock: uploads need checksums.
    #[prost(bool, tag = "14")]
    pub object_lock_enabled: bool,
    /// A session token.
    #[prost(string, tag = "15")]
    pub session_token: String,
    /// Which compatible.
    #[prost(string, tag = "16")]
    pub provider: String,
    /// A profile of the credentials file.
    #[prost(string, tag = "17")]
    pub profile: String,
}

debug_without_secrets!(S3 { endpoint, region, bucket, prefix, storage_class, sse, acl, force_path_style, sse_kms_key_id, role_arn, object_lock_enabled, provider, profile; access_key, secret_access_key, external_id, session_token });

/// Google Cloud Storage.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
#[prost(skip_debug)]
pub struct Gcs {
    /// The server's URL; empty for Google's.
    #[prost(string, tag = "1")]
    pub endpoint: String,
    /// The bucket.
    #[prost(string, tag = "2")]
    pub bucket: String,
    /// Prefix of all objects.
    #[prost(string, tag = "3")]
    pub prefix: String,
    /// Storage class of new objects.
    #[prost(string, tag = "4")]
    pub storage_class: String,
    /// A predefined ACL.
    #[prost(string, tag = "5")]
    pub predefined_acl: String,
    /// A service account's JSON.
    #[prost(string, tag = "6")]
    pub credentials_blob: String,
}

debug_without_secrets!(Gcs { endpoint, bucket, prefix, storage_class, predefined_acl; credentials_blob });

/// Azure Blob Storage.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
#[prost(skip_debug)]
pub struct AzureBlobStorage {
    /// The server's URL; empty for Azure's.
    #[prost(string, tag = "1")]
    pub endpoint: String,
    /// The container.
    #[prost(string, tag = "2")]
    pub bucket: String,
    /// Prefix of all objects, without a leading slash.
    #[prost(string, tag = "3")]
    pub prefix: String,
    /// The access tier of new objects.
    #[prost(string, tag = "4")]
    pub storage_class: String,
    /// The account.
    #[prost(string, tag = "5")]
    pub account_name: String,
    /// Its key.
    #[prost(string, tag = "6")]
    pub shared_key: String,
    /// A shared access signature.
    #[prost(string, tag = "8")]
    pub access_sig: String,
    /// An encryption scope.
    #[prost(string, tag = "9")]
    pub encryption_scope: String,
    /// A customer provided key.
    #[prost(message, optional, tag = "10")]
    pub encryption_key: Option<AzureCustomerKey>,
}

debug_without_secrets!(AzureBlobStorage { endpoint, bucket, prefix, storage_class, account_name, encryption_scope, encryption_key; shared_key, access_sig });

/// A customer provided AES-256 key.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
#[prost(skip_debug)]
pub struct AzureCustomerKey {
    /// In Base64.
    #[prost(string, tag = "1")]
    pub encryption_key: String,
    /// Its SHA-256, in Base64.
    #[prost(string, tag = "2")]
    pub encryption_key_sha256: String,
}

debug_without_secrets!(AzureCustomerKey { ; encryption_key, encryption_key_sha256 });

/// A storage by provider name.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct CloudDynamic {
    /// The bucket.
    #[prost(message, optional, tag = "1")]
    pub bucket: Option<Bucket>,
    /// The provider.
    #[prost(string, tag = "2")]
    pub provider_name: String,
    /// What else it needs.
    #[prost(btree_map = "string, string", tag = "3")]
    pub attrs: BTreeMap<String, String>,
}

debug_without_secrets!(CloudDynamic { bucket, provider_name; attrs });

/// A bucket of any provider.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Bucket {
    /// The server's URL.
    #[prost(string, tag = "1")]
    pub endpoint: String,
    /// The region.
    #[prost(string, tag = "3")]
    pub region: String,
    /// The bucket.
    #[prost(string, tag = "4")]
    pub bucket: String,
    /// Prefix of all objects.
    #[prost(string, tag = "5")]
    pub prefix: String,
    /// Storage class of new objects.
    #[prost(string, tag = "6")]
    pub storage_class: String,
}
