//! S3 and what speaks its protocol.

use object_store::ClientOptions;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};

use crate::aws_acl::WithList;
use crate::connector::{CA_FILE, Connector};
use crate::environment::variable;
use crate::parameters::{Known, Parameters};
use crate::remote_url::RemoteUrl;
use crate::{Storage, StorageError, aws_acl, aws_credentials, environment};

/// The parameters of `br`'s `s3://` and our own.
pub(crate) const PARAMETERS: &[Known] = &[
    Known::plain("endpoint"),
    Known::plain("region"),
    Known::secret("access-key"),
    Known::secret("secret-access-key"),
    Known::secret("session-token"),
    Known::plain("profile").any_text(),
    Known::plain("force-path-style"),
    Known::plain("use-accelerate-endpoint"),
    Known::plain("provider"),
    Known::plain("storage-class"),
    Known::plain("sse"),
    Known::plain("sse-kms-key-id"),
    Known::plain("role-arn"),
    // It keeps others from taking the role by mistake.
    Known::secret("external-id"),
    Known::plain("object-lock-enabled"),
    Known::plain(CA_FILE).any_text(),
    Known::plain("acl"),
];

/// Providers that serve a bucket at a host of its own only; so says `br`.
const BY_HOST: &[&str] = &["alibaba", "netease", "tencent"];

const ENCRYPTION: &str = "aws_server_side_encryption";

pub(crate) fn open(remote: &RemoteUrl) -> Result<Storage, StorageError> {
    let parameters = &remote.parameters;
    let connector = Connector::new(parameters)?;
    let builder = aws_credentials::builder(&remote.bucket, None, parameters, &connector)?;
    let builder = with_encryption(with_address(builder, remote)?, parameters)?;
    let builder = with_access_list(builder, parameters, &connector)?;
    let store = builder.build().map_err(|e| remote.unopened(&e))?;
    Ok(remote.storage(store, class(parameters)?))
}

/// The builder has its credentials.
fn with_access_list(
    builder: AmazonS3Builder,
    parameters: &Parameters,
    connector: &Connector,
) -> Result<AmazonS3Builder, StorageError> {
    let Some(given) = parameters.get("acl") else { return Ok(builder) };
    let Some(list) = aws_acl::list(given) else {
        let remedy = "write private, bucket-owner-read, bucket-owner-full-control, authenticated-read, aws-exec-read, public-read or public-read-write";
        return Err(parameters.bad("acl", "there is no such access list", remedy));
    };
    let credentials = aws_credentials::provider(&builder, parameters)?;
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_default();
    Ok(builder.with_http_connector(WithList { connector: connector.clone(), list, region, credentials }))
}

/// The storage class of objects: one of those from which they can be read.
fn class(parameters: &Parameters) -> Result<Option<&str>, StorageError> {
    match parameters.get("storage-class") {
        Some(class @ ("GLACIER" | "DEEP_ARCHIVE")) => {
            let reason = format!("logtide reads what it wrote, and what is in {class} cannot be read at once");
            let remedy = "write another, as GLACIER_IR, and let a rule of the bucket move old objects";
            Err(parameters.bad("storage-class", &reason, remedy))
        }
        class => Ok(class),
    }
}

/// Where the bucket is, and whether its name stands in the host or in the path.
fn with_address(builder: AmazonS3Builder, remote: &RemoteUrl) -> Result<AmazonS3Builder, StorageError> {
    let (parameters, bucket) = (&remote.parameters, &remote.bucket);
    let in_host = in_host(parameters)?;
    let builder = builder.with_virtual_hosted_style_request(in_host);
    if parameters.flag("use-accelerate-endpoint")? == Some(true) {
        if parameters.get("endpoint").is_some() {
            return Err(parameters.bad("use-accelerate-endpoint", "there is an endpoint too", "leave one of them out"));
        }
        return Ok(builder.with_endpoint(format!("https://{bucket}.s3-accelerate.amazonaws.com")));
    }
    let named = || environment::S3_ENDPOINTS.iter().find_map(|name| Some((*name, variable(name)?)));
    let mut address = match (parameters.get("endpoint"), named()) {
        (Some(endpoint), _) => remote.endpoint(endpoint)?,
        (None, Some((name, endpoint))) => environment::address_of(parameters.url(), name, &endpoint)?,
        (None, None) => return Ok(builder),
    };
    if in_host {
        let host = format!("{bucket}.{}", address.host_str().unwrap_or_default());
        let reason = format!("'{host}' is no host");
        let remedy = "add force-path-style=true, or name another endpoint";
        address.set_host(Some(&host)).map_err(|_| parameters.bad("endpoint", &reason, remedy))?;
    }
    let address = address.as_str().trim_end_matches('/');
    let options = ClientOptions::new().with_allow_http(address.starts_with("http:"));
    // The one for S3 alone wins over the general one, wherever either comes from.
    Ok(builder.with_config(AmazonS3ConfigKey::S3Endpoint, address).with_client_options(options))
}

fn in_host(parameters: &Parameters) -> Result<bool, StorageError> {
    if parameters.flag("use-accelerate-endpoint")? == Some(true) {
        return Ok(true);
    }
    let by_host = parameters.get("provider").is_some_and(|provider| BY_HOST.contains(&provider));
    Ok(by_host || parameters.flag("force-path-style")? == Some(false))
}

fn with_encryption(builder: AmazonS3Builder, parameters: &Parameters) -> Result<AmazonS3Builder, StorageError> {
    let builder = match (parameters.get("sse"), parameters.get("sse-kms-key-id")) {
        (None, None) => builder,
        (Some(kind @ ("AES256" | "aws:kms" | "aws:kms:dsse")), None) => with_named(builder, ENCRYPTION, kind),
        (Some("aws:kms"), Some(key)) => builder.with_sse_kms_encryption(key),
        (Some("aws:kms:dsse"), Some(key)) => builder.with_dsse_kms_encryption(key),
        (_, Some(_)) => return Err(parameters.bad("sse-kms-key-id", "sse is not aws:kms", "add sse=aws:kms")),
        (Some(_), None) => {
            return Err(parameters.bad("sse", "there is no such encryption", "write AES256, aws:kms or aws:kms:dsse"));
        }
    };
    // A bucket that locks its objects accepts only puts with a checksum.
    match parameters.flag("object-lock-enabled")? {
        Some(true) => Ok(builder.with_checksum_algorithm(Checksum::SHA256)),
        _ => Ok(builder),
    }
}

/// Sets what object_store names by a string only. A test holds that it knows the names that are used here.
fn with_named(builder: AmazonS3Builder, name: &str, value: &str) -> AmazonS3Builder {
    match name.parse() {
        Ok(key) => builder.with_config(key, value),
        Err(_) => builder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::Location;
    use logtide_model::Diagnose;

    fn remote(url: &str) -> RemoteUrl {
        match Location::parse(url).unwrap() {
            Location::Remote(remote) => remote,
            other => panic!("{other:?}"),
        }
    }

    fn addressed(url: &str) -> AmazonS3Builder {
        with_address(AmazonS3Builder::new().with_bucket_name("b"), &remote(url)).unwrap()
    }

    fn endpoint(url: &str) -> (Option<String>, Option<String>) {
        let builder = addressed(url);
        let get = |key| builder.get_config_value(&key);
        (
            get(AmazonS3ConfigKey::S3Endpoint).or(get(AmazonS3ConfigKey::Endpoint)),
            get(AmazonS3ConfigKey::VirtualHostedStyleRequest),
        )
    }

    #[test]
    fn the_bucket_stands_where_the_parameters_say() {
        for (parameters, address, in_host) in [
            ("endpoint=http://h:1/", "http://h:1", "false"),
            ("endpoint=http://h:1&force-path-style=false", "http://b.h:1", "true"),
            ("endpoint=https://oss.example&provider=alibaba", "https://b.oss.example", "true"),
            ("endpoint=https://h&provider=ceph", "https://h", "false"),
            ("use-accelerate-endpoint=true", "https://b.s3-accelerate.amazonaws.com", "true"),
        ] {
            let found = endpoint(&format!("s3://b/p?{parameters}"));
            assert_eq!(found, (Some(address.to_owned()), Some(in_host.to_owned())), "{parameters}");
        }
    }

    #[test]
    fn encryption_is_asked_for_by_name() {
        for (parameters, kind, key) in [
            ("sse=AES256", Some("AES256"), None),
            ("sse=aws:kms", Some("aws:kms"), None),
            ("sse=aws:kms&sse-kms-key-id=k", Some("aws:kms"), Some("k")),
            ("sse=aws:kms:dsse&sse-kms-key-id=k", Some("aws:kms:dsse"), Some("k")),
            ("", None, None),
        ] {
            let remote = remote(&format!("s3://b/p?{parameters}"));
            let builder = with_encryption(AmazonS3Builder::new(), &remote.parameters).unwrap();
            let get = |name: &str| builder.get_config_value(&name.parse().unwrap());
            assert_eq!(get(ENCRYPTION).as_deref(), kind, "{parameters}");
            assert_eq!(get("aws_sse_kms_key_id").as_deref(), key, "{parameters}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (parameters, name, says) in [
            ("acl=mine", "acl", "bucket-owner-full-control"),
            ("external-id=x", "external-id", "role-arn"),
            ("access-key=K&secret-access-key=S3CRET&profile=p", "profile", "leave one"),
            ("profile=no-such-profile", "profile", "export-credentials"),
            ("access-key=K", "access-key", "both"),
            ("secret-access-key=S3CRET", "secret-access-key", "all"),
            ("session-token=S3CRET", "secret-access-key", "all"),
            ("storage-class=DEEP_ARCHIVE", "storage-class", "rule of the bucket"),
            ("region=a/b", "region", "us-east-1"),
            ("sse=rot13", "sse", "AES256"),
            ("sse-kms-key-id=k", "sse-kms-key-id", "aws:kms"),
            ("force-path-style=maybe", "force-path-style", "true or false"),
            ("endpoint=h:9000", "endpoint", "https://host"),
            ("endpoint=http://u:S3CRET@h", "endpoint", "https://host"),
            ("ca-file=/nowhere/ca.pem", "ca-file", "PEM"),
            ("use-accelerate-endpoint=1&endpoint=http://h", "use-accelerate-endpoint", "leave one"),
        ] {
            let error = crate::open(&format!("s3://b/p?{parameters}")).unwrap_err();
            let text = format!("{error} {}", error.remedy());
            assert!(text.contains(&format!("'{name}'")) && text.contains(says), "{parameters}: {text}");
            assert!(!text.contains("S3CRET"), "{text}");
        }
    }
}
