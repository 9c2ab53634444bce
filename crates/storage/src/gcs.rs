//! Google Cloud Storage.

use object_store::ClientOptions;
use object_store::gcp::GoogleCloudStorageBuilder;

use crate::connector::{CA_FILE, Connector, retry};
use crate::parameters::{Known, Parameters};
use crate::remote_url::RemoteUrl;
use crate::{Storage, StorageError};

/// The parameters of `br`'s `gcs://` and our own.
pub(crate) const PARAMETERS: &[Known] = &[
    Known::plain("endpoint"),
    Known::plain("credentials-file"),
    Known::plain("storage-class"),
    Known::plain(CA_FILE),
    Known::refused(
        "predefined-acl",
        "logtide sets no access lists",
        "leave it out, and give the bucket uniform access or a default access list",
    ),
];

pub(crate) fn open(remote: &RemoteUrl) -> Result<Storage, StorageError> {
    let parameters = &remote.parameters;
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(&remote.bucket)
        .with_retry(retry())
        .with_http_connector(Connector::new(parameters)?);
    if let Some(endpoint) = parameters.get("endpoint") {
        let endpoint = remote.endpoint(endpoint)?;
        let endpoint = endpoint.as_str().trim_end_matches('/').to_owned();
        builder = builder.with_base_url(&endpoint);
        builder = builder.with_client_options(ClientOptions::new().with_allow_http(endpoint.starts_with("http:")));
    }
    if let Some(file) = parameters.get("credentials-file") {
        builder = with_file(builder, parameters, file)?;
    }
    let store = builder.build().map_err(|e| remote.unopened(&e))?;
    Ok(remote.storage(store, parameters.get("storage-class")))
}

/// A file is either a service account's key or a person's login, and says which.
fn with_file(
    builder: GoogleCloudStorageBuilder,
    parameters: &Parameters,
    file: &str,
) -> Result<GoogleCloudStorageBuilder, StorageError> {
    let remedy = "name the JSON file of a service account's key, or leave it out to use the environment";
    let bad = |reason: String| parameters.bad("credentials-file", &reason, remedy);
    let bytes = std::fs::read(file).map_err(|e| bad(format!("cannot read '{file}': {e}")))?;
    let document: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|e| bad(format!("'{file}' is no JSON: {e}")))?;
    match document.get("type").and_then(serde_json::Value::as_str) {
        None | Some("service_account") => Ok(builder.with_service_account_path(file)),
        Some("authorized_user") => Ok(builder.with_application_credentials(file)),
        Some(other) => {
            Err(bad(format!("'{file}' holds credentials of the kind '{other}', which logtide does not use")))
        }
    }
}

#[cfg(test)]
mod tests {
    use logtide_model::Diagnose;

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            format!("credentials-file={}", path.display())
        };
        for (parameters, name, says) in [
            ("predefined-acl=private".to_owned(), "predefined-acl", "uniform access"),
            ("credentials-file=/nowhere/x".to_owned(), "credentials-file", "/nowhere/x"),
            (file("text", "S3CRET"), "credentials-file", "no JSON"),
            (file("other", r#"{"type":"external_account","x":"S3CRET"}"#), "credentials-file", "external_account"),
        ] {
            let error = crate::open(&format!("gs://b/p?{parameters}")).unwrap_err();
            let text = format!("{error} {}", error.remedy());
            assert!(text.contains(&format!("'{name}'")) && text.contains(says), "{parameters}: {text}");
            assert!(!text.contains("S3CRET"), "{text}");
        }
    }
}
