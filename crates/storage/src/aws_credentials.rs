//! Whose requests those to S3 are: keys of the URL, of a profile or of the environment, or the role that they take.

use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};

use crate::aws_role::{Role, RoleCredentials};
use crate::connector::{Connector, retry};
use crate::credentials::From;
use crate::environment::{CONTAINER, DEFAULT_REGION, KEY, POD, POD_TOKEN, PROFILE, REGION, ROLE, SECRET};
use crate::environment::{STS_ENDPOINT, TOKEN, WEB_IDENTITY, variable};
use crate::parameters::Parameters;
use crate::{StorageError, aws_profile, credentials, environment};

/// Without one `br` takes the same.
const NO_REGION: &str = "us-east-1";

/// A builder that knows what the environment says of region and services of credentials.
fn from_environment() -> AmazonS3Builder {
    let given = environment::given(environment::S3);
    given.fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value))
}

/// A builder for a bucket, with the credentials of its parameters, else those of the environment, else those of the
/// machine; with the role that these take, if a parameter names one.
pub(crate) fn builder(
    bucket: &str,
    region: Option<&str>,
    parameters: &Parameters,
    connector: &Connector,
) -> Result<AmazonS3Builder, StorageError> {
    let builder =
        from_environment().with_bucket_name(bucket).with_retry(retry()).with_http_connector(connector.clone());
    let builder = builder.with_region(self::region(region, parameters)?);
    let (role, external_id) = (parameters.get("role-arn"), parameters.get("external-id"));
    if role.is_none() && external_id.is_some() {
        return Err(parameters.bad("external-id", "there is no role-arn", "add role-arn=…, or leave it out"));
    }
    if let Some(keys) = keys(parameters)? {
        let builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(keys)));
        return with_role(builder, parameters, connector, (role, external_id));
    }
    match role {
        // An identity that has no role yet takes this one.
        Some(role) if external_id.is_none() && variable(WEB_IDENTITY).is_some() && variable(ROLE).is_none() => {
            of_service(builder.with_config(AmazonS3ConfigKey::RoleArn, role), parameters, true)
        }
        role => {
            let builder = of_service(builder, parameters, false)?;
            with_role(builder, parameters, connector, (role, external_id))
        }
    }
}

/// The region that is asked for, else that of the parameters, else that of the environment.
fn region(asked: Option<&str>, parameters: &Parameters) -> Result<String, StorageError> {
    // It becomes a part of a host's name.
    let is_good = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let (reason, remedy) = ("there is no such region", "write one as us-east-1");
    if let Some(given) = asked.or(parameters.get("region")) {
        return if is_good(given) { Ok(given.to_owned()) } else { Err(parameters.bad("region", reason, remedy)) };
    }
    match [REGION, DEFAULT_REGION].iter().find_map(|name| Some((*name, variable(name)?))) {
        Some((_, given)) if is_good(&given) => Ok(given),
        Some((name, _)) => Err(environment::bad(parameters.url(), name, reason, remedy)),
        None => Ok(NO_REGION.to_owned()),
    }
}

/// Keys that somebody wrote down: in the URL, in the profile that it names, in the environment, in a profile.
fn keys(parameters: &Parameters) -> Result<Option<AwsCredential>, StorageError> {
    let (key, secret) = (parameters.get("access-key"), parameters.get("secret-access-key"));
    let (token, profile) = (parameters.get("session-token"), parameters.get("profile"));
    match (key, secret, profile) {
        (Some(_), Some(_), Some(_)) => Err(parameters.bad("profile", "there are keys too", "leave one of them out")),
        (Some(key_id), Some(secret_key), None) => {
            // Taken whole, so that a session token of the environment is not mixed with keys of the URL.
            let (key_id, secret_key) = (key_id.to_owned(), secret_key.to_owned());
            Ok(Some(AwsCredential { key_id, secret_key, token: token.map(str::to_owned) }))
        }
        (None, None, _) if token.is_none() => match profile {
            Some(profile) => of_profile(profile).map(Some).map_err(|(reason, remedy)| {
                parameters.bad("profile", &reason, remedy) //
            }),
            None => of_environment(parameters.url()),
        },
        (Some(_), None, _) => {
            Err(parameters.bad("access-key", "there is no secret-access-key", "write both or neither"))
        }
        _ => Err(parameters.bad("secret-access-key", "there is no access-key", "write all credentials or none")),
    }
}

fn of_environment(url: &str) -> Result<Option<AwsCredential>, StorageError> {
    let half = |name, other: &str| environment::bad(url, name, &format!("there is no {other}"), "set both or neither");
    match (variable(KEY), variable(SECRET)) {
        (Some(key_id), Some(secret_key)) => {
            return Ok(Some(AwsCredential { key_id, secret_key, token: variable(TOKEN) }));
        }
        (Some(_), None) => return Err(half(KEY, SECRET)),
        (None, Some(_)) => return Err(half(SECRET, KEY)),
        (None, None) => {}
    }
    // Services come before the file of the AWS command.
    if [WEB_IDENTITY, CONTAINER, POD].iter().any(|name| variable(name).is_some()) {
        return Ok(None);
    }
    match variable(PROFILE) {
        Some(named) => {
            let bad = |(reason, remedy): (String, _)| environment::bad(url, PROFILE, &reason, remedy);
            of_profile(&named).map(Some).map_err(bad)
        }
        None => Ok(of_profile("default").ok()),
    }
}

/// The keys of a profile; why not, otherwise, and what to do about it.
fn of_profile(profile: &str) -> Result<AwsCredential, (String, &'static str)> {
    let file = aws_profile::file().unwrap_or_default();
    let text = std::fs::read_to_string(&file).map_err(|e| e.to_string());
    let found = text.and_then(|text| aws_profile::find(&text, profile).ok_or("it is not there".to_owned())?);
    found.map_err(|why| {
        let remedy = "write its keys there, or set what `aws configure export-credentials --format env` prints";
        (format!("no credentials of '{profile}' in '{}': {why}", file.display()), remedy)
    })
}

/// With the credentials of a service that the environment names, else of the machine. What it names must be whole.
fn of_service(
    builder: AmazonS3Builder,
    parameters: &Parameters,
    has_role: bool,
) -> Result<AmazonS3Builder, StorageError> {
    let missing = |name, other: &str| {
        environment::bad(parameters.url(), name, &format!("there is no {other}"), "set both or neither")
    };
    let from = match [WEB_IDENTITY, CONTAINER, POD].into_iter().find(|name| variable(name).is_some()) {
        Some(WEB_IDENTITY) if !has_role && variable(ROLE).is_none() => return Err(missing(WEB_IDENTITY, ROLE)),
        Some(WEB_IDENTITY) => {
            From::Said("the token service, which is shown the identity of AWS_WEB_IDENTITY_TOKEN_FILE,")
        }
        Some(POD) if variable(POD_TOKEN).is_none() => return Err(missing(POD, POD_TOKEN)),
        Some(_) => From::Said("the service of AWS_CONTAINER_CREDENTIALS_…"),
        None => From::Machine,
    };
    let inner = provider(&builder, parameters)?;
    Ok(builder.with_credentials(credentials::from(from, &inner)))
}

/// The credentials that a builder would use.
pub(crate) fn provider(
    builder: &AmazonS3Builder,
    parameters: &Parameters,
) -> Result<AwsCredentialProvider, StorageError> {
    let unopened =
        |e: object_store::Error| StorageError::Unopened { url: parameters.url().to_owned(), reason: e.to_string() };
    Ok(builder.clone().build().map_err(unopened)?.credentials().clone())
}

fn with_role(
    builder: AmazonS3Builder,
    parameters: &Parameters,
    connector: &Connector,
    (role, external_id): (Option<&str>, Option<&str>),
) -> Result<AmazonS3Builder, StorageError> {
    let Some(role) = role else { return Ok(builder) };
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_default();
    // The domain of the partition in China.
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let endpoint = variable(STS_ENDPOINT).unwrap_or_else(|| format!("https://sts.{region}.{domain}"));
    let endpoint = environment::address_of(parameters.url(), STS_ENDPOINT, &endpoint)?;
    let taker = provider(&builder, parameters)?;
    let (arn, external_id) = (role.to_owned(), external_id.map(str::to_owned));
    let role = Role { arn, external_id, endpoint, region, taker };
    let credentials = RoleCredentials::new(role, connector);
    let unopened =
        |e: object_store::Error| StorageError::Unopened { url: parameters.url().to_owned(), reason: e.to_string() };
    Ok(builder.with_credentials(Arc::new(credentials.map_err(unopened)?)))
}
