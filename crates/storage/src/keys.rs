//! Opens the keys of an encrypted backup: key files, key management services, the system's randomness.
//!
//! What this does may wait for a disk or a network; what it returns does not, but for the first file that is read with
//! a master key of a service.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use logtide_format::{DataKeys, KeyFault, Keys, MasterKey};
use logtide_model::{
    Class, Diagnose, ErrorCode, InvalidKey, Kms, KmsError, KmsKey, KmsVendor, MasterKeyRef, Random, RandomError,
    SecretKey, TaskEncryption,
};
use percent_encoding::percent_decode_str;
use thiserror::Error;
use url::Url;

/// The most that a key file may have; TiKV's have 65 bytes.
const MAX_KEY_FILE: u64 = 1 << 10;

/// Why keys cannot be opened. No message has key material in it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeysError {
    /// A key file cannot be read.
    #[error("cannot read the key file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What a key file has is no key.
    #[error("the key file {}: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: InvalidKey,
    },
    /// A key management service cannot be used.
    #[error("the {vendor} key management service: {source}")]
    Kms {
        /// Whose.
        vendor: KmsVendor,
        /// What is wrong.
        source: KmsError,
    },
    /// The keys do not fit.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// Text that names no master key.
    #[error("'{scheme}' names no master key: {what}")]
    Location {
        /// Its scheme, which has no secrets.
        scheme: String,
        /// What is expected.
        what: &'static str,
    },
}

impl Diagnose for KeysError {
    fn code(&self) -> ErrorCode {
        if matches!(self, KeysError::Location { .. }) { ErrorCode::Config } else { ErrorCode::Encryption }
    }

    fn class(&self) -> Class {
        match self {
            KeysError::Kms { source, .. } if source.retry => Class::Retry,
            KeysError::Key(KeyFault::Kms { retry: true, .. }) => Class::Retry,
            _ => Class::Fatal,
        }
    }

    fn remedy(&self) -> String {
        match self {
            KeysError::File { path, .. } | KeysError::Content { path, .. } => {
                format!("put the key into {} on every store: hexadecimal digits and a newline", path.display())
            }
            KeysError::Location { .. } => {
                "write local:///PATH, aws-kms:///KEY-ID?REGION=… or gcp-kms:///projects/…/cryptoKeys/NAME".to_owned()
            }
            KeysError::Kms { .. } | KeysError::Key(_) => "check the keys that the task was started with".to_owned(),
        }
    }
}

/// Makes the client of a key management service.
pub type KmsClients<'a> = &'a dyn Fn(&KmsKey) -> Result<Arc<dyn Kms>, KmsError>;

/// [`KmsClients`] of a program that has none.
///
/// # Errors
/// Always.
pub fn no_kms(key: &KmsKey) -> Result<Arc<dyn Kms>, KmsError> {
    let message = format!("this program has no client for it (key '{}')", key.key_id);
    Err(KmsError { message, retry: false })
}

/// What a task writes with.
///
/// # Errors
/// [`KeysError`]; where several master keys are named, that of the last if none works.
pub fn open_data_keys(encryption: &TaskEncryption, kms: KmsClients<'_>) -> Result<DataKeys, KeysError> {
    match encryption {
        TaskEncryption::DataKey { cipher, key } => Ok(DataKeys::fixed(*cipher, key.clone())?),
        TaskEncryption::MasterKeys { cipher, keys } => {
            let mut error = KeysError::Key(KeyFault::NoMasterKey);
            for key in keys {
                let opened = open_master_key(key, kms).and_then(|key| Ok(DataKeys::wrapped(*cipher, vec![key])?));
                match opened {
                    Ok(keys) => return Ok(keys),
                    Err(e) => error = e,
                }
            }
            Err(error)
        }
    }
}

/// What the data of a task is read with.
///
/// # Errors
/// [`KeysError`] for the first master key that cannot be opened.
pub fn open_keys(encryption: &TaskEncryption, kms: KmsClients<'_>) -> Result<Keys, KeysError> {
    match encryption {
        TaskEncryption::DataKey { key, .. } => Ok(Keys::NONE.with_data_key(key.clone())),
        TaskEncryption::MasterKeys { keys, .. } => {
            keys.iter().try_fold(Keys::NONE, |all, key| Ok(all.with_master_key(open_master_key(key, kms)?)))
        }
    }
}

/// Opens one master key.
///
/// # Errors
/// [`KeysError`].
pub fn open_master_key(key: &MasterKeyRef, kms: KmsClients<'_>) -> Result<MasterKey, KeysError> {
    match key {
        MasterKeyRef::File { path } => Ok(MasterKey::new(read_key_file(path)?)?),
        MasterKeyRef::Kms(key) => {
            let client = kms(key).map_err(|source| KeysError::Kms { vendor: key.vendor, source })?;
            Ok(MasterKey::kms(client))
        }
    }
}

/// The key in a file of hexadecimal digits: a master key, or a data key as `--log.crypter.key-file` has it.
///
/// # Errors
/// [`KeysError::File`] and [`KeysError::Content`].
pub fn read_key_file(path: impl Into<PathBuf>) -> Result<SecretKey, KeysError> {
    let path = path.into();
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_KEY_FILE).read_to_string(&mut text));
    // The text is a secret too; it is overwritten when this is dropped.
    let text = SecretKey::new(text);
    read.map_err(|source| KeysError::File { path: path.clone(), source })?;
    let digits = std::str::from_utf8(text.expose()).unwrap_or_default();
    SecretKey::from_hex(digits).map_err(|source| KeysError::Content { path, source })
}

/// Master keys as `br --master-key` takes them: URLs with commas between them.
///
/// # Errors
/// [`KeysError::Location`].
pub fn parse_master_keys(text: &str) -> Result<Vec<MasterKeyRef>, KeysError> {
    text.split(',').map(|url| parse_master_key(url.trim())).collect()
}

fn parse_master_key(text: &str) -> Result<MasterKeyRef, KeysError> {
    let scheme = text.split("://").next().filter(|s| s.len() < text.len()).unwrap_or_default().to_owned();
    let wrong = |what| KeysError::Location { scheme: scheme.clone(), what };
    // A plus is one, as in the URLs of storages: keys have it.
    let url = Url::parse(&text.replace('+', "%2B")).map_err(|_| wrong("it is no URL"))?;
    let path = percent_decode_str(url.path()).decode_utf8().map_err(|_| wrong("it is not UTF-8"))?;
    let name = path.trim_start_matches('/').to_owned();
    if name.is_empty() {
        return Err(wrong("nothing comes after the scheme"));
    }
    match url.scheme() {
        "local" => Ok(MasterKeyRef::File { path: path.into_owned() }),
        "aws-kms" => kms_key(&url, KmsVendor::Aws, name).map(MasterKeyRef::Kms).map_err(wrong),
        "gcp-kms" => kms_key(&url, KmsVendor::Gcp, name).map(MasterKeyRef::Kms).map_err(wrong),
        _ => Err(wrong("local, aws-kms and gcp-kms are known")),
    }
}

/// A key of a service, with what the parameters of its URL say.
fn kms_key(url: &Url, vendor: KmsVendor, key_id: String) -> Result<KmsKey, &'static str> {
    let (region, endpoint, credentials) = (String::new(), String::new(), BTreeMap::new());
    let mut key = KmsKey { vendor, key_id, region, endpoint, credentials };
    for (name, value) in url.query_pairs() {
        let secret = match &*name.to_ascii_uppercase() {
            "REGION" => {
                key.region = value.into_owned();
                continue;
            }
            "ENDPOINT" => {
                key.endpoint = value.into_owned();
                continue;
            }
            "AWS_ACCESS_KEY_ID" | "AWS_ACCESS_KEY" => "access_key",
            "AWS_SECRET_ACCESS_KEY" => "secret_access_key",
            "CREDENTIALS" => "credential",
            "AUTH" => continue,
            _ => return Err("a parameter is not known"),
        };
        key.credentials.insert(secret.to_owned(), SecretKey::new(value.into_owned()));
    }
    Ok(key)
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        getrandom::fill(bytes).map_err(|e| RandomError(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_model::Cipher;

    #[test]
    fn master_keys_are_taken_as_br_takes_them() {
        let keys = "local:///etc/my key+%C3%A4, aws-kms:///key-1?AWS_ACCESS_KEY_ID=hunt&AWS_SECRET_ACCESS_KEY=hunter+2/%2B=&REGION=r,\
                    gcp-kms:///projects/p/locations/l/keyRings/r/cryptoKeys/n?AUTH=specified&CREDENTIALS=hunter3";
        let keys = parse_master_keys(keys).unwrap();
        let [MasterKeyRef::File { path }, MasterKeyRef::Kms(aws), MasterKeyRef::Kms(gcp)] = &keys[..] else {
            panic!("{keys:?}")
        };
        assert_eq!(path, "/etc/my key+\u{e4}");
        assert_eq!((aws.vendor, &aws.key_id[..], &aws.region[..]), (KmsVendor::Aws, "key-1", "r"));
        assert_eq!(aws.credentials["secret_access_key"].expose(), b"hunter+2/+=");
        assert_eq!(gcp.key_id, "projects/p/locations/l/keyRings/r/cryptoKeys/n");
        assert_eq!(gcp.credentials["credential"].expose(), b"hunter3");
        assert!(!format!("{keys:?}").contains("hunt"), "{keys:?}");
        for bad in ["", "/etc/key", "local:///", "s3://b/k", "aws-kms:///k?PASSWORD=hunter2"] {
            let error = parse_master_keys(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
            assert_eq!((error.code(), error.class()), (ErrorCode::Config, Class::Fatal));
        }
    }

    #[test]
    fn a_key_file_opens_both_ways_and_the_first_key_that_works_encrypts() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            MasterKeyRef::File { path: path.to_str().unwrap().to_owned() }
        };
        let good = file("good", &("5a".repeat(32) + "\n"));
        let missing = MasterKeyRef::File { path: dir.path().join("none").to_str().unwrap().to_owned() };
        let of = |keys: &[&MasterKeyRef]| TaskEncryption::MasterKeys {
            cipher: Cipher::Aes256Ctr,
            keys: keys.iter().map(|key| (*key).clone()).collect(),
        };
        open_data_keys(&of(&[&missing, &good]), &no_kms).unwrap().next(&OsRandom).unwrap();
        assert!(!open_keys(&of(&[&good]), &no_kms).unwrap().is_empty());
        let short = file("short", "5a5a\n");
        let text = file("text", "hunter2\n");
        for (bad, says) in [(&missing, "none"), (&short, "this one has 2"), (&text, "hexadecimal")] {
            for error in [
                open_data_keys(&of(&[bad]), &no_kms).map(drop).unwrap_err(),
                open_keys(&of(&[bad]), &no_kms).map(drop).unwrap_err(),
            ] {
                assert!(error.to_string().contains(says), "{error}");
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
                assert_eq!((error.code(), error.class()), (ErrorCode::Encryption, Class::Fatal));
                assert!(!error.remedy().is_empty());
            }
        }
    }

    #[test]
    fn randomness_is_not_the_same_twice() {
        let draw = || {
            let mut bytes = [0; 32];
            OsRandom.fill(&mut bytes).unwrap();
            bytes
        };
        assert_ne!(draw(), draw());
    }
}
