//! The variables of the environment that say something about storages: these and no others, for one that nobody was told
//! of must not change what a storage does. A variable that is empty is none.

use crate::Setting;
#[cfg(feature = "remote")]
use crate::StorageError;
#[cfg(feature = "remote")]
use crate::parameters::{UNPRINTABLE, is_printable};
use crate::remote_url::Kind;

/// What object_store makes credentials of, by its names in small letters, and where it asks for them.
pub(crate) const S3: &[&str] = &[
    REGION,
    DEFAULT_REGION,
    WEB_IDENTITY,
    ROLE,
    "AWS_ROLE_SESSION_NAME",
    STS_ENDPOINT,
    CONTAINER,
    POD,
    POD_TOKEN,
    METADATA,
    "AWS_IMDSV1_FALLBACK",
];
pub(crate) const REGION: &str = "AWS_REGION";
pub(crate) const DEFAULT_REGION: &str = "AWS_DEFAULT_REGION";
pub(crate) const WEB_IDENTITY: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
pub(crate) const ROLE: &str = "AWS_ROLE_ARN";
pub(crate) const CONTAINER: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
pub(crate) const POD: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
pub(crate) const POD_TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
pub(crate) const METADATA: &str = "AWS_METADATA_ENDPOINT";
/// Keys, which go together.
pub(crate) const KEY: &str = "AWS_ACCESS_KEY_ID";
pub(crate) const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
pub(crate) const TOKEN: &str = "AWS_SESSION_TOKEN";
/// Where roles are taken.
pub(crate) const STS_ENDPOINT: &str = "AWS_ENDPOINT_URL_STS";
/// Where S3 is; the first that is there counts.
pub(crate) const S3_ENDPOINTS: &[&str] = &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
pub(crate) const PROFILE: &str = "AWS_PROFILE";
pub(crate) const CREDENTIALS_FILE: &str = "AWS_SHARED_CREDENTIALS_FILE";

/// As [`S3`].
pub(crate) const GCS: &[&str] = &[
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
];

/// As [`S3`].
pub(crate) const AZURE: &[&str] = &[
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_CLIENT_ID",
    AZURE_TENANT,
    AZURE_CLIENT_SECRET,
    AZURE_IDENTITY,
    AZURE_AUTHORITY,
];
pub(crate) const AZURE_CLIENT_SECRET: &str = "AZURE_CLIENT_SECRET";
pub(crate) const AZURE_TENANT: &str = "AZURE_TENANT_ID";
pub(crate) const AZURE_AUTHORITY: &str = "AZURE_AUTHORITY_HOST";
pub(crate) const AZURE_IDENTITY: &str = "AZURE_FEDERATED_TOKEN_FILE";
/// What `br` reads, by names that object_store does not know; they come after those that it knows.
pub(crate) const AZURE_ACCOUNT: &str = "AZURE_STORAGE_ACCOUNT";
pub(crate) const AZURE_KEY: &str = "AZURE_STORAGE_KEY";
/// `br`'s name for the key with which Azure encrypts.
pub(crate) const AZURE_ENCRYPTION_KEY: &str = "AZURE_ENCRYPTION_KEY";
/// Where a managed identity asks for its token, on App Service.
pub(crate) const IDENTITY_ENDPOINT: &str = "IDENTITY_ENDPOINT";

/// Where files of the AWS command and of `gcloud` are below.
#[cfg(any(feature = "s3", feature = "gcs"))]
pub(crate) const HOME: &str = "HOME";

/// A file of certificates to trust besides the system's.
pub(crate) const CA_FILE: &str = "LOGTIDE_CA_FILE";

/// The value of a variable.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The variables of a list that are there, by what object_store calls them.
#[cfg(feature = "remote")]
pub(crate) fn given<K: std::str::FromStr>(names: &'static [&'static str]) -> impl Iterator<Item = (K, String)> {
    names.iter().filter_map(|name| Some((name.to_ascii_lowercase().parse().ok()?, variable(name)?)))
}

/// Refuses variables that could not be sent, over some of which object_store panics.
#[cfg(feature = "remote")]
pub(crate) fn check(kind: Kind, url: &str) -> Result<(), StorageError> {
    for name in settings(kind).map(|setting| setting.name) {
        let value = match std::env::var(name) {
            Ok(value) => value,
            Err(std::env::VarError::NotPresent) => continue,
            Err(_) => return Err(bad(url, name, "it is not UTF-8", "set it to text, or unset it")),
        };
        if !holds_text(name) && !is_printable(&value) {
            return Err(bad(url, name, UNPRINTABLE, "set it to printable ASCII characters, or unset it"));
        }
        match name {
            _ if value.is_empty() => {}
            STS_ENDPOINT | POD | METADATA | AZURE_AUTHORITY | IDENTITY_ENDPOINT => {
                address_of(url, name, &value)?;
            }
            CONTAINER | AZURE_TENANT if !is_path(&value) => {
                return Err(bad(
                    url,
                    name,
                    "it is no part of an address",
                    "set it to what the service gave, or unset it",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(feature = "remote")]
fn is_path(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~?=&%".contains(&b))
}

/// The address of a server that a variable holds.
#[cfg(feature = "remote")]
pub(crate) fn address_of(url: &str, name: &'static str, text: &str) -> Result<url::Url, StorageError> {
    crate::endpoint::address(text).map_err(|reason| bad(url, name, &reason, "set it to https://host:port"))
}

/// True for the names of files and profiles, and for documents.
#[cfg(feature = "remote")]
fn holds_text(name: &str) -> bool {
    name.starts_with("GOOGLE_") || name.ends_with("_FILE") || name == PROFILE
}

/// An error about a variable. The reason must not repeat a secret.
#[cfg(feature = "remote")]
pub(crate) fn bad(url: &str, name: &'static str, reason: &str, remedy: &str) -> StorageError {
    StorageError::Variable { url: url.to_owned(), name, reason: reason.to_owned(), remedy: remedy.to_owned() }
}

/// Every variable that counts for a kind of storage.
pub(crate) fn settings(kind: Kind) -> impl Iterator<Item = Setting> {
    let lists: [&[&'static str]; 3] = match kind {
        Kind::S3 => [S3, S3_ENDPOINTS, &[KEY, SECRET, TOKEN, PROFILE, CREDENTIALS_FILE, CA_FILE]],
        Kind::Gcs => [GCS, &[], &[CA_FILE]],
        Kind::Azure => [AZURE, &[AZURE_ACCOUNT, AZURE_KEY, AZURE_ENCRYPTION_KEY, IDENTITY_ENDPOINT], &[CA_FILE]],
    };
    let setting = move |name| Setting { scheme: kind.scheme(), name, in_environment: true, refused: false };
    lists.into_iter().flatten().map(move |name| setting(name))
}
