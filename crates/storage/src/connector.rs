//! The HTTP client below S3, GCS and Azure: TLS, time limits, and what a refusal means.
//!
//! * TLS is rustls with ring, given to this client alone: a process that links logtide in keeps its own choice of a
//!   process-wide provider. Trusted are the system's certificates and those of an own file.
//! * A request may take as long as its body needs at a low rate; a download only must not stand still. One limit for all
//!   requests, as object_store has it, would break large uploads over a slow line for ever.
//! * A refusal becomes an [`Answer`] that [`crate::classify`] finds again, without what servers repeat of a request
//!   (string to sign, access key). When a storage asks for fewer requests, writes are not repeated here but given back:
//!   the flusher backs off for all of them together. Reads have nobody above them that would, and are repeated a few times.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpService};
use object_store::client::{HttpRequest, HttpResponse, HttpResponseBody};
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, Error, HeaderMap, Result, RetryConfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

use crate::environment::{CA_FILE as CA_FILE_VARIABLE, variable};
use crate::parameters::Parameters;
use crate::trouble::{Answer, Trouble, of_answer};
use crate::{StorageError, environment};

/// The parameter that names a file of certificates to trust, besides the system's.
pub(crate) const CA_FILE: &str = "ca-file";

/// Stands in the request with which Amazon's machines begin to hand out credentials.
const MACHINE_SESSION: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may think before it answers, and how long a download may stand still.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes a second below which an upload counts as stuck.
const SLOWEST_UPLOAD: u64 = 256 * 1024;
/// Longer messages of servers are cut.
pub(crate) const MESSAGE_LIMIT: usize = 200;

/// How often a request is repeated before its caller hears of it. Callers repeat without end; this only hides blips.
pub(crate) fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 2,
        retry_timeout: Duration::from_secs(30),
    }
}

/// Makes HTTP clients.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    tls: Arc<ClientConfig>,
}

impl Connector {
    /// One that trusts the system's certificates and those that the parameters or the environment name.
    pub(crate) fn new(parameters: &Parameters) -> Result<Self, StorageError> {
        let mut roots = RootCertStore::empty();
        // A machine without certificates can still reach what its own file vouches for, or what speaks plain HTTP.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let remedy = "name a readable PEM file of CA certificates in ca-file or LOGTIDE_CA_FILE";
        match (parameters.get(CA_FILE), variable(CA_FILE_VARIABLE)) {
            (Some(file), _) => add_file(&mut roots, file).map_err(|why| parameters.bad(CA_FILE, &why, remedy))?,
            (None, Some(file)) => add_file(&mut roots, &file)
                .map_err(|why| environment::bad(parameters.url(), CA_FILE_VARIABLE, &why, remedy))?,
            (None, None) => {}
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls =
            tls.map_err(|e| StorageError::Unopened { url: parameters.url().to_owned(), reason: e.to_string() })?;
        Ok(Connector { tls: Arc::new(tls.with_root_certificates(roots).with_no_client_auth()) })
    }

    /// A client, without or with a limit on how long a download may stand still.
    pub(crate) fn client(&self, allow_http: bool, read_timeout: Option<Duration>) -> Result<HttpClient> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured((*self.tls).clone())
            .connect_timeout(CONNECT_TIMEOUT)
            // A signature holds for one host; a redirect tells of a wrong region or endpoint.
            .redirect(reqwest::redirect::Policy::none())
            .https_only(!allow_http)
            .user_agent(concat!("logtide/", env!("CARGO_PKG_VERSION")));
        if let Some(limit) = read_timeout {
            builder = builder.read_timeout(limit);
        }
        let client = builder.build().map_err(|e| Error::Generic { store: "HTTP client", source: Box::new(e) })?;
        Ok(HttpClient::new(client))
    }
}

fn add_file(roots: &mut RootCertStore, file: &str) -> Result<(), String> {
    let found = CertificateDer::pem_file_iter(file).map_err(|e| format!("cannot read '{file}': {e}"))?;
    let before = roots.len();
    for certificate in found {
        let certificate = certificate.map_err(|e| format!("'{file}' is no PEM file of certificates: {e}"))?;
        roots.add(certificate).map_err(|e| format!("'{file}' holds a certificate that cannot be trusted: {e}"))?;
    }
    if roots.len() == before { Err(format!("'{file}' holds no certificate")) } else { Ok(()) }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let sending = self.client(allow_http, None)?;
        let asking = self.client(allow_http, Some(ANSWER_TIMEOUT))?;
        Ok(HttpClient::new(Service { sending, asking }))
    }
}

/// Two clients, for their time limits differ.
#[derive(Debug)]
struct Service {
    sending: HttpClient,
    asking: HttpClient,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let length = request.body().content_length() as u64;
        let is_safe = request.method().is_safe();
        // Whether the old way to a machine's credentials is tried, object_store decides by the answer to this.
        if request.headers().contains_key(MACHINE_SESSION) {
            return self.asking.execute(request).await.map_err(explained);
        }
        let client = if length > 0 { &self.sending } else { &self.asking };
        let limit = ANSWER_TIMEOUT + Duration::from_secs(length / SLOWEST_UPLOAD);
        match timeout(limit, client.execute(request)).await {
            Ok(Ok(response)) => judge(response, is_safe).await,
            Ok(Err(error)) => Err(explained(error)),
            Err(_) => Err(HttpError::new(HttpErrorKind::Timeout, NoAnswer(limit))),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no answer within {} seconds", .0.as_secs())]
struct NoAnswer(Duration);

/// An error with its causes in its text: callers show the text, and the cause (a refused connection, an unknown
/// certificate) is what a reader needs.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Explained {
    text: String,
    source: HttpError,
}

pub(crate) fn explained(error: HttpError) -> HttpError {
    let mut causes: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Some errors repeat their cause in their own text.
        causes.retain(|outer| !outer.contains(&text));
        causes.push(text);
        next = cause.source();
    }
    HttpError::new(error.kind(), Explained { text: causes.join(": "), source: error })
}

/// Lets pass what object_store understands, and makes an [`Answer`] of other refusals.
async fn judge(response: HttpResponse, is_safe: bool) -> Result<HttpResponse, HttpError> {
    let status = response.status();
    if status.is_success() || status.as_u16() == 304 {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    // A body that does not come says no more than one that is empty.
    let body = timeout(ANSWER_TIMEOUT, body.bytes()).await.ok().and_then(Result::ok).unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    let (code, message) = code_and_message(&parts.headers, &body);
    let said = said(status.is_redirection(), &parts.headers, &code, &message);
    match of_answer(status.as_u16(), &code, retry_after(&parts.headers)) {
        None => {
            parts.headers.remove("content-length");
            Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(said)))
        }
        Some(trouble) => {
            let answer = Answer { status: status.as_u16(), said, trouble };
            Err(HttpError::new(repeated_as(trouble, is_safe), answer))
        }
    }
}

/// The kind of error by which object_store knows whether to repeat a request.
fn repeated_as(trouble: Trouble, is_safe: bool) -> HttpErrorKind {
    match trouble {
        Trouble::RateLimited { .. } if is_safe => HttpErrorKind::Interrupted,
        Trouble::Unavailable => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    }
}

fn said(redirects: bool, headers: &HeaderMap, code: &str, message: &str) -> String {
    let region = headers.get("x-amz-bucket-region").and_then(|value| value.to_str().ok());
    let mut said = [code, message].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    match region {
        Some(region) if redirects => said.push_str(&format!(" (the bucket is in the region {region})")),
        _ if redirects => said.push_str(" (it sends elsewhere: check region and endpoint)"),
        _ => {}
    }
    said
}

/// Only seconds: the form with a date would need a clock, and no storage is known to use it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn code_and_message(headers: &HeaderMap, body: &str) -> (String, String) {
    let header = headers.get("x-ms-error-code").and_then(|value| value.to_str().ok());
    let code = element(body, "Code").or(header).unwrap_or_default();
    let plain = (!body.trim_start().starts_with('<')).then_some(body);
    let message = element(body, "Message").or(plain).unwrap_or_default();
    let message = message.trim().lines().next().unwrap_or_default().chars().take(MESSAGE_LIMIT).collect();
    (code.to_owned(), message)
}

/// What stands in the first element of a name. Error documents are flat.
pub(crate) fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_error_document_only_code_and_message_stay() {
        let body = "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>No.\nSECOND</Message>\
                    <AWSAccessKeyId>AKIA</AWSAccessKeyId><StringToSign>x</StringToSign></Error>";
        let found = code_and_message(&HeaderMap::new(), body);
        assert_eq!(found, ("SignatureDoesNotMatch".to_owned(), "No.".to_owned()));
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-error-code", "ServerBusy".parse().unwrap());
        assert_eq!(code_and_message(&headers, "").0, "ServerBusy");
        assert_eq!(code_and_message(&HeaderMap::new(), "<html>x</html>"), (String::new(), String::new()));
        assert_eq!(code_and_message(&HeaderMap::new(), "busy\n").1, "busy");
    }

    /// A server that takes a request and never answers.
    #[derive(Debug)]
    struct Silent;

    #[async_trait]
    impl HttpService for Silent {
        async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_take_as_long_as_its_body_needs_and_no_longer() {
        let service = Service { sending: HttpClient::new(Silent), asking: HttpClient::new(Silent) };
        for (length, seconds) in [(0, 30), (1024, 30), (64 << 20, 30 + 256)] {
            let began = tokio::time::Instant::now();
            let request = HttpRequest::new(vec![0; length].into());
            let error = service.call(request).await.unwrap_err();
            assert_eq!((error.kind(), began.elapsed().as_secs()), (HttpErrorKind::Timeout, seconds));
            assert!(error.to_string().contains(&format!("{seconds} seconds")), "{error}");
        }
    }

    #[test]
    fn a_redirect_names_the_region() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-bucket-region", "eu-west-1".parse().unwrap());
        assert!(said(true, &headers, "PermanentRedirect", "").contains("eu-west-1"));
        headers.insert("retry-after", "7".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
    }

    #[test]
    fn writes_are_not_repeated_when_the_storage_asks_for_less() {
        let slow = Trouble::RateLimited { retry_after: None };
        assert_eq!(repeated_as(slow, false), HttpErrorKind::Unknown);
        assert_eq!(repeated_as(slow, true), HttpErrorKind::Interrupted);
        assert_eq!(repeated_as(Trouble::Permanent, true), HttpErrorKind::Unknown);
    }
}
