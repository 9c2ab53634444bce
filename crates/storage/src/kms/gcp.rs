//! Google's service, by its REST interface (`cloudkms`, version 1): `cryptoKeys:encrypt` and `cryptoKeys:decrypt`.
//!
//! It makes no data keys: they are the system's random bytes, encrypted there. CRC-32C goes both ways, as Google asks
//! for it: a key that a bit fell over in on its way would be found out only by a restore.

use logtide_model::{Kms, KmsDataKey, KmsError, KmsKey, KmsVendor, Random, SecretKey};
use object_store::client::HttpRequest;
use object_store::gcp::GcpCredentialProvider;
use serde_json::{Value, json};
use url::Url;

use super::line::{Line, Service, Subject, address, base64, bytes, connector, post, set};
use crate::connector::Connector;
use crate::remote_url::Kind;
use crate::{OsRandom, environment};

const ENDPOINT: &str = "https://cloudkms.googleapis.com";
/// Bytes of a data key.
const KEY_LEN: usize = 32;
/// The parts of a key's name that are not names themselves.
const NAME: [&str; 4] = ["projects", "locations", "keyRings", "cryptoKeys"];

/// A key of Google's service.
#[derive(Debug)]
pub(super) struct Client {
    line: Line,
    requests: Requests,
}

#[derive(Clone)]
struct Requests {
    subject: Subject,
    /// Where the key is; operations come after it.
    key: Url,
    credentials: GcpCredentialProvider,
}

impl Client {
    pub(super) fn new(key: &KmsKey) -> Result<Self, KmsError> {
        let subject = Subject::of(key);
        check_name(&subject, &key.key_id)?;
        let given = if key.endpoint.is_empty() { ENDPOINT } else { &key.endpoint };
        let endpoint = address(&subject, given)?;
        let url = format!("{}/v1/{}", endpoint.as_str().trim_end_matches('/'), key.key_id.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|e| subject.error(e))?;
        let connector = connector(&subject)?;
        let credentials = credentials(key, &subject, &connector)?;
        let line = Line::new(key, &endpoint, &connector)?;
        Ok(Client { line, requests: Requests { subject, key: url, credentials } })
    }

    fn damaged(&self, operation: &str) -> KmsError {
        self.line.subject.passing(format!("{operation}: the key was damaged on its way; try again"))
    }
}

impl Kms for Client {
    fn vendor(&self) -> KmsVendor {
        KmsVendor::Gcp
    }

    fn generate(&self) -> Result<KmsDataKey, KmsError> {
        let mut plain = [0; KEY_LEN];
        OsRandom.fill(&mut plain).map_err(|e| self.line.subject.passing(e))?;
        let plain = SecretKey::new(plain);
        let crc = crc32c(plain.expose()).to_string();
        let body = json!({ "plaintext": base64(plain.expose()), "plaintextCrc32c": crc });
        let mut answer = self.line.ask(&self.requests, "encrypt", &body)?;
        let encrypted = bytes(&self.line.subject, &mut answer, "ciphertext")?;
        let verified = answer.get("verifiedPlaintextCrc32c").and_then(Value::as_bool) == Some(true);
        if verified && is_sum(&answer, "ciphertextCrc32c", &encrypted) {
            return Ok(KmsDataKey { encrypted, plain });
        }
        Err(self.damaged("encrypt"))
    }

    fn decrypt(&self, encrypted: &[u8]) -> Result<SecretKey, KmsError> {
        let body = json!({ "ciphertext": base64(encrypted), "ciphertextCrc32c": crc32c(encrypted).to_string() });
        let mut answer = self.line.ask(&self.requests, "decrypt", &body)?;
        let plain = SecretKey::new(bytes(&self.line.subject, &mut answer, "plaintext")?);
        if is_sum(&answer, "plaintextCrc32c", plain.expose()) { Ok(plain) } else { Err(self.damaged("decrypt")) }
    }
}

impl Service for Requests {
    async fn request(&self, operation: &'static str, body: Vec<u8>) -> Result<HttpRequest, KmsError> {
        let mut url = self.key.clone();
        url.set_path(&format!("{}:{operation}", self.key.path()));
        let mut request = post(&self.subject, &url, "application/json", body)?;
        let credential = self.credentials.get_credential().await;
        let credential = credential.map_err(|e| self.subject.passing(format!("no credentials for it: {e}")))?;
        set(&self.subject, &mut request, "authorization", &format!("Bearer {}", credential.bearer))?;
        Ok(request)
    }

    fn refusal(answer: &Value) -> (String, String) {
        let error = answer.get("error");
        let text = |name: &str| error.and_then(|e| e.get(name)).and_then(Value::as_str).unwrap_or_default().to_owned();
        (text("status"), text("message"))
    }

    fn remedy(code: &str) -> Option<&'static str> {
        Some(match code {
            "NOT_FOUND" => "check the name of the key",
            "PERMISSION_DENIED" => {
                "give these credentials the role roles/cloudkms.cryptoKeyEncrypterDecrypter on the key"
            }
            "FAILED_PRECONDITION" => "enable the key's version",
            "INVALID_ARGUMENT" => "name the master key that this backup was encrypted with",
            "UNAUTHENTICATED" => "give CREDENTIALS of an account that exists, with the key or in the environment",
            _ => return None,
        })
    }
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests").field("key", &self.key.as_str()).finish_non_exhaustive()
    }
}

/// Those of the key, else those of the machine. No bucket is asked for anything: it is the way to them.
fn credentials(key: &KmsKey, subject: &Subject, connector: &Connector) -> Result<GcpCredentialProvider, KmsError> {
    let wrong = |reason: String| subject.error(format!("its CREDENTIALS: {reason}"));
    let builder = match key.credentials.get("credential").filter(|c| !c.is_empty()) {
        None => {
            environment::check(Kind::Gcs, "kms").map_err(|e| subject.error(e))?;
            crate::gcs::from_environment()
        }
        Some(given) => {
            let text = std::str::from_utf8(given.expose()).map_err(|_| wrong("they are no text".to_owned()))?;
            crate::gcs::with_given(text).map_err(wrong)?
        }
    };
    let store = builder.with_bucket_name("none").with_http_connector(connector.clone()).build();
    Ok(store.map_err(|e| subject.error(e))?.credentials().clone())
}

/// `projects/…/locations/…/keyRings/…/cryptoKeys/…`, as `br` asks for it.
fn check_name(subject: &Subject, name: &str) -> Result<(), KmsError> {
    let parts: Vec<&str> = name.trim_end_matches('/').split('/').collect();
    let named =
        |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    let good = parts.len() == 2 * NAME.len()
        && parts.iter().step_by(2).eq(NAME.iter())
        && parts.iter().skip(1).step_by(2).all(named);
    if good {
        Ok(())
    } else {
        Err(subject.error("a key is named projects/…/locations/…/keyRings/…/cryptoKeys/…"))
    }
}

/// True if the answer has that sum of the bytes: a number in text, as JSON has 64 bits.
fn is_sum(answer: &Value, field: &str, bytes: &[u8]) -> bool {
    answer.get(field).and_then(Value::as_str) == Some(crc32c(bytes).to_string().as_str())
}

/// CRC-32C (Castagnoli), bit by bit: it is done for some hundred bytes now and then.
fn crc32c(bytes: &[u8]) -> u32 {
    /// The reflected polynomial.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc: u32, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_catalogue() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn names_are_those_of_keys() {
        let subject = Subject::of(&KmsKey {
            vendor: KmsVendor::Gcp,
            key_id: "k".to_owned(),
            region: String::new(),
            endpoint: String::new(),
            credentials: Default::default(),
        });
        assert!(check_name(&subject, "projects/p/locations/global/keyRings/r/cryptoKeys/k").is_ok());
        for bad in [
            "",
            "k",
            "projects/p/locations/l/keyRings/r/cryptoKeys/",
            "projects/p/locations/l/keyRings/../cryptoKeys/k?x",
        ] {
            assert!(check_name(&subject, bad).is_err(), "{bad}");
        }
    }
}
