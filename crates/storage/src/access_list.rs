//! Access lists that a storage is asked to give to every object. object_store has no word for them, so that the header is
//! added below it.

use object_store::client::HttpRequest;

/// Adds the header to a put, and to the begin of an upload in parts; not to a part. True if it was added.
pub(crate) fn ask_for(list: &'static str, header: &'static str, request: &mut HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let makes_object = match request.method().as_str() {
        "PUT" => !query.contains("uploadId="),
        "POST" => query.split('&').any(|part| part.trim_end_matches('=') == "uploads"),
        _ => false,
    };
    match list.parse() {
        Ok(value) if makes_object => {
            request.headers_mut().insert(header, value);
            true
        }
        _ => false,
    }
}
