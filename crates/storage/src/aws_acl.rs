//! The canned access list that S3 is asked to give to every object. S3 wants it signed: such requests are signed once more.

use async_trait::async_trait;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpErrorKind};
use object_store::client::{HttpRequest, HttpResponse, HttpService};
use object_store::{ClientOptions, Result};

use crate::access_list::ask_for;
use crate::connector::Connector;

const HEADER: &str = "x-amz-acl";
const DIGEST: &str = "x-amz-content-sha256";

/// The lists that an object may have.
const LISTS: &[&str] = &[
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];

/// The list of that name.
pub(crate) fn list(name: &str) -> Option<&'static str> {
    LISTS.iter().find(|list| **list == name).copied()
}

/// A connector whose clients ask for a list.
#[derive(Clone, Debug)]
pub(crate) struct WithList {
    pub(crate) connector: Connector,
    pub(crate) list: &'static str,
    pub(crate) region: String,
    pub(crate) credentials: AwsCredentialProvider,
}

impl HttpConnector for WithList {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        Ok(HttpClient::new(Asking { inner: self.connector.connect(options)?, with: self.clone() }))
    }
}

#[derive(Debug)]
struct Asking {
    inner: HttpClient,
    with: WithList,
}

#[async_trait]
impl HttpService for Asking {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if ask_for(self.with.list, HEADER, &mut request) {
            self.with.sign(&mut request).await.map_err(|e| HttpError::new(HttpErrorKind::Unknown, e))?;
        }
        self.inner.execute(request).await
    }
}

impl WithList {
    async fn sign(&self, request: &mut HttpRequest) -> Result<()> {
        let credential = self.credentials.get_credential().await?;
        // The sum of the body is in the first signature; a body of parts could not be read here.
        let digest = request.headers().get(DIGEST).and_then(|value| from_hex(value.to_str().ok()?));
        request.headers_mut().remove("authorization");
        let signer = AwsAuthorizer::new(&credential, "s3", &self.region).with_sign_payload(digest.is_some());
        signer.try_authorize(request, digest.as_deref())
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}
