//! Storages as TiDB's tools have them in a task (`brpb.StorageBackend`) and as URLs, credentials included, both ways.
//!
//! The parameters of a URL are those of `br`, as `logtide_storage` reads them; it is also the one that judges them. What
//! TiDB's message has no field for (an own certificate authority, say) is kept as a URL in the message for storages of
//! any kind, which TiDB's tools show and leave alone.

mod place;

use std::collections::BTreeMap;

use logtide_format::proto::storage_backend::Backend;
use logtide_format::proto::{AzureBlobStorage, AzureCustomerKey, CloudDynamic, Gcs, Local, S3, StorageBackend};
use logtide_model::without_credentials;
use sha2::{Digest, Sha256};
use url::Url;

use place::Place;

use crate::base64;

/// The provider name and the attribute that a URL of no kind of TiDB's is kept under.
const URL_ATTRIBUTE: &str = "logtide-url";
/// Providers whose buckets have a host of their own, whatever is said of the style, as `br` has it.
const BY_HOST: &[&str] = &["alibaba", "netease", "tencent"];
/// Of the key that Azure encrypts with.
const KEY_BYTES: usize = 32;

/// The message of a URL.
pub(crate) fn write(url: &str) -> Result<StorageBackend, String> {
    let parsed = Url::parse(url).map_err(|e| format!("its storage is no URL: {e}"))?;
    let backend = match parsed.scheme() {
        "local" | "file" => Some(Backend::Local(Local { path: local_path(url)? })),
        "s3" => Place::read(url).and_then(Place::s3),
        "gcs" | "gs" => Place::read(url).and_then(Place::gcs),
        "azure" | "azblob" => Place::read(url).and_then(Place::azure),
        _ => None,
    };
    Ok(StorageBackend { backend: Some(backend.unwrap_or_else(|| any_kind(url))) })
}

/// The URL of a message, with the credentials in it: for opening the storage, not for showing.
pub(crate) fn read(storage: Option<StorageBackend>) -> Result<String, String> {
    match storage.and_then(|s| s.backend) {
        Some(Backend::Local(Local { path })) => {
            let url = Url::from_file_path(&path).map_err(|()| format!("its storage path {path} is not absolute"))?;
            Ok(url.as_str().trim_end_matches('/').replacen("file:", "local:", 1))
        }
        Some(Backend::S3(s3)) => Ok(of_s3(s3).url("s3")),
        Some(Backend::Gcs(gcs)) => Ok(of_gcs(gcs).url("gcs")),
        Some(Backend::AzureBlobStorage(azure)) => Ok(of_azure(azure).url("azure")),
        Some(Backend::CloudDynamic(c)) if c.provider_name == URL_ATTRIBUTE => {
            c.attrs.get(URL_ATTRIBUTE).cloned().ok_or_else(|| "its storage has no URL".to_owned())
        }
        Some(Backend::CloudDynamic(c)) => Err(format!("its storage is of the unknown kind {}", c.provider_name)),
        Some(Backend::Hdfs(hdfs)) => Ok(hdfs.remote),
        Some(Backend::Noop(_)) => Ok("noop://".to_owned()),
        None => Err("it has no storage".to_owned()),
    }
}

fn any_kind(url: &str) -> Backend {
    Backend::CloudDynamic(CloudDynamic {
        provider_name: URL_ATTRIBUTE.to_owned(),
        attrs: BTreeMap::from([(URL_ATTRIBUTE.to_owned(), url.to_owned())]),
        ..CloudDynamic::default()
    })
}

fn local_path(url: &str) -> Result<String, String> {
    let as_file = url.split_once(':').map_or_else(String::new, |(_, rest)| format!("file:{rest}"));
    let path = Url::parse(&as_file).ok().and_then(|url| url.to_file_path().ok());
    let shown = without_credentials(url);
    let path = path.ok_or_else(|| format!("{shown} is no path of this machine"))?;
    path.into_os_string().into_string().map_err(|_| format!("the path of {shown} is not UTF-8"))
}

impl Place {
    fn s3(mut self) -> Option<Backend> {
        let mut s3 = S3 { bucket: self.bucket.clone(), prefix: self.prefix.clone(), ..S3::default() };
        self.fill(s3_fields(&mut s3));
        s3.force_path_style = self.flag("force-path-style").unwrap_or(true) && !BY_HOST.contains(&s3.provider.as_str());
        s3.object_lock_enabled = self.flag("object-lock-enabled").unwrap_or(false);
        self.parameters.is_empty().then_some(Backend::S3(s3))
    }

    fn gcs(mut self) -> Option<Backend> {
        let mut gcs = Gcs { bucket: self.bucket.clone(), prefix: self.prefix.clone(), ..Gcs::default() };
        self.fill(gcs_fields(&mut gcs));
        self.parameters.is_empty().then_some(Backend::Gcs(gcs))
    }

    fn azure(mut self) -> Option<Backend> {
        let (bucket, prefix) = (self.bucket.clone(), self.prefix.clone());
        let mut azure = AzureBlobStorage { bucket, prefix, ..AzureBlobStorage::default() };
        self.fill(azure_fields(&mut azure));
        if let Some(key) = self.parameters.get("encryption-key").and_then(|key| customer_key(key)) {
            azure.encryption_key = Some(key);
            self.parameters.remove("encryption-key");
        }
        self.parameters.is_empty().then_some(Backend::AzureBlobStorage(azure))
    }
}

/// The key of a URL, which is 32 characters, or 32 bytes in base64. `None` for what is neither.
fn customer_key(key: &str) -> Option<AzureCustomerKey> {
    let decoded = || base64::decode(key).filter(|bytes| bytes.len() == KEY_BYTES);
    let bytes = if key.len() == KEY_BYTES { Some(key.as_bytes().to_vec()) } else { decoded() }?;
    let encryption_key_sha256 = base64::encode(&Sha256::digest(&bytes));
    Some(AzureCustomerKey { encryption_key: base64::encode(&bytes), encryption_key_sha256 })
}

fn of_s3(mut s3: S3) -> Place {
    let mut place = Place::of(std::mem::take(&mut s3.bucket), &s3.prefix);
    if !s3.force_path_style && !BY_HOST.contains(&s3.provider.as_str()) {
        place.parameters.insert("force-path-style".to_owned(), false.to_string());
    }
    if s3.object_lock_enabled {
        place.parameters.insert("object-lock-enabled".to_owned(), true.to_string());
    }
    place.take(s3_fields(&mut s3));
    place
}

fn of_gcs(mut gcs: Gcs) -> Place {
    let mut place = Place::of(std::mem::take(&mut gcs.bucket), &gcs.prefix);
    place.take(gcs_fields(&mut gcs));
    place
}

fn of_azure(mut azure: AzureBlobStorage) -> Place {
    let mut place = Place::of(std::mem::take(&mut azure.bucket), &azure.prefix);
    place.take(azure_fields(&mut azure));
    // Its SHA-256 follows from it.
    if let Some(AzureCustomerKey { encryption_key, .. }) = azure.encryption_key.take() {
        place.parameters.insert("encryption-key".to_owned(), encryption_key);
    }
    place
}

fn s3_fields(s3: &mut S3) -> [(&'static str, &mut String); 13] {
    [
        ("endpoint", &mut s3.endpoint),
        ("region", &mut s3.region),
        ("storage-class", &mut s3.storage_class),
        ("sse", &mut s3.sse),
        ("sse-kms-key-id", &mut s3.sse_kms_key_id),
        ("acl", &mut s3.acl),
        ("access-key", &mut s3.access_key),
        ("secret-access-key", &mut s3.secret_access_key),
        ("session-token", &mut s3.session_token),
        ("role-arn", &mut s3.role_arn),
        ("external-id", &mut s3.external_id),
        ("provider", &mut s3.provider),
        ("profile", &mut s3.profile),
    ]
}

fn gcs_fields(gcs: &mut Gcs) -> [(&'static str, &mut String); 4] {
    [
        ("endpoint", &mut gcs.endpoint),
        ("storage-class", &mut gcs.storage_class),
        ("predefined-acl", &mut gcs.predefined_acl),
        ("credentials-blob", &mut gcs.credentials_blob),
    ]
}

fn azure_fields(azure: &mut AzureBlobStorage) -> [(&'static str, &mut String); 6] {
    [
        ("endpoint", &mut azure.endpoint),
        ("access-tier", &mut azure.storage_class),
        ("account-name", &mut azure.account_name),
        ("account-key", &mut azure.shared_key),
        ("sas-token", &mut azure.access_sig),
        ("encryption-scope", &mut azure.encryption_scope),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(url: &str) -> (Backend, String) {
        let message = write(url).unwrap();
        (message.backend.clone().unwrap(), read(Some(message)).unwrap())
    }

    #[test]
    fn urls_of_all_kinds_come_back_as_they_were() {
        for url in [
            "s3://b",
            "s3://b/a%20b/c?access-key=K&endpoint=http://h:1&region=r&secret-access-key=a%2Bb/c%26d=",
            "s3://b/p?force-path-style=false&object-lock-enabled=true&profile=x&session-token=t",
            "s3://b/p?sse=aws:kms&sse-kms-key-id=k&storage-class=STANDARD_IA",
            "s3://b/p?role-arn=arn:aws:iam::1:role/r",
            "gcs://b/p?credentials-blob={%22type%22:%22service_account%22}&endpoint=https://h",
            "gcs://b/p?credentials-file=/etc/gcs.json",
            "azure://$web/p?access-tier=Cool&account-name=n&sas-token=x%26y",
            "azure://c/p?account-name=n&encryption-key=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
            "s3://b/p?ca-file=/etc/ca.pem&endpoint=https://h",
            "s3://b/p?use-accelerate-endpoint=true",
            "memory://x-1",
            "local:///backup/my%20log",
        ] {
            assert_eq!(there_and_back(url).1, url);
        }
        assert_eq!(there_and_back("s3://b/p?force-path-style=1").1, "s3://b/p", "the default is left out");
        let by_host = "s3://b/p?force-path-style=true&provider=alibaba";
        assert_eq!(there_and_back(by_host).1, "s3://b/p?provider=alibaba", "the provider wins");
        let key = there_and_back("azure://c?encryption-key=0123456789abcdef0123456789abcdef").1;
        assert_eq!(key, "azure://c?encryption-key=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "as br writes it");
    }

    #[test]
    fn what_tidbs_tools_know_is_written_as_they_write_it() {
        let (backend, _) = there_and_back("s3://b/p/x?access-key=K&endpoint=http://h&secret-access-key=S&sse=AES256");
        let expected = S3 {
            bucket: "b".into(),
            prefix: "p/x".into(),
            endpoint: "http://h".into(),
            access_key: "K".into(),
            secret_access_key: "S".into(),
            sse: "AES256".into(),
            force_path_style: true,
            ..S3::default()
        };
        assert!(backend == Backend::S3(expected), "{backend:?}");
        for (url, by_url) in [
            ("s3://b?provider=alibaba", false),
            ("gcs://b?storage-class=NEARLINE", false),
            ("azure://c?account-key=VQ==", false),
            ("s3://b?ca-file=/x", true),
            ("s3://b?force-path-style=maybe", true),
            ("s3://b?region=a&region=b", true),
            ("azure://c?encryption-key=k", true),
        ] {
            assert_eq!(matches!(there_and_back(url).0, Backend::CloudDynamic(_)), by_url, "{url}");
        }
    }

    #[test]
    fn what_tidbs_tools_wrote_is_read_whole() {
        let s3 = S3 { bucket: "b".into(), prefix: "/p/".into(), region: "r".into(), ..S3::default() };
        let url = |backend| read(Some(StorageBackend { backend: Some(backend) })).unwrap();
        assert_eq!(url(Backend::S3(s3)), "s3://b/p?force-path-style=false&region=r");
        let key = AzureCustomerKey { encryption_key: "a2V5".into(), encryption_key_sha256: "c2hh".into() };
        let azure = AzureBlobStorage {
            bucket: "c".into(),
            account_name: "n".into(),
            shared_key: "a+b/=".into(),
            encryption_key: Some(key),
            ..AzureBlobStorage::default()
        };
        let expected = "azure://c?account-key=a%2Bb/=&account-name=n&encryption-key=a2V5";
        assert_eq!(url(Backend::AzureBlobStorage(azure)), expected);
        assert!(read(None).is_err() && read(Some(StorageBackend { backend: None })).is_err());
    }
}
