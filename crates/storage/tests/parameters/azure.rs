//! What can be said about Azure Blob Storage.

use crate::row::Effect::{Asked, At, Header, NotAsked, PutHas, Shared};
use crate::row::Kept::{Field, Url};
use crate::row::Row;

/// A URL with an account, its key and one parameter more.
macro_rules! with_key {
    ($parameters:literal) => {
        concat!("azure://c/p?account-name=n&account-key=S+Y/&", $parameters)
    };
}

const SERVICE: &str = "n.blob.core.windows.net:443";
/// Where a machine of Azure's hands out credentials.
const METADATA: &str = "169.254.169.254";
const LOGIN: &str = "login.microsoftonline.com:443";

pub(crate) const PARAMETERS: &[Row] = &[
    Row::parameter(
        "endpoint",
        with_key!("endpoint=http://h.example:81/n"),
        Field("endpoint", "http://h.example:81/n"),
        &[At("h.example:81", "/n/c/p/o")],
    ),
    Row::parameter(
        "account-name",
        with_key!(""),
        Field("account_name", "n"),
        &[At(SERVICE, "/c/p/o"), PutHas("authorization", "SharedKey n:")],
    ),
    Row::parameter(
        "account-key",
        with_key!(""),
        Field("shared_key", "S+Y/"),
        &[Shared("n", "S+Y/"), NotAsked(METADATA)],
    ),
    Row::parameter(
        "sas-token",
        "azure://c/p?account-name=n&sas-token=sv%3D1%26sig%3Da%252Bb",
        Field("access_sig", "sv=1&sig=a%2Bb"),
        &[At(SERVICE, "/c/p/o?sv=1&sig=a%2Bb"), NotAsked(METADATA)],
    ),
    // As Azure's portal hands it out.
    Row::parameter(
        "sas-token",
        "azure://c/p?account-name=n&sas-token=?sv%3D1%26sig%3Da%252Bb",
        Field("access_sig", "?sv=1&sig=a%2Bb"),
        &[At(SERVICE, "/c/p/o?sv=1&sig=a%2Bb"), NotAsked(METADATA)],
    ),
    Row::parameter(
        "access-tier",
        with_key!("access-tier=Cool"),
        Field("storage_class", "Cool"),
        &[Header("x-ms-access-tier", "Cool")],
    ),
    Row::parameter(
        "encryption-key",
        with_key!("encryption-key=0123456789abcdef0123456789abcdef"),
        Field("encryption_key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
        &[
            Header("x-ms-encryption-key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
            Header("x-ms-encryption-key-sha256", "PrG9Q5lH63YpmOVmzMLgmceREYsvQFecxPfaK1Bht/k="),
            Header("x-ms-encryption-algorithm", "AES256"),
        ],
    ),
    Row::parameter(
        "encryption-key",
        with_key!("encryption-key=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
        Field("encryption_key_sha256", "PrG9Q5lH63YpmOVmzMLgmceREYsvQFecxPfaK1Bht/k="),
        &[Header("x-ms-encryption-key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")],
    ),
    Row::parameter("ca-file", with_key!("ca-file={dir}/ca.pem"), Url, &[At(SERVICE, "/c/p/o")])
        .within(&[("LOGTIDE_CA_FILE", "")]),
    Row::refused("encryption-scope", with_key!("encryption-scope=s"), "encryption_scope", "default"),
];

pub(crate) const VARIABLES: &[Row] = &[
    Row::variable(
        "AZURE_STORAGE_ACCOUNT",
        "azure://c/p",
        &[("AZURE_STORAGE_ACCOUNT", "n"), ("AZURE_STORAGE_KEY", "S+Y/")],
        &[At(SERVICE, "/c/p/o")],
    ),
    Row::variable(
        "AZURE_STORAGE_ACCOUNT_NAME",
        "azure://c/p",
        &[("AZURE_STORAGE_ACCOUNT_NAME", "n"), ("AZURE_STORAGE_KEY", "S+Y/")],
        &[At(SERVICE, "/c/p/o")],
    ),
    Row::variable(
        "AZURE_STORAGE_KEY",
        "azure://c/p?account-name=n",
        &[("AZURE_STORAGE_KEY", "S+Y/")],
        &[Shared("n", "S+Y/")],
    ),
    Row::variable(
        "AZURE_STORAGE_ACCOUNT_KEY",
        "azure://c/p?account-name=n",
        &[("AZURE_STORAGE_ACCOUNT_KEY", "S+Y/")],
        &[Shared("n", "S+Y/")],
    ),
    Row::variable(
        "AZURE_STORAGE_SAS_TOKEN",
        "azure://c/p?account-name=n",
        &[("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=a%2Bb")],
        &[At(SERVICE, "/c/p/o?sv=1&sig=a%2Bb")],
    ),
    // Credentials of the URL alone, if it has some.
    Row::variable(
        "AZURE_STORAGE_SAS_TOKEN",
        with_key!(""),
        &[("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=x")],
        &[Shared("n", "S+Y/")],
    ),
    Row::variable(
        "AZURE_CLIENT_ID",
        "azure://c/p?account-name=n",
        &[("AZURE_CLIENT_ID", "my-id"), ("AZURE_TENANT_ID", "my-tenant"), ("AZURE_CLIENT_SECRET", "my-secret")],
        &[Asked(LOGIN, "client_id=my-id"), PutHas("authorization", "Bearer GIVEN")],
    ),
    Row::variable(
        "AZURE_TENANT_ID",
        "azure://c/p?account-name=n",
        &[("AZURE_CLIENT_ID", "my-id"), ("AZURE_TENANT_ID", "my-tenant"), ("AZURE_CLIENT_SECRET", "my-secret")],
        &[Asked(LOGIN, "POST /my-tenant/oauth2/")],
    ),
    Row::variable(
        "AZURE_CLIENT_SECRET",
        "azure://c/p?account-name=n",
        &[("AZURE_CLIENT_ID", "my-id"), ("AZURE_TENANT_ID", "my-tenant"), ("AZURE_CLIENT_SECRET", "my-secret")],
        &[Asked(LOGIN, "client_secret=my-secret")],
    ),
    Row::variable(
        "AZURE_FEDERATED_TOKEN_FILE",
        "azure://c/p?account-name=n",
        &[
            ("AZURE_CLIENT_ID", "my-id"),
            ("AZURE_TENANT_ID", "my-tenant"),
            ("AZURE_FEDERATED_TOKEN_FILE", "{dir}/identity"),
        ],
        &[Asked(LOGIN, "client_assertion=who-I-am"), PutHas("authorization", "Bearer GIVEN")],
    ),
    Row::variable(
        "AZURE_AUTHORITY_HOST",
        "azure://c/p?account-name=n",
        &[
            ("AZURE_CLIENT_ID", "my-id"),
            ("AZURE_TENANT_ID", "my-tenant"),
            ("AZURE_CLIENT_SECRET", "my-secret"),
            ("AZURE_AUTHORITY_HOST", "https://login.example"),
        ],
        &[Asked("login.example:443", "client_secret=my-secret"), NotAsked(LOGIN)],
    ),
    Row::variable(
        "AZURE_ENCRYPTION_KEY",
        with_key!(""),
        &[("AZURE_ENCRYPTION_KEY", "0123456789abcdef0123456789abcdef")],
        &[Header("x-ms-encryption-key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")],
    ),
    Row::variable(
        "IDENTITY_ENDPOINT",
        "azure://c/p?account-name=n",
        &[("IDENTITY_ENDPOINT", "http://identity.example/token")],
        &[Asked("identity.example", "resource="), PutHas("authorization", "Bearer GIVEN"), NotAsked(METADATA)],
    ),
    Row::variable("LOGTIDE_CA_FILE", with_key!(""), &[("LOGTIDE_CA_FILE", "{dir}/ca.pem")], &[At(SERVICE, "/c/p/o")]),
];
