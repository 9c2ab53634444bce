//! Encryption as people ask for it: the flags of `br`. No message repeats a key.

use std::convert::Infallible;

use logtide_format::Keys;
use logtide_model::{Cipher, Diagnose, MasterKeyRef, SecretKey, TaskEncryption};
use logtide_storage::{open_kms, open_master_key, parse_master_keys, read_key_file};

use crate::args::CrypterArgs;
use crate::report::Failure;

/// What `br` calls no encryption.
const PLAINTEXT: &str = "plaintext";
const CIPHERS: &str = "write aes128-ctr, aes192-ctr or aes256-ctr";

/// A value of a flag that neither clap nor we print.
pub(crate) fn secret(text: &str) -> Result<SecretKey, Infallible> {
    Ok(SecretKey::new(text))
}

/// How a task is to encrypt.
pub(crate) fn encryption(args: &CrypterArgs) -> Result<Option<TaskEncryption>, Failure> {
    let method = cipher("--log.crypter.method", args.method.as_deref())?;
    let master_method = cipher("--master-key-crypter-method", args.master_key_method.as_deref())?;
    match (data_key(args)?, master_keys(args)?) {
        (Some(_), Some(_)) => Err(Failure::usage(
            "a task encrypts either with a data key or with master keys",
            "leave out --log.crypter.key and --log.crypter.key-file, or --master-key",
        )),
        (Some(key), None) => {
            let Some(cipher) = method else {
                return Err(Failure::usage("--log.crypter.method is missing beside the data key", CIPHERS));
            };
            check_length(cipher, &key)?;
            Ok(Some(TaskEncryption::DataKey { cipher, key }))
        }
        (None, Some(keys)) => {
            let cipher = master_method.or(method).unwrap_or(Cipher::Aes256Ctr);
            Ok(Some(TaskEncryption::MasterKeys { cipher, keys }))
        }
        (None, None) if method.or(master_method).is_some() => Err(Failure::usage(
            "a cipher without a key encrypts nothing",
            "add --log.crypter.key-file FILE or --master-key URL",
        )),
        (None, None) => Ok(None),
    }
}

/// What a backup is read with.
pub(crate) fn keys(args: &CrypterArgs) -> Result<Keys, Failure> {
    let mut keys = Keys::NONE;
    if let Some(key) = data_key(args)? {
        if let Some(cipher) = cipher("--log.crypter.method", args.method.as_deref())? {
            check_length(cipher, &key)?;
        }
        keys = keys.with_data_key(key);
    }
    for master in master_keys(args)?.unwrap_or_default() {
        keys = keys.with_master_key(open_master_key(&master, &open_kms)?);
    }
    Ok(keys)
}

fn cipher(flag: &str, name: Option<&str>) -> Result<Option<Cipher>, Failure> {
    match name {
        None => Ok(None),
        Some(name) if name.eq_ignore_ascii_case(PLAINTEXT) => Ok(None),
        Some(name) => match Cipher::from_name(name) {
            Some(cipher) => Ok(Some(cipher)),
            None => Err(Failure::usage(format!("{flag} '{name}' is no cipher of log files"), CIPHERS)),
        },
    }
}

fn data_key(args: &CrypterArgs) -> Result<Option<SecretKey>, Failure> {
    if let Some(file) = &args.key_file {
        return Ok(Some(read_key_file(file)?));
    }
    let Some(text) = &args.key else { return Ok(None) };
    let digits = std::str::from_utf8(text.expose()).unwrap_or_default();
    let key = SecretKey::from_hex(digits);
    key.map(Some).map_err(|e| Failure::usage(format!("--log.crypter.key: {e}"), "write the key in hexadecimal digits"))
}

fn check_length(cipher: Cipher, key: &SecretKey) -> Result<(), Failure> {
    let (wanted, given) = (cipher.key_len(), key.len());
    if wanted == given {
        return Ok(());
    }
    let what = format!("the key of {cipher} has {wanted} bytes; the given one has {given}");
    Err(Failure::usage(what, format!("give {} hexadecimal digits", 2 * wanted)))
}

fn master_keys(args: &CrypterArgs) -> Result<Option<Vec<MasterKeyRef>>, Failure> {
    let Some(text) = &args.master_key else { return Ok(None) };
    let text = std::str::from_utf8(text.expose()).unwrap_or_default();
    parse_master_keys(text).map(Some).map_err(|e| Failure::usage(format!("--master-key: {e}"), e.remedy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f";

    fn args(method: Option<&str>, key: Option<&str>, master: Option<&str>) -> CrypterArgs {
        CrypterArgs {
            method: method.map(str::to_owned),
            key: key.map(SecretKey::new),
            key_file: None,
            master_key_method: None,
            master_key: master.map(SecretKey::new),
        }
    }

    #[test]
    fn a_cipher_and_its_key_make_an_encryption() {
        let given = encryption(&args(Some("AES128-CTR"), Some(KEY), None)).unwrap();
        let key = SecretKey::new((0..16).collect::<Vec<u8>>());
        assert_eq!(given, Some(TaskEncryption::DataKey { cipher: Cipher::Aes128Ctr, key }));
        let given = encryption(&args(None, None, Some("local:///etc/k"))).unwrap();
        let keys = vec![MasterKeyRef::File { path: "/etc/k".to_owned() }];
        assert_eq!(given, Some(TaskEncryption::MasterKeys { cipher: Cipher::Aes256Ctr, keys }));
        for none in [args(None, None, None), args(Some("plaintext"), None, None)] {
            assert_eq!(encryption(&none).unwrap(), None);
            assert!(keys_of(&none).is_empty());
        }
        assert!(!keys_of(&args(None, Some(KEY), None)).is_empty());
    }

    fn keys_of(args: &CrypterArgs) -> Keys {
        keys(args).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_refused_without_the_key() {
        for (method, key, master) in [
            (None, Some(KEY), None),
            (Some("aes256-ctr"), Some(KEY), None),
            (Some("aes256-gcm"), Some(KEY), None),
            (Some("aes128-ctr"), Some("not-000102030405"), None),
            (Some("aes128-ctr"), Some(KEY), Some("local:///k")),
            (Some("aes128-ctr"), None, None),
            (None, None, Some("vault://000102030405")),
        ] {
            let failure = format!("{:?}", encryption(&args(method, key, master)).unwrap_err());
            assert!(!failure.contains("000102030405"), "{failure}");
            assert!(failure.contains("exit: 2"), "{failure}");
        }
    }
}
