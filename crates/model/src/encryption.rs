//! How a task encrypts its data files, and where keys and randomness come from.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use crate::SecretKey;

/// A cipher of data files (kvproto `EncryptionMethod`), by the names that `br` has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cipher {
    /// AES-128 in counter mode.
    Aes128Ctr,
    /// AES-192 in counter mode.
    Aes192Ctr,
    /// AES-256 in counter mode.
    Aes256Ctr,
}

impl Cipher {
    /// All of them.
    pub const ALL: [Cipher; 3] = [Cipher::Aes128Ctr, Cipher::Aes192Ctr, Cipher::Aes256Ctr];

    /// Bytes of its keys.
    pub const fn key_len(self) -> usize {
        match self {
            Cipher::Aes128Ctr => 16,
            Cipher::Aes192Ctr => 24,
            Cipher::Aes256Ctr => 32,
        }
    }

    /// Its name, as `--log.crypter.method` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Cipher::Aes128Ctr => "aes128-ctr",
            Cipher::Aes192Ctr => "aes192-ctr",
            Cipher::Aes256Ctr => "aes256-ctr",
        }
    }

    /// The cipher of a name, in either case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| cipher.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a task encrypts its data files (kvproto `StreamBackupTaskSecurityConfig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEncryption {
    /// With one key, which the operator keeps.
    DataKey {
        /// The cipher.
        cipher: Cipher,
        /// The key, [`Cipher::key_len`] bytes.
        key: SecretKey,
    },
    /// With random keys, which are stored in the metadata encrypted by a master key.
    MasterKeys {
        /// The cipher of the data files.
        cipher: Cipher,
        /// The master keys; the first that works encrypts.
        keys: Vec<MasterKeyRef>,
    },
}

/// Where a master key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterKeyRef {
    /// In a file of 64 hexadecimal digits and a newline, on every store.
    File {
        /// Its path.
        path: String,
    },
    /// In a key management service, which never gives it away.
    Kms(KmsKey),
}

/// A key of a key management service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsKey {
    /// Whose service.
    pub vendor: KmsVendor,
    /// The key's id there.
    pub key_id: String,
    /// The region there; empty where that is said otherwise.
    pub region: String,
    /// The service's URL; empty for the usual one.
    pub endpoint: String,
    /// What the service asks for, by the field names of kvproto (`access_key`, `secret_access_key`, `credential`, …);
    /// empty where the machine's environment has it.
    pub credentials: BTreeMap<String, SecretKey>,
}

/// Whose key management service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KmsVendor {
    /// Amazon.
    Aws,
    /// Google.
    Gcp,
    /// Microsoft.
    Azure,
}

impl KmsVendor {
    /// All of them.
    pub const ALL: [KmsVendor; 3] = [KmsVendor::Aws, KmsVendor::Gcp, KmsVendor::Azure];

    /// Its name in a task's settings.
    pub const fn name(self) -> &'static str {
        match self {
            KmsVendor::Aws => "aws",
            KmsVendor::Gcp => "gcp",
            KmsVendor::Azure => "azure",
        }
    }

    /// The vendor of a name. TiKV writes `AWS`, `gcp`, `gcp_v2` (its second client of the same service) and `azure`.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix("_v2").unwrap_or(&name);
        Self::ALL.into_iter().find(|vendor| vendor.name() == name)
    }
}

impl fmt::Display for KmsVendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key management service. Requests may take as long as a network does: neither the apply thread nor a shard ever
/// waits for one.
pub trait Kms: Send + Sync + fmt::Debug {
    /// Whose it is.
    fn vendor(&self) -> KmsVendor;

    /// A new random key of 32 bytes, plain and encrypted by the service's master key.
    ///
    /// # Errors
    /// [`KmsError`].
    fn generate(&self) -> Result<KmsDataKey, KmsError>;

    /// The plain form of a key that this master key encrypted.
    ///
    /// # Errors
    /// [`KmsError`].
    fn decrypt(&self, encrypted: &[u8]) -> Result<SecretKey, KmsError>;
}

/// A key that a service made.
#[derive(Clone, Debug)]
pub struct KmsDataKey {
    /// As it may be stored.
    pub encrypted: Vec<u8>,
    /// As it encrypts.
    pub plain: SecretKey,
}

/// Why a key management service gave no key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct KmsError {
    /// What it said; without secrets.
    pub message: String,
    /// True if waiting may help: it is away, or overloaded.
    pub retry: bool,
}

/// A source of bytes that nobody can guess: the operating system's, or the seeded one of a test.
pub trait Random: Send + Sync + fmt::Debug {
    /// Fills all of `bytes`.
    ///
    /// # Errors
    /// [`RandomError`] where the system has none; nothing may be encrypted then.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError>;
}

/// There is no randomness.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the system gives no random bytes: {0}")]
pub struct RandomError(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_br_and_tikv() {
        for cipher in Cipher::ALL {
            assert_eq!(Cipher::from_name(&cipher.name().to_uppercase()), Some(cipher));
        }
        assert_eq!(Cipher::from_name("plaintext"), None);
        let vendors = ["AWS", "gcp", "gcp_v2", "azure", "ali", ""].map(KmsVendor::from_name);
        use KmsVendor::{Aws, Azure, Gcp};
        assert_eq!(vendors, [Some(Aws), Some(Gcp), Some(Gcp), Some(Azure), None, None]);
    }
}
