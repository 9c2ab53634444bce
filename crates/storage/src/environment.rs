//! The variables of the environment that say something about storages: these and no others, for one that nobody was told
//! of must not change what a storage does. A variable that is empty is none.

use crate::Setting;
use crate::remote_url::Kind;

/// What object_store makes credentials of, by its names in small letters, and where it asks for them.
pub(crate) const S3: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    STS_ENDPOINT,
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
    "AWS_IMDSV1_FALLBACK",
];
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
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
];
/// What `br` reads, by names that object_store does not know; they come after those that it knows.
pub(crate) const AZURE_ACCOUNT: &str = "AZURE_STORAGE_ACCOUNT";
pub(crate) const AZURE_KEY: &str = "AZURE_STORAGE_KEY";
/// `br`'s name for the key with which Azure encrypts.
pub(crate) const AZURE_ENCRYPTION_KEY: &str = "AZURE_ENCRYPTION_KEY";
/// Where a managed identity asks for its token, on App Service.
pub(crate) const IDENTITY_ENDPOINT: &str = "IDENTITY_ENDPOINT";

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

/// Every variable that counts for a kind of storage.
pub(crate) fn settings(kind: Kind) -> impl Iterator<Item = Setting> {
    let lists: [&[&'static str]; 3] = match kind {
        Kind::S3 => [S3, S3_ENDPOINTS, &[PROFILE, CREDENTIALS_FILE, CA_FILE]],
        Kind::Gcs => [GCS, &[], &[CA_FILE]],
        Kind::Azure => [AZURE, &[AZURE_ACCOUNT, AZURE_KEY, AZURE_ENCRYPTION_KEY, IDENTITY_ENDPOINT], &[CA_FILE]],
    };
    let setting = move |name| Setting { scheme: kind.scheme(), name, in_environment: true, refused: false };
    lists.into_iter().flatten().map(move |name| setting(name))
}
