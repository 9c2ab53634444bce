//! The keys that a writer encrypts with.

use std::sync::Arc;

use logtide_model::{Cipher, Random, SecretKey};
use sha2::{Digest, Sha256};

use super::cipher::{apply, check_length};
use super::master::NONCE_LEN;
use super::{IV_LEN, KeyFault, MasterKey};
use crate::proto;
use crate::proto::file_encryption_info::Mode;
use crate::security::method_of;

/// Where a writer's data keys come from.
#[derive(Debug)]
pub struct DataKeys {
    cipher: Cipher,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// The task's own.
    Fixed(Arc<DataKey>),
    /// Random ones.
    Fresh(MasterKey),
}

/// A data key, and how readers come by it. Cheap to share.
#[derive(Debug)]
pub struct DataKey {
    cipher: Cipher,
    key: SecretKey,
    mode: Mode,
}

/// How a logical file was encrypted.
#[derive(Clone, Debug)]
pub struct FileEncryption {
    key: Arc<DataKey>,
    iv: [u8; IV_LEN],
    /// SHA-256 of the encrypted bytes.
    checksum: [u8; 32],
}

impl DataKeys {
    /// Always that key; readers have to be given it.
    ///
    /// # Errors
    /// [`KeyFault::Length`].
    pub fn fixed(cipher: Cipher, key: SecretKey) -> Result<Self, KeyFault> {
        check_length(cipher, &key)?;
        let mode = Mode::PlainTextDataKey(proto::PlainTextDataKey {});
        Ok(DataKeys { cipher, source: Source::Fixed(Arc::new(DataKey { cipher, key, mode })) })
    }

    /// Random keys, encrypted with the first of the master keys that works, as TiKV chooses it. This may wait for key
    /// management services; nothing afterwards does.
    ///
    /// # Errors
    /// [`KeyFault`] of the last one if none works, [`KeyFault::NoMasterKey`] without any.
    pub fn wrapped(cipher: Cipher, masters: Vec<MasterKey>) -> Result<Self, KeyFault> {
        let mut fault = KeyFault::NoMasterKey;
        for master in masters {
            match master.prepare() {
                Ok(()) => return Ok(DataKeys { cipher, source: Source::Fresh(master) }),
                Err(e) => fault = e,
            }
        }
        Err(fault)
    }

    /// The key for the next files: a new one, where that is not the task's own.
    ///
    /// # Errors
    /// [`KeyFault`].
    pub fn next(&self, random: &dyn Random) -> Result<Arc<DataKey>, KeyFault> {
        let master = match &self.source {
            Source::Fixed(key) => return Ok(Arc::clone(key)),
            Source::Fresh(master) => master,
        };
        let mut bytes = vec![0; self.cipher.key_len()];
        let mut nonce = [0; NONCE_LEN];
        let filled = random.fill(&mut bytes).and_then(|()| random.fill(&mut nonce));
        let key = SecretKey::new(bytes);
        filled?;
        let content = master.encrypt(&key, &nonce)?;
        let mode = Mode::MasterKeyBased(proto::MasterKeyBased { data_key_encrypted_content: vec![content] });
        Ok(Arc::new(DataKey { cipher: self.cipher, key, mode }))
    }
}

impl DataKey {
    /// Encrypts the stored bytes of a logical file in place. Two files must never have the same `iv` and key: take it
    /// from a [`Random`].
    ///
    /// # Errors
    /// [`KeyFault`].
    pub fn encrypt(self: &Arc<Self>, iv: [u8; IV_LEN], bytes: &mut [u8]) -> Result<FileEncryption, KeyFault> {
        self.apply(iv, bytes)?;
        Ok(FileEncryption { key: Arc::clone(self), iv, checksum: Sha256::digest(&*bytes).into() })
    }

    /// Encrypts or decrypts what is no file of the backup, like a plain part of the spool.
    ///
    /// # Errors
    /// [`KeyFault`].
    pub fn apply(&self, iv: [u8; IV_LEN], bytes: &mut [u8]) -> Result<(), KeyFault> {
        apply(self.cipher, &self.key, &iv, bytes)
    }
}

impl FileEncryption {
    /// Its form in the metadata.
    pub fn to_proto(&self) -> proto::FileEncryptionInfo {
        proto::FileEncryptionInfo {
            mode: Some(self.key.mode.clone()),
            encryption_method: method_of(self.key.cipher) as i32,
            file_iv: self.iv.to_vec(),
            checksum: self.checksum.to_vec(),
        }
    }
}
