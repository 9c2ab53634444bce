//! The access list that Google Cloud Storage is asked to give to every object. Requests to it are not signed.

use async_trait::async_trait;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};
use object_store::{ClientOptions, Result};

use crate::access_list::ask_for;
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
        ask_for(self.list, HEADER, &mut request);
        self.inner.execute(request).await
    }
}
