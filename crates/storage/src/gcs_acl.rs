//! The access list that Google Cloud Storage is asked to give to every object.
//!
//! object_store has no word for it, so the header is added below it: requests to GCS are not signed.

use async_trait::async_trait;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};
use object_store::{ClientOptions, HeaderMap, Result};

use crate::connector::Connector;

const HEADER: &str = "x-goog-acl";

/// The lists that an object may have, as `br` writes them (those of the JSON interface) and as the XML interface does.
const LISTS: &[(&str, &str)] = &[
    ("private", "private"),
    ("projectPrivate", "project-private"),
    ("bucketOwnerRead", "bucket-owner-read"),
    ("bucketOwnerFullControl", "bucket-owner-full-control"),
    ("authenticatedRead", "authenticated-read"),
    ("publicRead", "public-read"),
];

/// The list of a name, in either spelling.
pub(crate) fn list(name: &str) -> Option<&'static str> {
    LISTS.iter().find(|(json, xml)| name == *json || name == *xml).map(|(_, xml)| *xml)
}

/// A connector whose clients ask for a list.
#[derive(Debug)]
pub(crate) struct WithList(pub(crate) Connector, pub(crate) &'static str);

impl HttpConnector for WithList {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        Ok(HttpClient::new(Asking { inner: self.0.connect(options)?, list: self.1 }))
    }
}

#[derive(Debug)]
struct Asking {
    inner: HttpClient,
    list: &'static str,
}

#[async_trait]
impl HttpService for Asking {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if makes_object(request.method().as_str(), request.uri().query().unwrap_or_default()) {
            add(request.headers_mut(), self.list);
        }
        self.inner.execute(request).await
    }
}

fn add(headers: &mut HeaderMap, list: &'static str) {
    if let Ok(list) = list.parse() {
        headers.insert(HEADER, list);
    }
}

/// A put, or the begin of an upload in parts; not a part.
fn makes_object(method: &str, query: &str) -> bool {
    match method {
        "PUT" => !query.contains("uploadId="),
        "POST" => query.split('&').any(|part| part.trim_end_matches('=') == "uploads"),
        _ => false,
    }
}
