//! Why something cannot be decrypted or encrypted.

use logtide_model::{Cipher, KmsVendor, RandomError};
use thiserror::Error;

/// What is wrong about keys. No message has key material in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// A key of another length than its cipher has.
    #[error("{cipher} has keys of {} bytes, this one has {found}", cipher.key_len())]
    Length {
        /// The cipher.
        cipher: Cipher,
        /// Bytes of the key.
        found: usize,
    },
    /// A master key of another length.
    #[error("a master key has 32 bytes (64 hexadecimal digits), this one has {0}")]
    MasterLength(usize),
    /// It takes the task's own key, and that was not given.
    #[error("it is encrypted with a data key of {cipher}, and only master keys were given")]
    NoDataKey {
        /// The cipher.
        cipher: Cipher,
    },
    /// It takes a master key, and none was given.
    #[error("its data key is encrypted with a master key, and none was given")]
    NoMasterKey,
    /// It takes a key management service that was not given.
    #[error("its data key is encrypted with a master key of the {0} key management service, which was not given")]
    NoKms(KmsVendor),
    /// The key is another one than the data was encrypted with.
    #[error("the data key is not the one that it was encrypted with ({0})")]
    WrongDataKey(String),
    /// None of the master keys is the one.
    #[error("none of the master keys given is the one that its data key was encrypted with")]
    WrongMasterKey,
    /// What a file says about its encrypted data key cannot be.
    #[error("its encrypted data key is malformed: {0}")]
    Content(&'static str),
    /// A cipher that logtide does not have.
    #[error("its cipher {0} is not supported (aes128-ctr, aes192-ctr and aes256-ctr are)")]
    Cipher(&'static str),
    /// A service gave no key.
    #[error("the {vendor} key management service: {message}")]
    Kms {
        /// Whose.
        vendor: KmsVendor,
        /// What it said.
        message: String,
        /// True if waiting may help.
        retry: bool,
    },
    /// There is no randomness to encrypt with.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl KeyFault {
    /// True if waiting may help.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, KeyFault::Kms { retry: true, .. } | KeyFault::Random(_))
    }

    /// What the operator should do.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            KeyFault::Length { .. } | KeyFault::NoDataKey { .. } | KeyFault::WrongDataKey(_) => {
                "give the data key that the task was started with (--log.crypter.key or --log.crypter.key-file)"
            }
            KeyFault::MasterLength(_) | KeyFault::NoMasterKey | KeyFault::NoKms(_) | KeyFault::WrongMasterKey => {
                "give the master key that the task was started with (--master-key)"
            }
            KeyFault::Kms { retry: false, .. } => "check the id of the key, and whether it may be used from here",
            KeyFault::Kms { retry: true, .. } => "wait until the key management service answers",
            KeyFault::Cipher(_) => "read the backup with the tool that wrote it",
            KeyFault::Content(_) => "fetch the metadata object again; if it stays so, restore it from a copy",
            KeyFault::Random(_) => "",
        }
    }
}
