//! Master keys: they encrypt data keys with AES-256-GCM, 12-byte nonces and no associated data, as TiKV does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};
use logtide_model::{Kms, KmsDataKey, KmsError, KmsVendor, SecretKey};

use super::KeyFault;
use crate::proto::EncryptedContent;

/// Bytes of a master key.
pub const MASTER_KEY_LEN: usize = 32;
/// Bytes of a nonce.
pub(super) const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
/// Data keys are 16 to 32 bytes; more than this is none.
const MAX_CONTENT: usize = 64;
/// How many keys of a service are remembered: every start of a task on a store makes one.
const MAX_KNOWN: usize = 1024;

// Names and values in `EncryptedContent.metadata`.
const METHOD: &str = "method";
const AES256_GCM: &[u8] = b"aes256-gcm";
const IV: &str = "iv";
const TAG: &str = "aes_gcm_tag";
const VENDOR: &str = "kms_vendor";
const CIPHERTEXT_KEY: &str = "kms_ciphertext_key";

/// A key that encrypts data keys: held here, or by a key management service. With a service, what encrypts data keys is
/// a key that the service made and encrypted; it is asked once for each such key.
pub struct MasterKey {
    backend: Backend,
}

enum Backend {
    Held(SecretKey),
    Service(Service),
}

struct Service {
    kms: Arc<dyn Kms>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What new data keys are encrypted with.
    current: Option<KmsDataKey>,
    /// Plain forms by encrypted ones.
    known: BTreeMap<Vec<u8>, SecretKey>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.backend {
            Backend::Held(key) => f.debug_tuple("MasterKey").field(key).finish(),
            Backend::Service(service) => f.debug_tuple("MasterKey").field(&service.kms).finish(),
        }
    }
}

impl MasterKey {
    /// A master key of [`MASTER_KEY_LEN`] bytes.
    ///
    /// # Errors
    /// [`KeyFault::MasterLength`].
    pub fn new(key: SecretKey) -> Result<Self, KeyFault> {
        match key.len() {
            MASTER_KEY_LEN => Ok(MasterKey { backend: Backend::Held(key) }),
            found => Err(KeyFault::MasterLength(found)),
        }
    }

    /// A master key that a service keeps.
    pub fn kms(kms: Arc<dyn Kms>) -> Self {
        MasterKey { backend: Backend::Service(Service { kms, state: Mutex::default() }) }
    }

    /// Gets ready to encrypt: a service makes the key that it takes. Once this was done nothing waits for a network.
    ///
    /// # Errors
    /// [`KeyFault::Kms`].
    pub fn prepare(&self) -> Result<(), KeyFault> {
        match &self.backend {
            Backend::Held(_) => Ok(()),
            Backend::Service(service) => service.current().map(drop),
        }
    }

    /// Encrypts a data key, with a nonce that was never used before.
    pub(super) fn encrypt(&self, key: &SecretKey, nonce: &[u8; NONCE_LEN]) -> Result<EncryptedContent, KeyFault> {
        match &self.backend {
            Backend::Held(master) => seal(master, key, nonce),
            Backend::Service(service) => {
                let current = service.current()?;
                let mut content = seal(&current.plain, key, nonce)?;
                let vendor = vendor_note(service.kms.vendor()).as_bytes().to_vec();
                content.metadata.insert(VENDOR.to_owned(), vendor);
                content.metadata.insert(CIPHERTEXT_KEY.to_owned(), current.encrypted);
                Ok(content)
            }
        }
    }

    /// Decrypts a data key; [`KeyFault::WrongMasterKey`] and the like if it was encrypted with another master key.
    pub(super) fn decrypt(&self, content: &EncryptedContent) -> Result<SecretKey, KeyFault> {
        let vendor = content.metadata.get(VENDOR).map(|name| String::from_utf8_lossy(name));
        match (&self.backend, vendor) {
            (Backend::Held(master), None) => open(master, content),
            (Backend::Service(service), Some(name)) if KmsVendor::from_name(&name) == Some(service.kms.vendor()) => {
                let encrypted = content.metadata.get(CIPHERTEXT_KEY);
                let encrypted = encrypted.ok_or(KeyFault::Content("kms_ciphertext_key is missing"))?;
                open(&service.known(encrypted)?, content)
            }
            (_, None) => Err(KeyFault::WrongMasterKey),
            (_, Some(name)) => {
                Err(KmsVendor::from_name(&name).map_or(KeyFault::Content("kms_vendor is not known"), KeyFault::NoKms))
            }
        }
    }
}

impl Service {
    fn current(&self) -> Result<KmsDataKey, KeyFault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = &state.current {
            return Ok(current.clone());
        }
        let made = self.kms.generate().map_err(|e| self.fault(e))?;
        if made.plain.len() != MASTER_KEY_LEN {
            return Err(KeyFault::MasterLength(made.plain.len()));
        }
        if made.encrypted == made.plain.expose() {
            // It would be stored as it is.
            let error = KmsError { message: "it gave a key that is not encrypted".to_owned(), retry: false };
            return Err(self.fault(error));
        }
        Ok(state.current.insert(made).clone())
    }

    fn known(&self, encrypted: &[u8]) -> Result<SecretKey, KeyFault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = state.known.get(encrypted) {
            return Ok(key.clone());
        }
        let key = self.kms.decrypt(encrypted).map_err(|e| self.fault(e))?;
        if key.len() != MASTER_KEY_LEN {
            return Err(KeyFault::MasterLength(key.len()));
        }
        if state.known.len() == MAX_KNOWN {
            state.known.clear();
        }
        state.known.insert(encrypted.to_vec(), key.clone());
        Ok(key)
    }

    fn fault(&self, error: KmsError) -> KeyFault {
        KeyFault::Kms { vendor: self.kms.vendor(), message: error.message, retry: error.retry }
    }
}

/// A vendor as TiKV writes it into `kms_vendor`.
fn vendor_note(vendor: KmsVendor) -> &'static str {
    match vendor {
        KmsVendor::Aws => "AWS",
        other => other.name(),
    }
}

fn seal(master: &SecretKey, key: &SecretKey, nonce: &[u8; NONCE_LEN]) -> Result<EncryptedContent, KeyFault> {
    let mut content = key.expose().to_vec();
    let tag = gcm(master)?.encrypt_in_place_detached(Nonce::from_slice(nonce), b"", &mut content);
    let tag = tag.map_err(|_| KeyFault::Content("it is too long"))?;
    let metadata = [(METHOD, AES256_GCM), (IV, nonce), (TAG, &tag[..])];
    let metadata = metadata.into_iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    Ok(EncryptedContent { metadata, content, ..EncryptedContent::default() })
}

fn open(master: &SecretKey, content: &EncryptedContent) -> Result<SecretKey, KeyFault> {
    if content.metadata.get(METHOD).map(Vec::as_slice) != Some(AES256_GCM) {
        return Err(KeyFault::Content("its method is not aes256-gcm"));
    }
    let of_length = |name, length, fault| {
        let value = content.metadata.get(name).filter(|value| value.len() == length);
        value.ok_or(KeyFault::Content(fault))
    };
    let nonce = of_length(IV, NONCE_LEN, "its iv has not 12 bytes")?;
    let tag = of_length(TAG, TAG_LEN, "its aes_gcm_tag has not 16 bytes")?;
    if content.content.len() > MAX_CONTENT {
        return Err(KeyFault::Content("it is too long"));
    }
    let mut key = content.content.clone();
    let opened = gcm(master)?.decrypt_in_place_detached(Nonce::from_slice(nonce), b"", &mut key, Tag::from_slice(tag));
    opened.map(|()| SecretKey::new(key)).map_err(|_| KeyFault::WrongMasterKey)
}

fn gcm(master: &SecretKey) -> Result<Aes256Gcm, KeyFault> {
    Aes256Gcm::new_from_slice(master.expose()).map_err(|_| KeyFault::MasterLength(master.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test vector of NIST's `gcmtestvectors` (256-bit key, 96-bit IV, 256-bit plaintext, no associated data), which
    /// TiKV's own tests use too.
    #[test]
    fn a_vector_of_the_standard() {
        let hex = |text| SecretKey::from_hex(text).unwrap();
        let key = hex("25431587e9ecffc7c37f8d6d52a9bc3310651d46fb0e3bad2726c8f2db653749");
        let nonce: [u8; NONCE_LEN] = hex("cafabd9672ca6c79a2fbdc22").expose().try_into().unwrap();
        let master = MasterKey::new(hex("c3d99825f2181f4808acd2068eac7441a65bd428f14d2aab43fefc0129091139"));
        let master = master.unwrap();
        let content = master.encrypt(&key, &nonce).unwrap();
        let expected = "84e5f23f95648fa247cb28eef53abec947dbf05ac953734618111583840bd980";
        assert_eq!(hex::encode(&content.content), expected);
        assert_eq!(master.decrypt(&content).unwrap(), key);
    }

    #[test]
    fn what_was_changed_is_refused() {
        let master = MasterKey::new(SecretKey::new([3; 32])).unwrap();
        let good = master.encrypt(&SecretKey::new([4; 32]), &[5; NONCE_LEN]).unwrap();
        let fault = |edit: &dyn Fn(&mut EncryptedContent)| {
            let mut bad = good.clone();
            edit(&mut bad);
            master.decrypt(&bad).unwrap_err()
        };
        for name in [IV, TAG] {
            let flipped = fault(&|c| c.metadata.get_mut(name).unwrap()[0] ^= 1);
            assert_eq!(flipped, KeyFault::WrongMasterKey, "{name}");
            assert!(matches!(fault(&|c| c.metadata.get_mut(name).unwrap().truncate(3)), KeyFault::Content(_)));
            assert!(matches!(fault(&|c| drop(c.metadata.remove(name))), KeyFault::Content(_)), "{name}");
        }
        assert_eq!(fault(&|c| c.content[0] ^= 1), KeyFault::WrongMasterKey);
        assert!(matches!(fault(&|c| c.content.resize(65, 0)), KeyFault::Content(_)));
        assert!(matches!(fault(&|c| c.metadata.get_mut(METHOD).unwrap().push(b'x')), KeyFault::Content(_)));
        let aws = fault(&|c| drop(c.metadata.insert(VENDOR.to_owned(), b"AWS".to_vec())));
        assert_eq!(aws, KeyFault::NoKms(KmsVendor::Aws));
    }
}
