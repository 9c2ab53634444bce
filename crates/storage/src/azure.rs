//! Azure Blob Storage.

use object_store::ClientOptions;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use crate::connector::{CA_FILE, Connector, retry};
use crate::parameters::Known;
use crate::remote_url::RemoteUrl;
use crate::{Storage, StorageError};

/// The parameters of `br`'s `azure://` and our own.
pub(crate) const PARAMETERS: &[Known] = &[
    Known::plain("endpoint"),
    Known::plain("account-name"),
    Known::secret("account-key"),
    Known::secret("sas-token"),
    Known::plain("access-tier"),
    Known::secret("encryption-key"),
    Known::plain(CA_FILE),
    Known::refused(
        "encryption-scope",
        "logtide cannot ask for a scope by object",
        "leave it out, and make the scope the container's default",
    ),
];

/// What `br` reads, by names that object_store does not know.
const ENVIRONMENT: &[(&str, AzureConfigKey)] =
    &[("AZURE_STORAGE_ACCOUNT", AzureConfigKey::AccountName), ("AZURE_STORAGE_KEY", AzureConfigKey::AccessKey)];

pub(crate) fn open(remote: &RemoteUrl) -> Result<Storage, StorageError> {
    let parameters = &remote.parameters;
    let mut builder = with_credentials(MicrosoftAzureBuilder::from_env(), remote)
        .with_container_name(&remote.bucket)
        .with_retry(retry())
        .with_http_connector(Connector::new(parameters)?);
    if builder.get_config_value(&AzureConfigKey::AccountName).is_none() {
        let remedy = "add account-name=…, or set AZURE_STORAGE_ACCOUNT";
        return Err(parameters.bad("account-name", "it is not known whose container it is", remedy));
    }
    if let Some(endpoint) = parameters.get("endpoint") {
        let endpoint = remote.endpoint(endpoint)?;
        let endpoint = endpoint.as_str().trim_end_matches('/').to_owned();
        builder = builder.with_client_options(ClientOptions::new().with_allow_http(endpoint.starts_with("http:")));
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(key) = parameters.get("encryption-key") {
        builder = builder.with_encryption_key(key);
    }
    let store = builder.build().map_err(|e| remote.unopened(&e))?;
    Ok(remote.storage(store, parameters.get("access-tier")))
}

/// Credentials of the URL alone, if it has some; else those of the environment.
fn with_credentials(from_environment: MicrosoftAzureBuilder, remote: &RemoteUrl) -> MicrosoftAzureBuilder {
    let (key, sas) = (remote.parameters.get("account-key"), remote.parameters.get("sas-token"));
    let mut builder = from_environment;
    if key.is_some() || sas.is_some() {
        let account = account(&builder);
        builder = MicrosoftAzureBuilder::new();
        if let Some(account) = account {
            builder = builder.with_account(account);
        }
    } else {
        for (variable, config) in ENVIRONMENT {
            match std::env::var(variable) {
                Ok(value) if builder.get_config_value(config).is_none() => {
                    builder = builder.with_config(*config, value)
                }
                _ => {}
            }
        }
    }
    if let Some(account) = remote.parameters.get("account-name") {
        builder = builder.with_account(account);
    }
    match (key, sas) {
        (Some(key), _) => builder.with_access_key(key),
        (None, Some(sas)) => builder.with_config(AzureConfigKey::SasKey, sas),
        (None, None) => builder,
    }
}

fn account(builder: &MicrosoftAzureBuilder) -> Option<String> {
    let named = builder.get_config_value(&AzureConfigKey::AccountName);
    named.or_else(|| std::env::var("AZURE_STORAGE_ACCOUNT").ok())
}
