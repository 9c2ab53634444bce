//! How a logical file is encrypted, and with which keys (`encryptionpb.proto`).

use std::collections::BTreeMap;

/// A cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum EncryptionMethod {
    /// Not set: not encrypted.
    Unknown = 0,
    /// Not encrypted.
    Plaintext = 1,
    /// AES-128 in counter mode.
    Aes128Ctr = 2,
    /// AES-192 in counter mode.
    Aes192Ctr = 3,
    /// AES-256 in counter mode.
    Aes256Ctr = 4,
    /// SM4 in counter mode.
    Sm4Ctr = 5,
}

/// How one logical file is encrypted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileEncryptionInfo {
    /// Where the data key comes from.
    #[prost(oneof = "file_encryption_info::Mode", tags = "1, 2")]
    pub mode: Option<file_encryption_info::Mode>,
    /// An [`EncryptionMethod`].
    #[prost(enumeration = "EncryptionMethod", tag = "3")]
    pub encryption_method: i32,
    /// The initial 16-byte counter block.
    #[prost(bytes = "vec", tag = "4")]
    pub file_iv: Vec<u8>,
    /// SHA-256 of the stored (encrypted) bytes.
    #[prost(bytes = "vec", tag = "5")]
    pub checksum: Vec<u8>,
}

/// Parts of [`FileEncryptionInfo`].
pub mod file_encryption_info {
    /// Where the data key comes from.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Mode {
        /// The task's own key; the operator has it.
        #[prost(message, tag = "1")]
        PlainTextDataKey(super::PlainTextDataKey),
        /// A random key, stored encrypted with a master key.
        #[prost(message, tag = "2")]
        MasterKeyBased(super::MasterKeyBased),
    }
}

/// The data key is the task's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct PlainTextDataKey {}

/// The data key is in the file, encrypted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MasterKeyBased {
    /// The data key, encrypted with each master key that is needed (TiKV writes one).
    #[prost(message, repeated, tag = "1")]
    pub data_key_encrypted_content: Vec<EncryptedContent>,
}

/// Something encrypted with a master key.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EncryptedContent {
    /// `method`, `iv`, `aes_gcm_tag`, `kms_vendor`, `kms_ciphertext_key`.
    #[prost(btree_map = "string, bytes", tag = "1")]
    pub metadata: BTreeMap<String, Vec<u8>>,
    /// The ciphertext.
    #[prost(bytes = "vec", tag = "2")]
    pub content: Vec<u8>,
    /// The master key (not written in log backups).
    #[prost(message, optional, tag = "3")]
    pub master_key: Option<MasterKey>,
    /// The initialisation vector (not written in log backups, see `metadata`).
    #[prost(bytes = "vec", tag = "4")]
    pub iv: Vec<u8>,
    /// The key, encrypted by a key service (not written in log backups, see `metadata`).
    #[prost(bytes = "vec", tag = "5")]
    pub ciphertext_key: Vec<u8>,
}

/// A key that encrypts data keys.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MasterKey {
    /// Where it is.
    #[prost(oneof = "master_key::Backend", tags = "1, 2, 3")]
    pub backend: Option<master_key::Backend>,
}

/// Parts of [`MasterKey`].
pub mod master_key {
    /// Where a master key is.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Backend {
        /// Nowhere: no encryption.
        #[prost(message, tag = "1")]
        Plaintext(super::MasterKeyPlaintext),
        /// In a file of 64 hex digits and a newline.
        #[prost(message, tag = "2")]
        File(super::MasterKeyFile),
        /// In a key management service.
        #[prost(message, boxed, tag = "3")]
        Kms(Box<super::MasterKeyKms>),
    }
}

/// No master key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct MasterKeyPlaintext {}

/// A master key in a file.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct MasterKeyFile {
    /// Its path on every store.
    #[prost(string, tag = "1")]
    pub path: String,
}

/// A master key in a key management service.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct MasterKeyKms {
    /// `aws`, `gcp` or `azure`.
    #[prost(string, tag = "1")]
    pub vendor: String,
    /// The key's id there.
    #[prost(string, tag = "2")]
    pub key_id: String,
    /// The region there.
    #[prost(string, tag = "3")]
    pub region: String,
    /// The service's URL, if not the usual one.
    #[prost(string, tag = "4")]
    pub endpoint: String,
    /// Credentials for Azure.
    #[prost(message, optional, tag = "5")]
    pub azure_kms: Option<AzureKms>,
    /// Credentials for Google.
    #[prost(message, optional, tag = "6")]
    pub gcp_kms: Option<GcpKms>,
    /// Credentials for Amazon.
    #[prost(message, optional, tag = "7")]
    pub aws_kms: Option<AwsKms>,
}

/// Credentials for Azure Key Vault.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
#[prost(skip_debug)]
pub struct AzureKms {
    /// The tenant.
    #[prost(string, tag = "1")]
    pub tenant_id: String,
    /// The application.
    #[prost(string, tag = "2")]
    pub client_id: String,
    /// Its secret.
    #[prost(string, tag = "3")]
    pub client_secret: String,
    /// The vault's URL.
    #[prost(string, tag = "4")]
    pub key_vault_url: String,
    /// The security module's name.
    #[prost(string, tag = "5")]
    pub hsm_name: String,
    /// The security module's URL.
    #[prost(string, tag = "6")]
    pub hsm_url: String,
    /// A certificate in place of the secret.
    #[prost(string, tag = "7")]
    pub client_certificate: String,
    /// A file with the certificate.
    #[prost(string, tag = "8")]
    pub client_certificate_path: String,
    /// The certificate's password.
    #[prost(string, tag = "9")]
    pub client_certificate_password: String,
}

debug_without_secrets!(AzureKms { tenant_id, client_id, key_vault_url, hsm_name, hsm_url, client_certificate_path; client_secret, client_certificate, client_certificate_password });

/// Credentials for Google Cloud KMS.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
#[prost(skip_debug)]
pub struct GcpKms {
    /// A credentials file or its content.
    #[prost(string, tag = "1")]
    pub credential: String,
}

debug_without_secrets!(GcpKms { ; credential });

/// Credentials for AWS KMS.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
#[prost(skip_debug)]
pub struct AwsKms {
    /// The access key.
    #[prost(string, tag = "1")]
    pub access_key: String,
    /// Its secret.
    #[prost(string, tag = "2")]
    pub secret_access_key: String,
}

debug_without_secrets!(AwsKms { ; access_key, secret_access_key });
