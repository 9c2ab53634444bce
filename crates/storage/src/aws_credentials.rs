//! Whose requests those to S3 are: keys of the URL, of a profile or of the environment, or the role that they take.

use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use url::Url;

use crate::aws_role::{Role, RoleCredentials};
use crate::connector::Connector;
use crate::environment::variable;
use crate::parameters::Parameters;
use crate::remote_url::RemoteUrl;
use crate::{StorageError, aws_profile, environment};

/// What in the environment says where credentials come from; the file of the AWS command comes after all of them but
/// the instance's metadata.
const OTHER_CREDENTIALS: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    WEB_IDENTITY,
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];
const WEB_IDENTITY: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";

/// A builder that knows what the environment says of credentials and region.
pub(crate) fn from_environment() -> AmazonS3Builder {
    let given = environment::given(environment::S3);
    given.fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value))
}

/// With the credentials of the URL, else those of the environment, else those of the machine; with the role that these
/// take, if the URL names one. The builder has its bucket, its region and its connector.
pub(crate) fn with_credentials(
    builder: AmazonS3Builder,
    remote: &RemoteUrl,
    connector: &Connector,
) -> Result<AmazonS3Builder, StorageError> {
    let parameters = &remote.parameters;
    let builder = with_keys(builder, parameters)?;
    match (parameters.get("role-arn"), parameters.get("external-id")) {
        (None, None) => Ok(builder),
        (None, Some(_)) => {
            Err(parameters.bad("external-id", "there is no role-arn", "add role-arn=…, or leave it out"))
        }
        // An identity that has no role yet takes this one.
        (Some(role), None) if is_mere_identity(parameters) => Ok(builder.with_config(AmazonS3ConfigKey::RoleArn, role)),
        (Some(role), external_id) => with_role(builder, remote, connector, (role, external_id)),
    }
}

fn with_keys(builder: AmazonS3Builder, parameters: &Parameters) -> Result<AmazonS3Builder, StorageError> {
    let (key, secret) = (parameters.get("access-key"), parameters.get("secret-access-key"));
    let token = parameters.get("session-token");
    match (key, secret) {
        (Some(_), Some(_)) if parameters.get("profile").is_some() => {
            Err(parameters.bad("profile", "there are keys too", "leave one of them out"))
        }
        (Some(key_id), Some(secret_key)) => {
            // Given whole, so that a session token of the environment is not mixed with keys of the URL.
            let (key_id, secret_key) = (key_id.to_owned(), secret_key.to_owned());
            let credential = AwsCredential { key_id, secret_key, token: token.map(str::to_owned) };
            Ok(builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential))))
        }
        (None, None) if token.is_none() => with_profile(builder, parameters),
        (Some(_), None) => Err(parameters.bad("access-key", "there is no secret-access-key", "write both or neither")),
        _ => Err(parameters.bad("secret-access-key", "there is no access-key", "write all credentials or none")),
    }
}

/// Keys of a profile, if one is named, or if there is a default one and the environment has no credentials of its own.
pub(crate) fn with_profile(builder: AmazonS3Builder, parameters: &Parameters) -> Result<AmazonS3Builder, StorageError> {
    let named = parameters.get("profile").map(str::to_owned);
    if named.is_none() && OTHER_CREDENTIALS.iter().any(|name| variable(name).is_some()) {
        return Ok(builder);
    }
    let named = named.or_else(|| variable(environment::PROFILE));
    let (profile, must_be) = (named.as_deref().unwrap_or("default"), named.is_some());
    let file = aws_profile::file().unwrap_or_default();
    let found = std::fs::read_to_string(&file).ok().and_then(|text| aws_profile::find(&text, profile));
    match found {
        Some(Ok(credential)) => Ok(builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)))),
        None | Some(Err(_)) if !must_be => Ok(builder),
        other => {
            let why = other.map_or("it is not there".to_owned(), |found| found.err().unwrap_or_default());
            let reason = format!("no credentials of '{profile}' in '{}': {why}", file.display());
            let remedy = "write its keys there, or set what `aws configure export-credentials --format env` prints";
            Err(parameters.bad("profile", &reason, remedy))
        }
    }
}

/// True if all that is known of us is a web identity without a role.
fn is_mere_identity(parameters: &Parameters) -> bool {
    let keys = parameters.get("access-key").or(parameters.get("profile")).is_some();
    let others = ["AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN"].iter().any(|name| variable(name).is_some());
    variable(WEB_IDENTITY).is_some() && !keys && !others
}

fn with_role(
    builder: AmazonS3Builder,
    remote: &RemoteUrl,
    connector: &Connector,
    (role, external_id): (&str, Option<&str>),
) -> Result<AmazonS3Builder, StorageError> {
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_default();
    // The domain of the partition in China.
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let endpoint = variable(environment::STS_ENDPOINT).unwrap_or_else(|| format!("https://sts.{region}.{domain}"));
    let endpoint = Url::parse(&endpoint).map_err(|e| {
        let reason = format!("'{}' is no URL: {e}", environment::STS_ENDPOINT);
        remote.parameters.bad("role-arn", &reason, "write https://host:port there")
    })?;
    // It is the way to the credentials that take the role.
    let taker = builder.clone().build().map_err(|e| remote.unopened(&e))?.credentials().clone();
    let (arn, external_id) = (role.to_owned(), external_id.map(str::to_owned));
    let role = Role { arn, external_id, endpoint, region, taker };
    let credentials = RoleCredentials::new(role, connector).map_err(|e| remote.unopened(&e))?;
    Ok(builder.with_credentials(Arc::new(credentials)))
}
