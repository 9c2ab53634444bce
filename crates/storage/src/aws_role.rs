//! Credentials of a role, from Amazon's security token service (`AssumeRole`, version 2011-06-15), renewed before they end.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector, HttpRequest};
use object_store::{ClientOptions, CredentialProvider, Error, Result};
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use crate::connector::{Connector, element};
use crate::parameters::is_printable;
use crate::trouble::{Answer, Trouble};

const SERVICE: &str = "sts";
/// As long as the service gives them to whom has a role already.
const LIFETIME: Duration = Duration::from_secs(3600);
/// From that age on new ones are asked for.
const RENEWED_AT: Duration = Duration::from_secs(3000);
/// What may be lost between the service's clock and the request that uses them.
const MARGIN: Duration = Duration::from_secs(60);
/// The name of our sessions in the logs of Amazon's.
const SESSION: &str = "logtide";

/// A role, and how to take it.
pub(crate) struct Role {
    pub(crate) arn: String,
    pub(crate) external_id: Option<String>,
    /// Where the service is.
    pub(crate) endpoint: Url,
    pub(crate) region: String,
    /// Who takes it.
    pub(crate) taker: AwsCredentialProvider,
}

/// The credentials of a role.
pub(crate) struct RoleCredentials {
    role: Role,
    client: HttpClient,
    /// What it gave last, and when it was asked.
    last: Mutex<Option<(Arc<AwsCredential>, Instant)>>,
}

impl RoleCredentials {
    pub(crate) fn new(role: Role, connector: &Connector) -> Result<Self> {
        let options = ClientOptions::new().with_allow_http(role.endpoint.scheme() == "http");
        Ok(RoleCredentials { client: connector.connect(&options)?, role, last: Mutex::default() })
    }

    async fn ask(&self) -> Result<AwsCredential, Box<dyn StdError + Send + Sync>> {
        let taker = self.role.taker.get_credential().await?;
        let (parts, body) = self.client.execute(self.role.request(&taker)?).await?.into_parts();
        let body = body.bytes().await?;
        let body = String::from_utf8_lossy(&body);
        if !parts.status.is_success() {
            let (status, said) = (parts.status.as_u16(), body.into_owned());
            return Err(Answer { status, said, trouble: Trouble::Denied }.into());
        }
        let part = |name: &str| element(&body, name).filter(|text| is_printable(text)).map(str::to_owned);
        match (part("AccessKeyId"), part("SecretAccessKey"), part("SessionToken")) {
            (Some(key_id), Some(secret_key), token) => Ok(AwsCredential { key_id, secret_key, token }),
            _ => Err("the answer has no credentials: is it the security token service?".into()),
        }
    }
}

#[async_trait]
impl CredentialProvider for RoleCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        let mut last = self.last.lock().await;
        let now = Instant::now();
        let aged = last.as_ref().map(|(credential, at)| (credential.clone(), now.duration_since(*at)));
        if let Some((credential, age)) = &aged
            && *age < RENEWED_AT
        {
            return Ok(credential.clone());
        }
        match (self.ask().await, aged) {
            (Ok(credential), _) => {
                let credential = Arc::new(credential);
                *last = Some((credential.clone(), now));
                Ok(credential)
            }
            // The next request asks again.
            (Err(_), Some((credential, age))) if age + MARGIN < LIFETIME => Ok(credential),
            (Err(source), _) => {
                let (role, endpoint) = (self.role.arn.clone(), self.role.endpoint.to_string());
                Err(Error::Generic { store: "S3", source: Box::new(NotTaken { role, endpoint, source }) })
            }
        }
    }
}

impl fmt::Debug for RoleCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoleCredentials({})", self.role.arn)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot take the role '{role}' at {endpoint}: {source}")]
struct NotTaken {
    role: String,
    endpoint: String,
    source: Box<dyn StdError + Send + Sync>,
}

impl Role {
    fn request(&self, taker: &AwsCredential) -> Result<HttpRequest, Box<dyn StdError + Send + Sync>> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", "AssumeRole").append_pair("Version", "2011-06-15");
        form.append_pair("RoleArn", &self.arn).append_pair("RoleSessionName", SESSION);
        form.append_pair("DurationSeconds", &LIFETIME.as_secs().to_string());
        if let Some(id) = &self.external_id {
            form.append_pair("ExternalId", id);
        }
        let mut request = HttpRequest::new(form.finish().into_bytes().into());
        *request.method_mut() = "POST".parse()?;
        *request.uri_mut() = self.endpoint.as_str().parse()?;
        request.headers_mut().insert("content-type", "application/x-www-form-urlencoded".parse()?);
        AwsAuthorizer::new(taker, SERVICE, &self.region).try_authorize(&mut request, None)?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::StaticCredentialProvider;
    use object_store::client::{HttpError, HttpErrorKind, HttpResponse, HttpResponseBody, HttpService};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// Gives keys with a number, as long as it is up.
    #[derive(Clone, Debug, Default)]
    struct Service(Arc<AtomicUsize>, Arc<AtomicBool>);

    #[async_trait]
    impl HttpService for Service {
        async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
            if self.1.load(Ordering::SeqCst) {
                return Err(HttpError::new(HttpErrorKind::Connect, std::io::Error::other("S3CRET-free")));
            }
            let number = self.0.fetch_add(1, Ordering::SeqCst);
            let body = format!("<AccessKeyId>K{number}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>");
            Ok(HttpResponse::new(HttpResponseBody::from(body)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_renewed_before_they_end_and_used_until_then() {
        let service = Service::default();
        let credential = AwsCredential { key_id: "k".into(), secret_key: "S3CRET".into(), token: None };
        let role = Role {
            arn: "arn:r".to_owned(),
            external_id: None,
            endpoint: "https://sts.example".parse().unwrap(),
            region: "r".to_owned(),
            taker: Arc::new(StaticCredentialProvider::new(credential)),
        };
        let given = RoleCredentials { role, client: HttpClient::new(service.clone()), last: Mutex::default() };
        let key = async || given.get_credential().await.map(|credential| credential.key_id.clone());
        // The minutes that pass, whether the service is away, and whose keys count then.
        for (minutes, away, expected) in [
            (0, false, Some("K0")),
            (49, false, Some("K0")),
            (2, true, Some("K0")),
            (7, true, Some("K0")),
            (1, true, None),
            (0, false, Some("K1")),
            (51, false, Some("K2")),
        ] {
            tokio::time::advance(Duration::from_secs(60 * minutes)).await;
            service.1.store(away, Ordering::SeqCst);
            let found = key().await;
            assert_eq!(found.as_deref().ok(), expected, "{found:?}");
            if let Err(error) = found {
                let text = format!("{error} {error:?} {given:?}");
                assert!(text.contains("'arn:r'") && !text.contains("\"S3CRET\""), "{text}");
            }
        }
    }
}
