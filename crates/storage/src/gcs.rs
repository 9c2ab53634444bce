//! Google Cloud Storage.

use std::path::Path;

use object_store::ClientOptions;
use object_store::gcp::GoogleCloudStorageBuilder;

use crate::connector::{CA_FILE, Connector, retry};
use crate::credentials::From;
use crate::environment::variable;
use crate::gcs_acl::WithList;
use crate::parameters::{Known, Parameters};
use crate::remote_url::RemoteUrl;
use crate::{Storage, StorageError, credentials, environment, gcs_acl};

const FILE: &str = "credentials-file";
const BLOB: &str = "credentials-blob";
const ACL: &str = "predefined-acl";

/// The login of `gcloud`, below the home directory.
const LOGIN: &str = ".config/gcloud/application_default_credentials.json";
/// Of the interface that `br` uses.
const JSON_PATH: &str = "/storage/v1";

/// The parameters of `br`'s `gcs://` and our own.
pub(crate) const PARAMETERS: &[Known] = &[
    Known::plain("endpoint"),
    Known::plain(FILE).any_text(),
    Known::secret(BLOB).any_text(),
    Known::plain("storage-class"),
    Known::plain(CA_FILE).any_text(),
    Known::plain(ACL),
];

pub(crate) fn open(remote: &RemoteUrl) -> Result<Storage, StorageError> {
    let parameters = &remote.parameters;
    let mut builder = credentials(parameters)?.with_bucket_name(&remote.bucket).with_retry(retry());
    let connector = Connector::new(parameters)?;
    builder = match parameters.get(ACL).map(gcs_acl::list) {
        None => builder.with_http_connector(connector),
        Some(Some(list)) => builder.with_http_connector(WithList(connector, list)),
        Some(None) => {
            let remedy = "write private, projectPrivate, bucketOwnerRead, bucketOwnerFullControl, authenticatedRead or publicRead";
            return Err(parameters.bad(ACL, "there is no such access list", remedy));
        }
    };
    if let Some(endpoint) = parameters.get("endpoint") {
        let endpoint = remote.endpoint(endpoint)?;
        if endpoint.path().trim_end_matches('/') == JSON_PATH {
            let reason = "it is that of the JSON interface, and logtide uses the XML interface";
            return Err(parameters.bad("endpoint", reason, "leave /storage/v1 out"));
        }
        let endpoint = endpoint.as_str().trim_end_matches('/').to_owned();
        builder = builder.with_base_url(&endpoint);
        builder = builder.with_client_options(ClientOptions::new().with_allow_http(endpoint.starts_with("http:")));
    }
    let unopened = |e: object_store::Error| remote.unopened(&e);
    let inner = builder.clone().build().map_err(unopened)?.credentials().clone();
    let builder = builder.with_credentials(credentials::from(from(parameters), &inner));
    let store = builder.build().map_err(unopened)?;
    Ok(remote.storage(store, parameters.get("storage-class")))
}

/// Where credentials come from; the login of `gcloud` is where object_store looks for it.
fn from(parameters: &Parameters) -> From {
    let written = parameters.get(FILE).or(parameters.get(BLOB)).is_some();
    let login = || variable(environment::HOME).is_some_and(|home| Path::new(&home).join(LOGIN).exists());
    match environment::GCS.iter().any(|name| variable(name).is_some()) {
        _ if written => From::Said("the login of the URL"),
        true => From::Said("the login of GOOGLE_…"),
        false if login() => From::Said("the login of gcloud"),
        false => From::Machine,
    }
}

/// A builder with the credentials of the parameters, else of the environment.
fn credentials(parameters: &Parameters) -> Result<GoogleCloudStorageBuilder, StorageError> {
    let remedy = "give the JSON of a service account's key, or leave it out to use the environment";
    match (parameters.get(FILE), parameters.get(BLOB)) {
        (None, None) => Ok(from_environment()),
        (Some(file), None) => with_file(file).map_err(|reason| parameters.bad(FILE, &reason, remedy)),
        (None, Some(blob)) => with_blob(blob).map_err(|reason| parameters.bad(BLOB, &reason, remedy)),
        (Some(_), Some(_)) => Err(parameters.bad(BLOB, "there is a credentials-file too", "leave one of them out")),
    }
}

/// A builder that knows what the environment says of credentials.
pub(crate) fn from_environment() -> GoogleCloudStorageBuilder {
    let given = environment::given(environment::GCS);
    given.fold(GoogleCloudStorageBuilder::new(), |builder, (key, value)| builder.with_config(key, value))
}

/// A builder with given credentials, and no others: their JSON, or the name of a file that has it.
pub(crate) fn with_given(text: &str) -> Result<GoogleCloudStorageBuilder, String> {
    if text.trim_start().starts_with('{') { with_blob(text) } else { with_file(text) }
}

/// A file is either a service account's key or a person's login, and says which.
fn with_file(file: &str) -> Result<GoogleCloudStorageBuilder, String> {
    let bytes = std::fs::read(file).map_err(|e| format!("cannot read '{file}': {e}"))?;
    let kind = kind(&bytes).map_err(|e| format!("'{file}' is no JSON: {e}"))?;
    let builder = GoogleCloudStorageBuilder::new();
    match kind.as_deref() {
        None | Some("service_account") => Ok(builder.with_service_account_path(file)),
        Some("authorized_user") => Ok(builder.with_application_credentials(file)),
        Some(other) => Err(format!("'{file}' holds credentials of the kind '{other}', which logtide does not use")),
    }
}

/// The content of such a file, as `br` hands it to the stores (`credentials_blob`).
fn with_blob(blob: &str) -> Result<GoogleCloudStorageBuilder, String> {
    match kind(blob.as_bytes()).map_err(|e| format!("it is no JSON: {e}"))?.as_deref() {
        None | Some("service_account") => Ok(GoogleCloudStorageBuilder::new().with_service_account_key(blob)),
        Some("authorized_user") => {
            Err("it is a person's login, which is used from a file only (credentials-file)".to_owned())
        }
        Some(other) => Err(format!("it has credentials of the kind '{other}', which logtide does not use")),
    }
}

fn kind(json: &[u8]) -> serde_json::Result<Option<String>> {
    let document: serde_json::Value = serde_json::from_slice(json)?;
    Ok(document.get("type").and_then(serde_json::Value::as_str).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use logtide_model::Diagnose;

    #[test]
    fn the_json_of_a_key_opens_as_its_file_does() {
        let key = r#"{"private_key":"","private_key_id":"S3CRET","client_email":"","disable_oauth":true}"#;
        let storage = crate::open(&format!("gcs://b/p?credentials-blob={key}")).unwrap();
        assert_eq!(storage.url, "gcs://b/p");
        assert!(crate::task_url(&format!("gcs://b/p?credentials-blob={key}")).unwrap().contains("S3CRET"));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            format!("credentials-file={}", path.display())
        };
        for (parameters, name, says) in [
            ("predefined-acl=mine".to_owned(), "predefined-acl", "projectPrivate"),
            ("endpoint=http://h/storage/v1/".to_owned(), "endpoint", "leave"),
            ("credentials-file=/nowhere/x".to_owned(), "credentials-file", "/nowhere/x"),
            ("credentials-file=/x&credentials-blob={}".to_owned(), "credentials-blob", "one of them"),
            ("credentials-blob=S3CRET".to_owned(), "credentials-blob", "no JSON"),
            (r#"credentials-blob={"type":"authorized_user","x":"S3CRET"}"#.to_owned(), "credentials-blob", "file"),
            (r#"credentials-blob={"type":"external_account","x":"S3CRET"}"#.to_owned(), "credentials-blob", "account"),
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
