//! Azure Blob Storage.

use base64::prelude::{BASE64_STANDARD, Engine};
use object_store::ClientOptions;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use crate::connector::{CA_FILE, Connector, retry};
use crate::credentials::From;
use crate::environment::variable;
use crate::parameters::{Known, Parameters};
use crate::remote_url::RemoteUrl;
use crate::{Storage, StorageError, credentials, environment};

/// The parameters of `br`'s `azure://` and our own.
pub(crate) const PARAMETERS: &[Known] = &[
    Known::plain("endpoint"),
    Known::plain("account-name"),
    Known::secret("account-key"),
    Known::secret("sas-token"),
    Known::plain("access-tier"),
    Known::secret("encryption-key"),
    Known::plain(CA_FILE).any_text(),
    Known::refused(
        "encryption-scope",
        "logtide cannot ask for a scope by object",
        "leave it out, and make the scope the container's default",
    ),
];

/// Of AES-256.
const KEY_BYTES: usize = 32;

pub(crate) fn open(remote: &RemoteUrl) -> Result<Storage, StorageError> {
    let parameters = &remote.parameters;
    let tier = tier(parameters)?;
    let mut builder = with_credentials(from_environment(), remote)?
        .with_container_name(&remote.bucket)
        .with_retry(retry())
        .with_http_connector(Connector::new(parameters)?);
    // It becomes a part of a host's name.
    let is_good = |account: &str| account.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !builder.get_config_value(&AzureConfigKey::AccountName).is_some_and(|account| is_good(&account)) {
        let remedy = "write account-name=…, or set AZURE_STORAGE_ACCOUNT, to the name of a storage account";
        return Err(parameters.bad("account-name", "it is not known whose container it is", remedy));
    }
    if let Some(endpoint) = parameters.get("endpoint") {
        let endpoint = remote.endpoint(endpoint)?;
        let endpoint = endpoint.as_str().trim_end_matches('/').to_owned();
        builder = builder.with_client_options(ClientOptions::new().with_allow_http(endpoint.starts_with("http:")));
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(key) = encryption_key(parameters)? {
        builder = builder.with_encryption_key(key);
    }
    let store = builder.clone().build().map_err(|e| remote.unopened(&e))?;
    let Some(from) = service(&builder) else { return Ok(remote.storage(store, tier)) };
    let builder = builder.with_credentials(credentials::from(from, store.credentials()));
    Ok(remote.storage(builder.build().map_err(|e| remote.unopened(&e))?, tier))
}

/// The tier of objects, as Azure writes it: one of those from which they can be read.
fn tier(parameters: &Parameters) -> Result<Option<&str>, StorageError> {
    let Some(given) = parameters.get("access-tier") else { return Ok(None) };
    let reason = "logtide reads what it wrote, and what is in the tier Archive cannot be read at once";
    let remedy = "write Hot, Cool or Cold, and let a rule of the account move old objects";
    match given.to_ascii_lowercase().as_str() {
        "hot" => Ok(Some("Hot")),
        "cool" => Ok(Some("Cool")),
        "cold" => Ok(Some("Cold")),
        "archive" => Err(parameters.bad("access-tier", reason, remedy)),
        _ => Ok(Some(given)),
    }
}

/// The service that hands out credentials, if nobody wrote some down.
fn service(builder: &MicrosoftAzureBuilder) -> Option<From> {
    let has = |key| builder.get_config_value(&key).is_some();
    if has(AzureConfigKey::AccessKey) || has(AzureConfigKey::SasKey) {
        return None;
    }
    let named = [environment::AZURE_IDENTITY, environment::AZURE_CLIENT_SECRET, environment::IDENTITY_ENDPOINT];
    Some(match named.into_iter().find(|name| variable(name).is_some()) {
        Some(environment::IDENTITY_ENDPOINT) => From::Said("the service of IDENTITY_ENDPOINT"),
        Some(_) => From::Said("the login of AZURE_CLIENT_ID"),
        None => From::Machine,
    })
}

/// A key of 32 bytes, which `br` takes as they are, and which may also be given in base64; in base64.
fn encryption_key(parameters: &Parameters) -> Result<Option<String>, StorageError> {
    let Some(key) =
        parameters.get("encryption-key").map(str::to_owned).or_else(|| variable(environment::AZURE_ENCRYPTION_KEY))
    else {
        return Ok(None);
    };
    if parameters.get("access-tier").is_some() {
        let reason = "Azure takes no tier for what is encrypted with a key of the customer";
        return Err(parameters.bad("access-tier", reason, "leave out the tier or the key"));
    }
    let decoded = || BASE64_STANDARD.decode(&key).is_ok_and(|bytes| bytes.len() == KEY_BYTES);
    match key.len() {
        KEY_BYTES => Ok(Some(BASE64_STANDARD.encode(key))),
        _ if decoded() => Ok(Some(key)),
        _ => {
            Err(parameters.bad("encryption-key", "it is not of 32 bytes", "give 32 characters, or 32 bytes in base64"))
        }
    }
}

/// A builder that knows what the environment says of the account and of credentials.
fn from_environment() -> MicrosoftAzureBuilder {
    let of_br = [
        (AzureConfigKey::AccountName, variable(environment::AZURE_ACCOUNT)),
        (AzureConfigKey::AccessKey, variable(environment::AZURE_KEY)),
        (AzureConfigKey::MsiEndpoint, variable(environment::IDENTITY_ENDPOINT)),
    ];
    let of_br = of_br.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let given = of_br.chain(environment::given(environment::AZURE));
    given.fold(MicrosoftAzureBuilder::new(), |builder, (key, value)| builder.with_config(key, value))
}

/// Credentials of the URL alone, if it has some; else those of the environment.
fn with_credentials(
    from_environment: MicrosoftAzureBuilder,
    remote: &RemoteUrl,
) -> Result<MicrosoftAzureBuilder, StorageError> {
    let (key, sas) = (remote.parameters.get("account-key"), remote.parameters.get("sas-token"));
    let account = remote.parameters.get("account-name").map(str::to_owned);
    let account = account.or_else(|| from_environment.get_config_value(&AzureConfigKey::AccountName));
    let builder = match (key, sas) {
        (None, None) => from_environment,
        (Some(_), Some(_)) => {
            return Err(remote.parameters.bad("sas-token", "there is an account-key too", "leave one of them out"));
        }
        (Some(key), None) => MicrosoftAzureBuilder::new().with_access_key(key),
        (None, Some(sas)) => MicrosoftAzureBuilder::new().with_config(AzureConfigKey::SasKey, sas),
    };
    Ok(match account {
        Some(account) => builder.with_account(account),
        None => builder,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::Location;
    use logtide_model::Diagnose;

    fn remote(parameters: &str) -> RemoteUrl {
        match Location::parse(&format!("azure://c/p?{parameters}")).unwrap() {
            Location::Remote(remote) => remote,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_given_as_it_is_or_in_base64() {
        let raw = "0123456789abcdef0123456789abcdef";
        let encoded = BASE64_STANDARD.encode(raw);
        for key in [raw, &encoded] {
            let found = encryption_key(&remote(&format!("encryption-key={key}")).parameters).unwrap();
            assert_eq!(found.as_deref(), Some(encoded.as_str()));
        }
    }

    #[test]
    fn credentials_of_the_url_are_not_mixed_with_others() {
        let environment = || MicrosoftAzureBuilder::new().with_account("e").with_access_key("RQ==").with_client_id("i");
        let get = |builder: &MicrosoftAzureBuilder, key| builder.get_config_value(&key);
        let url = with_credentials(environment(), &remote("account-name=u&sas-token=s%3D1")).unwrap();
        assert_eq!(get(&url, AzureConfigKey::AccountName).as_deref(), Some("u"));
        assert_eq!(get(&url, AzureConfigKey::SasKey).as_deref(), Some("s=1"));
        assert_eq!((get(&url, AzureConfigKey::AccessKey), get(&url, AzureConfigKey::ClientId)), (None, None));
        let key = with_credentials(environment(), &remote("account-key=VQ==")).unwrap();
        assert_eq!(get(&key, AzureConfigKey::AccountName).as_deref(), Some("e"));
        assert_eq!(get(&key, AzureConfigKey::AccessKey).as_deref(), Some("VQ=="));
        let none = with_credentials(environment(), &remote("account-name=u")).unwrap();
        assert_eq!(get(&none, AzureConfigKey::AccessKey).as_deref(), Some("RQ=="));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (parameters, name, says) in [
            ("", "account-name", "AZURE_STORAGE_ACCOUNT"),
            ("account-name=a&encryption-scope=s", "encryption-scope", "default"),
            ("account-name=a&account-key=VQ==&encryption-key=S3CRET", "encryption-key", "32"),
            (
                "account-name=a&encryption-key=0123456789abcdef0123456789abcdef&access-tier=Cool",
                "access-tier",
                "leave out",
            ),
            ("account-name=a&endpoint=ftp://h", "endpoint", "https://host"),
            ("account-name=a/b", "account-name", "AZURE_STORAGE_ACCOUNT"),
            ("account-name=a&account-key=VQ==&sas-token=S3CRET", "sas-token", "leave one"),
            ("account-name=a&access-tier=archive", "access-tier", "rule of the account"),
        ] {
            let error = crate::open(&format!("azure://c/p?{parameters}")).unwrap_err();
            let text = format!("{error} {}", error.remedy());
            assert!(text.contains(&format!("'{name}'")) && text.contains(says), "{parameters}: {text}");
            assert!(!text.contains("S3CRET"), "{text}");
        }
    }
}
