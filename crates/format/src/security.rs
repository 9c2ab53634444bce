//! A task's encryption: its form in the coordinator's task record, and back.

use std::collections::BTreeMap;

use logtide_model::{Cipher, KmsKey, KmsVendor, MasterKeyRef, SecretKey, TaskEncryption};

use crate::KeyFault;
use crate::proto::master_key::Backend;
use crate::proto::stream_backup_task_security_config::Encryption;
use crate::proto::{
    AwsKms, AzureKms, CipherInfo, EncryptionMethod, GcpKms, MasterKey, MasterKeyConfig, MasterKeyFile, MasterKeyKms,
    StreamBackupTaskSecurityConfig,
};

/// The message for a task's encryption.
pub fn security_config(encryption: &TaskEncryption) -> StreamBackupTaskSecurityConfig {
    let encryption = match encryption {
        TaskEncryption::DataKey { cipher, key } => Encryption::PlaintextDataKey(CipherInfo {
            cipher_type: method_of(*cipher) as i32,
            cipher_key: key.expose().to_vec(),
        }),
        TaskEncryption::MasterKeys { cipher, keys } => Encryption::MasterKeyConfig(MasterKeyConfig {
            encryption_type: method_of(*cipher) as i32,
            master_keys: keys.iter().map(master_key).collect(),
        }),
    };
    StreamBackupTaskSecurityConfig { encryption: Some(encryption) }
}

/// The encryption that a message describes. As in TiKV, a data key without bytes or cipher is no encryption; where
/// master keys are named there must be a cipher, for nothing may become plain by mistake.
///
/// # Errors
/// [`KeyFault::Cipher`] and [`KeyFault::Length`] for what logtide cannot encrypt with, [`KeyFault::Content`] for a
/// message that makes no sense.
pub fn task_encryption(config: &StreamBackupTaskSecurityConfig) -> Result<Option<TaskEncryption>, KeyFault> {
    match &config.encryption {
        None => Ok(None),
        Some(Encryption::PlaintextDataKey(info)) => {
            let cipher = cipher_of(info.cipher_type)?.filter(|_| !info.cipher_key.is_empty());
            let Some(cipher) = cipher else { return Ok(None) };
            let key = SecretKey::new(&info.cipher_key[..]);
            if key.len() != cipher.key_len() {
                return Err(KeyFault::Length { cipher, found: key.len() });
            }
            Ok(Some(TaskEncryption::DataKey { cipher, key }))
        }
        Some(Encryption::MasterKeyConfig(config)) => {
            let keys = config.master_keys.iter().filter_map(|key| master_key_ref(key).transpose());
            let keys: Vec<MasterKeyRef> = keys.collect::<Result<_, _>>()?;
            match cipher_of(config.encryption_type)? {
                Some(_) if keys.is_empty() => Err(KeyFault::NoMasterKey),
                Some(cipher) => Ok(Some(TaskEncryption::MasterKeys { cipher, keys })),
                None if keys.is_empty() => Ok(None),
                None => Err(KeyFault::Content("there are master keys, but no cipher for the data")),
            }
        }
    }
}

/// The number of a cipher.
pub(crate) fn method_of(cipher: Cipher) -> EncryptionMethod {
    match cipher {
        Cipher::Aes128Ctr => EncryptionMethod::Aes128Ctr,
        Cipher::Aes192Ctr => EncryptionMethod::Aes192Ctr,
        Cipher::Aes256Ctr => EncryptionMethod::Aes256Ctr,
    }
}

/// The cipher of a number; `None` for none.
pub(crate) fn cipher_of(method: i32) -> Result<Option<Cipher>, KeyFault> {
    match EncryptionMethod::try_from(method) {
        Ok(EncryptionMethod::Unknown | EncryptionMethod::Plaintext) => Ok(None),
        Ok(EncryptionMethod::Aes128Ctr) => Ok(Some(Cipher::Aes128Ctr)),
        Ok(EncryptionMethod::Aes192Ctr) => Ok(Some(Cipher::Aes192Ctr)),
        Ok(EncryptionMethod::Aes256Ctr) => Ok(Some(Cipher::Aes256Ctr)),
        Ok(EncryptionMethod::Sm4Ctr) => Err(KeyFault::Cipher("sm4-ctr")),
        Err(_) => Err(KeyFault::Cipher("of an unknown number")),
    }
}

fn master_key(key: &MasterKeyRef) -> MasterKey {
    let backend = match key {
        MasterKeyRef::File { path } => Backend::File(MasterKeyFile { path: path.clone() }),
        MasterKeyRef::Kms(key) => Backend::Kms(Box::new(kms(key))),
    };
    MasterKey { backend: Some(backend) }
}

fn kms(key: &KmsKey) -> MasterKeyKms {
    let mut message = MasterKeyKms {
        vendor: key.vendor.name().to_owned(),
        key_id: key.key_id.clone(),
        region: key.region.clone(),
        endpoint: key.endpoint.clone(),
        ..MasterKeyKms::default()
    };
    if key.credentials.is_empty() {
        return message;
    }
    match key.vendor {
        KmsVendor::Aws => message.aws_kms.insert(AwsKms::default()).fill(key),
        KmsVendor::Gcp => message.gcp_kms.insert(GcpKms::default()).fill(key),
        KmsVendor::Azure => message.azure_kms.insert(AzureKms::default()).fill(key),
    }
    message
}

/// `None` for the kind "no master key".
fn master_key_ref(key: &MasterKey) -> Result<Option<MasterKeyRef>, KeyFault> {
    match &key.backend {
        None | Some(Backend::Plaintext(_)) => Ok(None),
        Some(Backend::File(file)) => Ok(Some(MasterKeyRef::File { path: file.path.clone() })),
        Some(Backend::Kms(kms)) => {
            let vendor = KmsVendor::from_name(&kms.vendor);
            let vendor = vendor.ok_or(KeyFault::Content("the vendor of a key management service is not known"))?;
            let credentials = match vendor {
                KmsVendor::Aws => kms.aws_kms.clone().map(|mut kms| kms.read()),
                KmsVendor::Gcp => kms.gcp_kms.clone().map(|mut kms| kms.read()),
                KmsVendor::Azure => kms.azure_kms.clone().map(|mut kms| kms.read()),
            };
            Ok(Some(MasterKeyRef::Kms(KmsKey {
                vendor,
                key_id: kms.key_id.clone(),
                region: kms.region.clone(),
                endpoint: kms.endpoint.clone(),
                credentials: credentials.unwrap_or_default(),
            })))
        }
    }
}

/// The fields of a vendor's message, by name.
trait Credentials {
    fn fields(&mut self) -> Vec<(&'static str, &mut String)>;

    fn fill(&mut self, key: &KmsKey) {
        for (name, field) in self.fields() {
            let value = key.credentials.get(name).map(|value| String::from_utf8_lossy(value.expose()));
            *field = value.unwrap_or_default().into_owned();
        }
    }

    fn read(&mut self) -> BTreeMap<String, SecretKey> {
        let set = self.fields().into_iter().filter(|(_, value)| !value.is_empty());
        set.map(|(name, value)| (name.to_owned(), SecretKey::new(std::mem::take(value)))).collect()
    }
}

macro_rules! credentials {
    ($message:ident: $($field:ident)+) => {
        impl Credentials for $message {
            fn fields(&mut self) -> Vec<(&'static str, &mut String)> {
                vec![$((stringify!($field), &mut self.$field)),+]
            }
        }
    };
}

credentials!(AwsKms: access_key secret_access_key);
credentials!(GcpKms: credential);
credentials!(AzureKms: tenant_id client_id client_secret key_vault_url hsm_name hsm_url client_certificate
    client_certificate_path client_certificate_password);

#[cfg(test)]
mod tests {
    use super::*;

    fn kms(vendor: KmsVendor, fields: &[&str]) -> MasterKeyRef {
        MasterKeyRef::Kms(KmsKey {
            vendor,
            key_id: "id".to_owned(),
            region: "here".to_owned(),
            endpoint: "https://kms".to_owned(),
            credentials: fields.iter().map(|name| ((*name).to_owned(), SecretKey::new(*name))).collect(),
        })
    }

    #[test]
    fn every_encryption_comes_back() {
        let data_key =
            |cipher: Cipher| TaskEncryption::DataKey { cipher, key: SecretKey::new(vec![1; cipher.key_len()]) };
        let keys = vec![
            MasterKeyRef::File { path: "/k".to_owned() },
            kms(KmsVendor::Aws, &["access_key", "secret_access_key"]),
            kms(KmsVendor::Aws, &[]),
            kms(KmsVendor::Gcp, &["credential"]),
            kms(KmsVendor::Azure, &["tenant_id", "client_id", "client_secret", "key_vault_url"]),
        ];
        let master_keys = TaskEncryption::MasterKeys { cipher: Cipher::Aes192Ctr, keys };
        for encryption in Cipher::ALL.map(data_key).into_iter().chain([master_keys]) {
            assert_eq!(task_encryption(&security_config(&encryption)).unwrap(), Some(encryption));
        }
    }

    #[test]
    fn no_encryption_is_told_from_one_that_cannot_be() {
        let data_key = |cipher_type, len| {
            let info = CipherInfo { cipher_type, cipher_key: vec![7; len] };
            StreamBackupTaskSecurityConfig { encryption: Some(Encryption::PlaintextDataKey(info)) }
        };
        for plain in [data_key(0, 16), data_key(1, 16), data_key(4, 0), StreamBackupTaskSecurityConfig::default()] {
            assert_eq!(task_encryption(&plain).unwrap(), None);
        }
        let length = KeyFault::Length { cipher: Cipher::Aes256Ctr, found: 16 };
        assert_eq!(task_encryption(&data_key(4, 16)).unwrap_err(), length);
        assert_eq!(task_encryption(&data_key(5, 16)).unwrap_err(), KeyFault::Cipher("sm4-ctr"));
        assert!(matches!(task_encryption(&data_key(77, 16)), Err(KeyFault::Cipher(_))));

        let master = |encryption_type, master_keys| StreamBackupTaskSecurityConfig {
            encryption: Some(Encryption::MasterKeyConfig(MasterKeyConfig { encryption_type, master_keys })),
        };
        let file = || master_key(&MasterKeyRef::File { path: "/k".to_owned() });
        let none = MasterKey { backend: Some(Backend::Plaintext(crate::proto::MasterKeyPlaintext {})) };
        assert_eq!(task_encryption(&master(1, vec![none.clone()])).unwrap(), None);
        assert_eq!(task_encryption(&master(4, vec![none])).unwrap_err(), KeyFault::NoMasterKey);
        assert!(matches!(task_encryption(&master(0, vec![file()])), Err(KeyFault::Content(_))));
        let strange = MasterKeyKms { vendor: "other".to_owned(), ..MasterKeyKms::default() };
        let strange = MasterKey { backend: Some(Backend::Kms(Box::new(strange))) };
        assert!(matches!(task_encryption(&master(4, vec![strange])), Err(KeyFault::Content(_))));
    }
}
