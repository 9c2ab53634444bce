//! The way to a service: one request after the other from a thread that may block, over HTTP with JSON both ways.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use logtide_model::{KmsError, KmsKey, SecretKey};
use object_store::client::{HttpClient, HttpRequest};
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use url::Url;

use crate::connector::{ANSWER_TIMEOUT, Connector, MESSAGE_LIMIT, explained};
use crate::parameters::Parameters;
use crate::trouble::{Trouble, of_answer};

/// The waits between tries: they hide blips; who needs the key tries again without end.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// A connection to a service. It has a thread of its own, so that a caller may wait for it wherever it is, in a runtime
/// or outside.
pub(crate) struct Line {
    pub(crate) subject: Subject,
    client: HttpClient,
    runtime: Option<Runtime>,
}

/// The key that it is all about, for messages.
#[derive(Clone)]
pub(crate) struct Subject(String);

impl Subject {
    pub(crate) fn of(key: &KmsKey) -> Self {
        Subject(key.key_id.clone())
    }

    /// An error that waiting does not repair.
    pub(crate) fn error(&self, what: impl fmt::Display) -> KmsError {
        KmsError { message: format!("the key '{}': {what}", self.0), retry: false }
    }

    /// One that it may.
    pub(crate) fn passing(&self, what: impl fmt::Display) -> KmsError {
        KmsError { retry: true, ..self.error(what) }
    }
}

/// What a service makes of a request.
pub(crate) trait Service: Clone + Send + Sync + 'static {
    /// The request of an operation, with credentials.
    fn request(
        &self,
        operation: &'static str,
        body: Vec<u8>,
    ) -> impl Future<Output = Result<HttpRequest, KmsError>> + Send;

    /// Code and message of a refusal.
    fn refusal(answer: &Value) -> (String, String);

    /// What somebody has to do about a code.
    fn remedy(code: &str) -> Option<&'static str>;
}

impl Line {
    pub(crate) fn new(key: &KmsKey, endpoint: &Url, connector: &Connector) -> Result<Self, KmsError> {
        let subject = Subject::of(key);
        let client = connector.client(endpoint.scheme() == "http", None).map_err(|e| subject.error(e))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("kms")
            .enable_all()
            .build()
            .map_err(|e| subject.passing(format!("no thread to ask for it: {e}")))?;
        Ok(Line { subject, client, runtime: Some(runtime) })
    }

    /// Asks, a few times if that may help, and waits for the answer.
    pub(crate) fn ask<S: Service>(
        &self,
        service: &S,
        operation: &'static str,
        body: &Value,
    ) -> Result<Value, KmsError> {
        let (client, service, subject) = (self.client.clone(), service.clone(), self.subject.clone());
        let body = body.to_string().into_bytes();
        let (sender, answer) = std::sync::mpsc::channel();
        let gone = || self.subject.passing("the thread that asks for it is gone");
        self.runtime.as_ref().ok_or_else(gone)?.spawn(async move {
            // Nobody waits no longer than there is an answer.
            let _ = sender.send(tries(&client, &service, &subject, operation, body).await);
        });
        answer.recv().map_err(|_| gone())?
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped where nothing may block.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject.0)
    }
}

async fn tries<S: Service>(
    client: &HttpClient,
    service: &S,
    subject: &Subject,
    operation: &'static str,
    body: Vec<u8>,
) -> Result<Value, KmsError> {
    let mut pauses = PAUSES.iter();
    loop {
        let request = service.request(operation, body.clone()).await?;
        match (once::<S>(client, subject, operation, request).await, pauses.next()) {
            (Err(error), Some(pause)) if error.retry => tokio::time::sleep(*pause).await,
            (answer, _) => return answer,
        }
    }
}

async fn once<S: Service>(
    client: &HttpClient,
    subject: &Subject,
    operation: &str,
    request: HttpRequest,
) -> Result<Value, KmsError> {
    let exchange = async {
        let (parts, body) = client.execute(request).await?.into_parts();
        Ok((parts.status.as_u16(), body.bytes().await?))
    };
    let (status, body) = match timeout(ANSWER_TIMEOUT, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(subject.passing(format!("{operation}: {}", explained(error)))),
        Err(_) => return Err(subject.passing(format!("{operation}: no answer within {ANSWER_TIMEOUT:?}"))),
    };
    let answer = serde_json::from_slice(&body);
    if (200..300).contains(&status) {
        return answer.map_err(|_| subject.passing(format!("{operation}: the answer is no JSON: is it the service?")));
    }
    let (code, message) = S::refusal(&answer.unwrap_or_default());
    Err(refused(subject, operation, status, (&code, &message), S::remedy(&code)))
}

fn refused(
    subject: &Subject,
    operation: &str,
    status: u16,
    (code, message): (&str, &str),
    remedy: Option<&str>,
) -> KmsError {
    let message: String = message.lines().next().unwrap_or_default().chars().take(MESSAGE_LIMIT).collect();
    let mut said = format!("{operation}: the service answered {status} {code}");
    for more in [Some(message.as_str()), remedy].into_iter().flatten().filter(|text| !text.is_empty()) {
        said.push_str(": ");
        said.push_str(more);
    }
    match of_answer(status, code, None) {
        Some(Trouble::RateLimited { .. } | Trouble::Unavailable) => subject.passing(said),
        _ => subject.error(said),
    }
}

/// The address of a service: scheme and host, perhaps a port and a path.
pub(crate) fn address(subject: &Subject, text: &str) -> Result<Url, KmsError> {
    crate::endpoint::address(text)
        .map_err(|reason| subject.error(format!("its ENDPOINT: {reason}: write https://host:port")))
}

/// Trusts what storages trust.
pub(crate) fn connector(subject: &Subject) -> Result<Connector, KmsError> {
    Connector::new(&no_parameters(subject)?).map_err(|e| subject.error(e))
}

/// As of a URL that has none.
pub(crate) fn no_parameters(subject: &Subject) -> Result<Parameters, KmsError> {
    Parameters::read("kms", "", &[]).map_err(|e| subject.error(e))
}

/// A POST of JSON of that type.
pub(crate) fn post(
    subject: &Subject,
    url: &Url,
    content: &'static str,
    body: Vec<u8>,
) -> Result<HttpRequest, KmsError> {
    let mut request = HttpRequest::new(body.into());
    *request.method_mut() = "POST".parse().map_err(|e| subject.error(e))?;
    *request.uri_mut() = url.as_str().parse().map_err(|e| subject.error(e))?;
    set(subject, &mut request, "content-type", content)?;
    Ok(request)
}

/// Sets a header. What cannot be one is not repeated.
pub(crate) fn set(
    subject: &Subject,
    request: &mut HttpRequest,
    name: &'static str,
    value: &str,
) -> Result<(), KmsError> {
    let value = value.parse().map_err(|_| subject.error(format!("its credentials make no header '{name}'")))?;
    request.headers_mut().insert(name, value);
    Ok(())
}

/// A field of an answer, read from Base64. It may be a key: the text is overwritten.
pub(crate) fn bytes(subject: &Subject, answer: &mut Value, field: &str) -> Result<Vec<u8>, KmsError> {
    let missing = || subject.passing(format!("the answer has no '{field}': is it the service?"));
    let text = String::deserialize(answer.get_mut(field).map(Value::take).ok_or_else(missing)?);
    let text = SecretKey::new(text.map_err(|_| missing())?);
    STANDARD.decode(text.expose()).map_err(|_| missing())
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_by_code_and_remedy_and_only_some_pass() {
        let subject = Subject("k".to_owned());
        let told = |status, code| refused(&subject, "Decrypt", status, (code, "why\nmore"), Some("do it"));
        for (status, code, retry) in [
            (400, "ThrottlingException", true),
            (429, "RESOURCE_EXHAUSTED", true),
            (500, "KMSInternalException", true),
            (503, "", true),
            (400, "NotFoundException", false),
            (400, "AccessDeniedException", false),
            (403, "PERMISSION_DENIED", false),
            (404, "NOT_FOUND", false),
        ] {
            let error = told(status, code);
            assert_eq!(error.retry, retry, "{error}");
            assert!(error.message.contains("'k'") && error.message.contains(code), "{error}");
            assert!(error.message.contains("why: do it") && !error.message.contains("more"), "{error}");
        }
    }
}
