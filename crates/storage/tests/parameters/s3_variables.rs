//! What the environment says of S3.

use crate::row::Effect::{Asked, At, Header, NotAsked, PutHas, Signed};
use crate::row::Row;
use crate::s3::{METADATA, STS};

const WITH_KEYS: &str = "s3://b/p?access-key=AKID&secret-access-key=SECRET";

pub(crate) const VARIABLES: &[Row] = &[
    Row::variable(
        "AWS_ACCESS_KEY_ID",
        "s3://b/p",
        &[("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "S")],
        &[PutHas("authorization", "Credential=E/"), NotAsked(METADATA)],
    ),
    Row::variable(
        "AWS_SECRET_ACCESS_KEY",
        "s3://b/p",
        &[("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "a+b/c")],
        &[Signed("a+b/c")],
    ),
    Row::variable(
        "AWS_SESSION_TOKEN",
        "s3://b/p",
        &[("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "S"), ("AWS_SESSION_TOKEN", "T")],
        &[Header("x-amz-security-token", "T")],
    ),
    // Keys of the URL are not mixed with a token of the environment.
    Row::variable(
        "AWS_SESSION_TOKEN",
        WITH_KEYS,
        &[("AWS_SESSION_TOKEN", "T")],
        &[PutHas("authorization", "SignedHeaders=host;x-amz-content-sha256;x-amz-date,")],
    ),
    Row::variable(
        "AWS_REGION",
        WITH_KEYS,
        &[("AWS_REGION", "eu-1"), ("AWS_DEFAULT_REGION", "eu-2")],
        &[At("s3.eu-1.amazonaws.com:443", "/b/p/o")],
    ),
    Row::variable(
        "AWS_DEFAULT_REGION",
        WITH_KEYS,
        &[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "eu-2")],
        &[At("s3.eu-2.amazonaws.com:443", "/b/p/o")],
    ),
    Row::variable(
        "AWS_ENDPOINT_URL_S3",
        WITH_KEYS,
        &[("AWS_ENDPOINT_URL_S3", "http://h.example"), ("AWS_ENDPOINT_URL", "http://i.example")],
        &[At("h.example", "/b/p/o")],
    ),
    Row::variable(
        "AWS_ENDPOINT_URL",
        WITH_KEYS,
        &[("AWS_ENDPOINT_URL", "http://h.example")],
        &[At("h.example", "/b/p/o")],
    ),
    Row::variable("AWS_ENDPOINT", WITH_KEYS, &[("AWS_ENDPOINT", "http://h.example")], &[At("h.example", "/b/p/o")]),
    Row::variable(
        "AWS_PROFILE",
        "s3://b/p",
        &[("AWS_PROFILE", "work"), ("AWS_SHARED_CREDENTIALS_FILE", "{dir}/credentials")],
        &[PutHas("authorization", "Credential=WORK/"), Signed("work-secret")],
    ),
    Row::variable(
        "AWS_SHARED_CREDENTIALS_FILE",
        "s3://b/p",
        &[("AWS_SHARED_CREDENTIALS_FILE", "{dir}/credentials")],
        &[PutHas("authorization", "Credential=DEFAULT/")],
    ),
    Row::variable(
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "s3://b/p",
        &[("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/identity"), ("AWS_ROLE_ARN", "role-of-env")],
        &[Asked(STS, "who-I-am"), PutHas("authorization", "Credential=GIVEN/")],
    ),
    Row::variable(
        "AWS_ROLE_ARN",
        "s3://b/p",
        &[("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/identity"), ("AWS_ROLE_ARN", "role-of-env")],
        &[Asked(STS, "role-of-env")],
    ),
    Row::variable(
        "AWS_ROLE_SESSION_NAME",
        "s3://b/p",
        &[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/identity"),
            ("AWS_ROLE_ARN", "role-of-env"),
            ("AWS_ROLE_SESSION_NAME", "my-session"),
        ],
        &[Asked(STS, "my-session")],
    ),
    Row::variable(
        "AWS_ENDPOINT_URL_STS",
        "s3://b/p",
        &[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/identity"),
            ("AWS_ROLE_ARN", "role-of-env"),
            ("AWS_ENDPOINT_URL_STS", "https://sts.example"),
        ],
        &[Asked("sts.example:443", "role-of-env"), NotAsked(STS)],
    ),
    Row::variable(
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "s3://b/p",
        &[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/container-credentials/1")],
        &[Asked("169.254.170.2", "/container-credentials/1"), PutHas("authorization", "Credential=GIVEN/")],
    ),
    Row::variable(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "s3://b/p",
        &[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://pod.example/container-credentials"),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "{dir}/identity"),
        ],
        &[Asked("pod.example", "/container-credentials"), PutHas("authorization", "Credential=GIVEN/")],
    ),
    Row::variable(
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "s3://b/p",
        &[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://pod.example/container-credentials"),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "{dir}/identity"),
        ],
        &[Asked("pod.example", "who-I-am")],
    ),
    Row::variable(
        "AWS_METADATA_ENDPOINT",
        "s3://b/p",
        &[("AWS_METADATA_ENDPOINT", "http://meta.example")],
        &[
            Asked("meta.example", "/latest/meta-data/iam/security-credentials/role"),
            PutHas("authorization", "Credential=GIVEN/"),
            NotAsked(METADATA),
        ],
    ),
    Row::variable(
        "AWS_IMDSV1_FALLBACK",
        "s3://b/p",
        &[("AWS_IMDSV1_FALLBACK", "true"), ("AWS_METADATA_ENDPOINT", "http://old.example")],
        &[
            Asked("old.example", "/latest/meta-data/iam/security-credentials/role"),
            PutHas("authorization", "Credential=GIVEN/"),
        ],
    ),
    Row::variable(
        "LOGTIDE_CA_FILE",
        WITH_KEYS,
        &[("LOGTIDE_CA_FILE", "{dir}/ca.pem")],
        &[At("s3.us-east-1.amazonaws.com:443", "/b/p/o")],
    ),
];
