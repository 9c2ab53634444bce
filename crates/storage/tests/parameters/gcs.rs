//! What can be said about Google Cloud Storage.

use crate::row::Effect::{Asked, At, Header, NotAsked, PutHas};
use crate::row::Kept::{Field, Url};
use crate::row::Row;

/// A URL with the login of a person and one parameter more.
macro_rules! with_login {
    ($parameters:literal) => {
        concat!("gcs://b/p?credentials-file={dir}/login.json&", $parameters)
    };
}

/// One whose message is TiDB's: credentials are those of the machine.
macro_rules! of_machine {
    ($parameters:literal) => {
        concat!("gcs://b/p?", $parameters)
    };
}

/// Where a machine of Google's hands out credentials.
const METADATA: &str = "metadata.google.internal";
const LOGIN: &str = "accounts.google.com:443";
/// The JSON of a service account that needs no signature and has an address of its own, by which it is known.
const ACCOUNT: &str = r#"{"private_key":"","private_key_id":"","client_email":"","disable_oauth":true,"gcs_base_url":"http://account.example"}"#;

pub(crate) const PARAMETERS: &[Row] = &[
    Row::parameter(
        "endpoint",
        of_machine!("endpoint=http://h.example:81"),
        Field("endpoint", "http://h.example:81"),
        &[At("h.example:81", "/b/p%2Fo")],
    ),
    Row::parameter(
        "credentials-file",
        with_login!(""),
        Url,
        &[Asked(LOGIN, "refresh_token=of-login"), PutHas("authorization", "Bearer GIVEN"), NotAsked(METADATA)],
    ),
    Row::parameter(
        "credentials-file",
        "gcs://b/p?credentials-file={dir}/account.json",
        Url,
        &[At("account.example", "/b/p%2Fo")],
    ),
    Row::parameter(
        "credentials-blob",
        r#"gcs://b/p?credentials-blob={"private_key":"","private_key_id":"","client_email":"","disable_oauth":true,"gcs_base_url":"http://account.example"}"#,
        Field("credentials_blob", ACCOUNT),
        &[At("account.example", "/b/p%2Fo"), NotAsked(METADATA)],
    ),
    Row::parameter(
        "storage-class",
        of_machine!("storage-class=NEARLINE"),
        Field("storage_class", "NEARLINE"),
        &[Header("x-goog-storage-class", "NEARLINE"), Asked(METADATA, "/token")],
    ),
    Row::parameter(
        "ca-file",
        of_machine!("ca-file={dir}/ca.pem"),
        Url,
        &[At("storage.googleapis.com:443", "/b/p%2Fo")],
    )
    .within(&[("LOGTIDE_CA_FILE", "")]),
    Row::parameter(
        "predefined-acl",
        of_machine!("predefined-acl=projectPrivate"),
        Field("predefined_acl", "projectPrivate"),
        &[Header("x-goog-acl", "project-private")],
    ),
    Row::parameter(
        "predefined-acl",
        of_machine!("predefined-acl=bucket-owner-read"),
        Field("predefined_acl", "bucket-owner-read"),
        &[Header("x-goog-acl", "bucket-owner-read")],
    ),
];

pub(crate) const VARIABLES: &[Row] = &[
    Row::variable(
        "GOOGLE_SERVICE_ACCOUNT",
        "gcs://b/p",
        &[("GOOGLE_SERVICE_ACCOUNT", "{dir}/account.json")],
        &[At("account.example", "/b/p%2Fo")],
    ),
    Row::variable(
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "gcs://b/p",
        &[("GOOGLE_SERVICE_ACCOUNT_PATH", "{dir}/account.json")],
        &[At("account.example", "/b/p%2Fo")],
    ),
    Row::variable(
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "gcs://b/p",
        &[("GOOGLE_SERVICE_ACCOUNT_KEY", ACCOUNT)],
        &[At("account.example", "/b/p%2Fo")],
    ),
    Row::variable(
        "GOOGLE_APPLICATION_CREDENTIALS",
        "gcs://b/p",
        &[("GOOGLE_APPLICATION_CREDENTIALS", "{dir}/login.json")],
        &[Asked(LOGIN, "refresh_token=of-login"), PutHas("authorization", "Bearer GIVEN")],
    ),
    Row::variable(
        "LOGTIDE_CA_FILE",
        "gcs://b/p",
        &[("LOGTIDE_CA_FILE", "{dir}/ca.pem")],
        &[At("storage.googleapis.com:443", "/b/p%2Fo")],
    ),
];
