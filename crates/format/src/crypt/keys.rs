//! The keys that a reader was given.

use logtide_model::SecretKey;

use super::cipher::apply;
use super::{IV_LEN, KeyFault, MasterKey};
use crate::proto::FileEncryptionInfo;
use crate::proto::file_encryption_info::Mode;
use crate::security::cipher_of;

/// What a reader may decrypt with: the data key of the task, master keys, or nothing.
#[derive(Debug, Default)]
pub struct Keys {
    data_key: Option<SecretKey>,
    masters: Vec<MasterKey>,
}

/// What came out of a decryption.
pub(crate) struct Opened {
    pub(crate) bytes: Vec<u8>,
    /// True if a wrong key would have been noticed.
    pub(crate) authentic: bool,
}

impl Keys {
    /// No keys: only what is not encrypted can be read.
    pub const NONE: Keys = Keys { data_key: None, masters: Vec::new() };

    /// With the data key that the task was started with.
    pub fn with_data_key(mut self, key: SecretKey) -> Self {
        self.data_key = Some(key);
        self
    }

    /// With one more master key.
    pub fn with_master_key(mut self, key: MasterKey) -> Self {
        self.masters.push(key);
        self
    }

    /// True without keys.
    pub fn is_empty(&self) -> bool {
        self.data_key.is_none() && self.masters.is_empty()
    }

    /// Decrypts the stored bytes of a logical file.
    pub(crate) fn decrypt(&self, info: &FileEncryptionInfo, stored: &[u8]) -> Result<Opened, KeyFault> {
        let cipher = cipher_of(info.encryption_method)?.ok_or(KeyFault::Cipher("none"))?;
        let iv: &[u8; IV_LEN] =
            info.file_iv[..].try_into().map_err(|_| KeyFault::Content("its IV has not 16 bytes"))?;
        let mut bytes = stored.to_vec();
        let authentic = match &info.mode {
            Some(Mode::MasterKeyBased(based)) => {
                let key = self.unwrap_key(&based.data_key_encrypted_content)?;
                apply(cipher, &key, iv, &mut bytes)?;
                true
            }
            Some(Mode::PlainTextDataKey(_)) => {
                let key = self.data_key.as_ref().ok_or(KeyFault::NoDataKey { cipher })?;
                apply(cipher, key, iv, &mut bytes)?;
                false
            }
            None => return Err(KeyFault::Content("it is not said where the key is")),
        };
        Ok(Opened { bytes, authentic })
    }

    /// The data key, by the first master key that fits. Where none does, the fault says the most that is known: a
    /// service that did not answer comes before a key that does not fit.
    fn unwrap_key(&self, contents: &[crate::proto::EncryptedContent]) -> Result<SecretKey, KeyFault> {
        if self.masters.is_empty() {
            return Err(KeyFault::NoMasterKey);
        }
        let mut worst = None;
        for content in contents {
            for master in &self.masters {
                match master.decrypt(content) {
                    Ok(key) => return Ok(key),
                    Err(fault) if matches!(worst, None | Some(KeyFault::WrongMasterKey)) => worst = Some(fault),
                    Err(fault @ KeyFault::Kms { .. }) => worst = Some(fault),
                    Err(_) => {}
                }
            }
        }
        Err(worst.unwrap_or(KeyFault::Content("there is none")))
    }
}
