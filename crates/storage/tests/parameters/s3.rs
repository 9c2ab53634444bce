//! What can be said about S3.

use crate::row::Effect::{Asked, At, Header, NotAsked, PutHas, Signed};
use crate::row::Kept::{Field, Url};
use crate::row::Row;

/// A URL with keys and one parameter more.
macro_rules! with_keys {
    ($parameters:literal) => {
        concat!("s3://b/p?access-key=AKID&secret-access-key=SECRET&", $parameters)
    };
}

/// Where a machine of Amazon's hands out credentials.
pub(crate) const METADATA: &str = "169.254.169.254";
pub(crate) const STS: &str = "sts.us-east-1.amazonaws.com:443";

pub(crate) const PARAMETERS: &[Row] = &[
    Row::parameter(
        "endpoint",
        with_keys!("endpoint=http://h.example:81/x/"),
        Field("endpoint", "http://h.example:81/x/"),
        &[At("h.example:81", "/x/b/p/o")],
    ),
    Row::parameter(
        "region",
        with_keys!("region=eu-west-3"),
        Field("region", "eu-west-3"),
        &[At("s3.eu-west-3.amazonaws.com:443", "/b/p/o"), PutHas("authorization", "/eu-west-3/s3/aws4_request")],
    ),
    Row::parameter(
        "access-key",
        with_keys!(""),
        Field("access_key", "AKID"),
        &[PutHas("authorization", "Credential=AKID/"), NotAsked(METADATA)],
    ),
    Row::parameter(
        "secret-access-key",
        "s3://b/p?access-key=AKID&secret-access-key=a+b/c%26d%25==",
        Field("secret_access_key", "a+b/c&d%=="),
        &[Signed("a+b/c&d%==")],
    ),
    Row::parameter(
        "session-token",
        with_keys!("session-token=a+b/c=="),
        Field("session_token", "a+b/c=="),
        &[Header("x-amz-security-token", "a+b/c==")],
    ),
    Row::parameter(
        "profile",
        "s3://b/p?profile=work",
        Field("profile", "work"),
        &[
            PutHas("authorization", "Credential=WORK/"),
            Signed("work-secret"),
            Header("x-amz-security-token", "work-token"),
        ],
    )
    .within(&[("AWS_SHARED_CREDENTIALS_FILE", "{dir}/credentials")]),
    Row::parameter(
        "force-path-style",
        with_keys!("endpoint=http://h.example&force-path-style=false"),
        Field("force_path_style", "false"),
        &[At("b.h.example", "/p/o")],
    ),
    Row::parameter(
        "force-path-style",
        with_keys!("endpoint=http://h.example&force-path-style=1"),
        Field("force_path_style", "true"),
        &[At("h.example", "/b/p/o")],
    ),
    Row::parameter(
        "use-accelerate-endpoint",
        with_keys!("use-accelerate-endpoint=true"),
        Url,
        &[At("b.s3-accelerate.amazonaws.com:443", "/p/o")],
    ),
    // An endpoint of the environment is for those who do not say where.
    Row::parameter(
        "use-accelerate-endpoint",
        with_keys!("use-accelerate-endpoint=true"),
        Url,
        &[At("b.s3-accelerate.amazonaws.com:443", "/p/o")],
    )
    .within(&[("AWS_ENDPOINT_URL_S3", "http://elsewhere.example")]),
    Row::parameter(
        "provider",
        with_keys!("endpoint=http://h.example&provider=alibaba"),
        Field("provider", "alibaba"),
        &[At("b.h.example", "/p/o")],
    ),
    // The provider wins over what is said of the style, in the message as with us.
    Row::parameter(
        "provider",
        with_keys!("endpoint=http://h.example&provider=tencent&force-path-style=true"),
        Field("force_path_style", "false"),
        &[At("b.h.example", "/p/o")],
    ),
    Row::parameter(
        "storage-class",
        with_keys!("storage-class=STANDARD_IA"),
        Field("storage_class", "STANDARD_IA"),
        &[Header("x-amz-storage-class", "STANDARD_IA")],
    ),
    Row::parameter(
        "sse",
        with_keys!("sse=AES256"),
        Field("sse", "AES256"),
        &[Header("x-amz-server-side-encryption", "AES256")],
    ),
    Row::parameter(
        "sse",
        with_keys!("sse=aws:kms:dsse"),
        Field("sse", "aws:kms:dsse"),
        &[Header("x-amz-server-side-encryption", "aws:kms:dsse")],
    ),
    Row::parameter(
        "sse-kms-key-id",
        with_keys!("sse=aws:kms&sse-kms-key-id=arn:aws:kms:r:1:key/k"),
        Field("sse_kms_key_id", "arn:aws:kms:r:1:key/k"),
        &[
            Header("x-amz-server-side-encryption", "aws:kms"),
            Header("x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:r:1:key/k"),
        ],
    ),
    Row::parameter(
        "object-lock-enabled",
        with_keys!("object-lock-enabled=true"),
        Field("object_lock_enabled", "true"),
        &[PutHas("x-amz-checksum-sha256", "=")],
    ),
    Row::parameter(
        "ca-file",
        with_keys!("ca-file={dir}/ca.pem"),
        Url,
        &[At("s3.us-east-1.amazonaws.com:443", "/b/p/o")],
    )
    .within(&[("LOGTIDE_CA_FILE", "")]),
    // By a web identity alone the role is taken with it.
    Row::parameter(
        "role-arn",
        "s3://b/p?role-arn=arn:aws:iam::1:role/r",
        Field("role_arn", "arn:aws:iam::1:role/r"),
        &[
            Asked(STS, "Action=AssumeRoleWithWebIdentity"),
            Asked(STS, "arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr"),
            PutHas("authorization", "Credential=GIVEN/"),
        ],
    )
    .within(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/identity")]),
    Row::parameter(
        "role-arn",
        with_keys!("role-arn=arn:aws:iam::1:role/r"),
        Field("role_arn", "arn:aws:iam::1:role/r"),
        &[
            Asked(STS, "Action=AssumeRole&"),
            Asked(STS, "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr"),
            Asked(STS, "Credential=AKID/"),
            PutHas("authorization", "Credential=GIVEN/"),
            Header("x-amz-security-token", "GIVEN-T"),
        ],
    ),
    // Who has a role already takes the other with it.
    Row::parameter(
        "role-arn",
        "s3://b/p?role-arn=second&region=eu-1",
        Field("role_arn", "second"),
        &[
            Asked("sts.eu-1.amazonaws.com:443", "RoleArn=first"),
            Asked("sts.eu-1.amazonaws.com:443", "RoleArn=second"),
            Asked("sts.eu-1.amazonaws.com:443", "Credential=GIVEN/"),
            PutHas("authorization", "Credential=GIVEN/"),
        ],
    )
    .within(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/identity"), ("AWS_ROLE_ARN", "first")]),
    Row::parameter(
        "external-id",
        with_keys!("role-arn=r&external-id=a+b%26"),
        Field("external_id", "a+b&"),
        &[Asked(STS, "ExternalId=a%2Bb%26")],
    ),
    // It is signed with the rest, by whose the credentials are.
    Row::parameter(
        "acl",
        with_keys!("acl=bucket-owner-full-control"),
        Field("acl", "bucket-owner-full-control"),
        &[Header("x-amz-acl", "bucket-owner-full-control"), PutHas("authorization", "x-amz-acl;"), Signed("SECRET")],
    ),
    Row::parameter(
        "acl",
        with_keys!("acl=private&session-token=T&role-arn=r&sse=AES256"),
        Field("acl", "private"),
        &[
            Header("x-amz-acl", "private"),
            Header("x-amz-server-side-encryption", "AES256"),
            PutHas("authorization", "Credential=GIVEN/"),
            Signed("s"),
        ],
    ),
];
