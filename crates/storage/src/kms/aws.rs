//! Amazon's service, by its JSON protocol (`TrentService`, version 1.1), signed by object_store.

use std::sync::Arc;

use logtide_model::{Kms, KmsDataKey, KmsError, KmsKey, KmsVendor, SecretKey};
use object_store::StaticCredentialProvider;
use object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::HttpRequest;
use serde_json::{Value, json};
use url::Url;

use super::line::{Line, Service, Subject, address, base64, bytes, connector, no_parameters, post, set};
use crate::connector::Connector;
use crate::environment::{self, variable};
use crate::parameters::{UNPRINTABLE, is_printable};
use crate::remote_url::Kind;

const SERVICE: &str = "kms";
const CONTENT: &str = "application/x-amz-json-1.1";

/// A key of Amazon's service.
#[derive(Debug)]
pub(super) struct Client {
    key_id: String,
    line: Line,
    requests: Requests,
}

#[derive(Clone)]
struct Requests {
    subject: Subject,
    endpoint: Url,
    region: String,
    credentials: AwsCredentialProvider,
}

impl Client {
    pub(super) fn new(key: &KmsKey) -> Result<Self, KmsError> {
        let subject = Subject::of(key);
        let region = region(key, &subject)?;
        let endpoint = address(&subject, &endpoint(key, &region))?;
        let connector = connector(&subject)?;
        let credentials = credentials(key, &subject, &region, &connector)?;
        let line = Line::new(key, &endpoint, &connector)?;
        Ok(Client { key_id: key.key_id.clone(), line, requests: Requests { subject, endpoint, region, credentials } })
    }
}

impl Kms for Client {
    fn vendor(&self) -> KmsVendor {
        KmsVendor::Aws
    }

    fn generate(&self) -> Result<KmsDataKey, KmsError> {
        let body = json!({ "KeyId": self.key_id, "KeySpec": "AES_256" });
        let mut answer = self.line.ask(&self.requests, "GenerateDataKey", &body)?;
        let subject = &self.line.subject;
        let plain = SecretKey::new(bytes(subject, &mut answer, "Plaintext")?);
        Ok(KmsDataKey { encrypted: bytes(subject, &mut answer, "CiphertextBlob")?, plain })
    }

    fn decrypt(&self, encrypted: &[u8]) -> Result<SecretKey, KmsError> {
        let body = json!({ "KeyId": self.key_id, "CiphertextBlob": base64(encrypted) });
        let mut answer = self.line.ask(&self.requests, "Decrypt", &body)?;
        Ok(SecretKey::new(bytes(&self.line.subject, &mut answer, "Plaintext")?))
    }
}

impl Service for Requests {
    async fn request(&self, operation: &'static str, body: Vec<u8>) -> Result<HttpRequest, KmsError> {
        let mut request = post(&self.subject, &self.endpoint, CONTENT, body)?;
        set(&self.subject, &mut request, "x-amz-target", &format!("TrentService.{operation}"))?;
        let credential = self.credentials.get_credential().await;
        let credential = credential.map_err(|e| self.subject.passing(format!("no credentials for it: {e}")))?;
        let signer = AwsAuthorizer::new(&credential, SERVICE, &self.region);
        signer.try_authorize(&mut request, None).map_err(|e| self.subject.error(format!("cannot sign: {e}")))?;
        Ok(request)
    }

    fn refusal(answer: &Value) -> (String, String) {
        let text = |name: &str| answer.get(name).and_then(Value::as_str);
        let code = text("__type").unwrap_or_default();
        let code = code.rsplit('#').next().unwrap_or_default();
        (code.to_owned(), text("message").or(text("Message")).unwrap_or_default().to_owned())
    }

    fn remedy(code: &str) -> Option<&'static str> {
        Some(match code {
            "NotFoundException" => "check the id of the key, its region and its account",
            "AccessDeniedException" => "allow kms:GenerateDataKey and kms:Decrypt with the key to these credentials",
            "DisabledException" | "KMSInvalidStateException" => "enable the key, or take its deletion back",
            "InvalidCiphertextException" | "IncorrectKeyException" => {
                "name the master key that this backup was encrypted with"
            }
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "ExpiredTokenException" => {
                "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY that are valid, with the key or in the environment"
            }
            _ => return None,
        })
    }
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests")
            .field("endpoint", &self.endpoint.as_str())
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// The region of the key, of its ARN (`arn:partition:kms:REGION:account:key/id`), of the environment.
fn region(key: &KmsKey, subject: &Subject) -> Result<String, KmsError> {
    let given = Some(key.region.clone());
    let in_arn = || key.key_id.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2)).map(str::to_owned);
    let environment = || ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| variable(name));
    let is_some = |region: &String| !region.is_empty();
    let region = given.filter(is_some).or_else(|| in_arn().filter(is_some)).or_else(environment);
    match region {
        Some(region) if region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => Ok(region),
        Some(_) => Err(subject.error("its REGION is none: write one as us-east-1")),
        None => Err(subject.error("its REGION is not known: add REGION=… to its URL, or set AWS_REGION")),
    }
}

fn endpoint(key: &KmsKey, region: &str) -> String {
    if !key.endpoint.is_empty() {
        return key.endpoint.clone();
    }
    let environment = ["AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL"].iter().find_map(|name| variable(name));
    // The domain of the partition in China.
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    environment.unwrap_or_else(|| format!("https://kms.{region}.{domain}"))
}

fn credentials(
    key: &KmsKey,
    subject: &Subject,
    region: &str,
    connector: &Connector,
) -> Result<AwsCredentialProvider, KmsError> {
    let text = |name: &str| {
        let value = key.credentials.get(name).map(|value| String::from_utf8(value.expose().to_vec()));
        value.transpose().map_err(|_| subject.error(format!("its {name} is no text")))
    };
    match (text("access_key")?, text("secret_access_key")?) {
        (Some(key), Some(secret)) if !is_printable(&key) || !is_printable(&secret) => {
            Err(subject.error(format!("its credentials: {UNPRINTABLE}")))
        }
        (Some(key_id), Some(secret_key)) => {
            Ok(Arc::new(StaticCredentialProvider::new(AwsCredential { key_id, secret_key, token: None })))
        }
        (Some(_), None) => Err(subject.error("AWS_SECRET_ACCESS_KEY is missing beside AWS_ACCESS_KEY_ID")),
        (None, Some(_)) => Err(subject.error("AWS_ACCESS_KEY_ID is missing beside AWS_SECRET_ACCESS_KEY")),
        // No bucket is asked for anything: it is the way to the credentials of the machine.
        (None, None) => {
            let parameters = no_parameters(subject)?;
            environment::check(Kind::S3, parameters.url()).map_err(|e| subject.error(e))?;
            let builder = crate::aws_credentials::builder("none", Some(region), &parameters, connector);
            let store = builder.map_err(|e| subject.error(e))?.build().map_err(|e| subject.error(e))?;
            Ok(store.credentials().clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_leads_to_the_service() {
        let key = |key_id: &str, region: &str| KmsKey {
            vendor: KmsVendor::Aws,
            key_id: key_id.to_owned(),
            region: region.to_owned(),
            endpoint: String::new(),
            credentials: Default::default(),
        };
        let arn = "arn:aws:kms:eu-west-1:1:key/k";
        for (key, expected) in [
            (key("k", "us-east-1"), "https://kms.us-east-1.amazonaws.com"),
            (key(arn, ""), "https://kms.eu-west-1.amazonaws.com"),
            (key(arn, "cn-north-1"), "https://kms.cn-north-1.amazonaws.com.cn"),
        ] {
            let region = region(&key, &Subject::of(&key)).unwrap();
            assert_eq!(endpoint(&key, &region), expected);
        }
    }

    #[test]
    fn a_code_is_read_with_and_without_its_namespace() {
        for text in ["NotFoundException", "com.amazonaws.kms#NotFoundException"] {
            let read = Requests::refusal(&json!({ "__type": text, "message": "no" }));
            assert_eq!(read, ("NotFoundException".to_owned(), "no".to_owned()));
        }
    }
}
