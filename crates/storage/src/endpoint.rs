//! Addresses of servers.

use object_store::client::HttpRequest;
use url::Url;

/// Scheme and host, and perhaps port and path; why not, otherwise, without a secret that may be in it.
pub(crate) fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("it is no URL: {e}"))?;
    let good = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    let is_server = good && url.host().is_some() && url.query().is_none() && url.fragment().is_none();
    // The client's own idea of an address is narrower, and object_store panics over it.
    let mut request = HttpRequest::new(Vec::new().into());
    match url.as_str().parse() {
        Ok(uri) if is_server => {
            *request.uri_mut() = uri;
            Ok(url)
        }
        _ => Err("it is not the address of a server".to_owned()),
    }
}
