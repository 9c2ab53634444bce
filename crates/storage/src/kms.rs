//! Clients of key management services: a few requests over HTTP, with the credentials that object_store finds.
//!
//! They own what a service is asked, and what its answers mean. How the keys that they give are used is the business of
//! `logtide_format`.

#[cfg(feature = "s3")]
mod aws;
#[cfg(feature = "gcs")]
mod gcp;
#[cfg(any(feature = "s3", feature = "gcs"))]
mod line;

use std::sync::Arc;

use logtide_model::{Kms, KmsError, KmsKey, KmsVendor};

#[cfg(not(all(feature = "s3", feature = "gcs")))]
const NOT_BUILT: &str = "this build of logtide has no client for it";

/// The client of the service that a key is in: Amazon's and Google's, by REST. Nothing is asked yet.
///
/// Credentials are those of the key; else those of the machine, from where the storages of that vendor have them. A key
/// without an endpoint is at the vendor's own (for Amazon: of its region, and `AWS_ENDPOINT_URL_KMS` counts).
///
/// # Errors
/// [`KmsError`] for a vendor that there is no client for, and for settings that cannot be.
pub fn open_kms(key: &KmsKey) -> Result<Arc<dyn Kms>, KmsError> {
    match key.vendor {
        #[cfg(feature = "s3")]
        KmsVendor::Aws => Ok(Arc::new(aws::Client::new(key)?)),
        #[cfg(feature = "gcs")]
        KmsVendor::Gcp => Ok(Arc::new(gcp::Client::new(key)?)),
        #[cfg(not(feature = "s3"))]
        KmsVendor::Aws => Err(none(key, NOT_BUILT)),
        #[cfg(not(feature = "gcs"))]
        KmsVendor::Gcp => Err(none(key, NOT_BUILT)),
        KmsVendor::Azure => Err(none(key, "logtide has no client for it: hand it one with Builder::kms")),
    }
}

fn none(key: &KmsKey, why: &str) -> KmsError {
    KmsError { message: format!("the key '{}' is in {}'s service, and {why}", key.key_id, key.vendor), retry: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_model::MasterKeyRef;

    fn opened(url: &str) -> Result<Arc<dyn Kms>, KmsError> {
        match &crate::parse_master_keys(url).unwrap()[..] {
            [MasterKeyRef::Kms(key)] => open_kms(key),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_the_key_and_the_remedy() {
        const GCP: &str = "gcp-kms:///projects/p/locations/l/keyRings/r/cryptoKeys/k";
        for (url, says) in [
            ("aws-kms:///k?REGION=r&ENDPOINT=ftp://h", "ENDPOINT"),
            ("aws-kms:///k?REGION=r&AWS_ACCESS_KEY_ID=S3CRET", "AWS_SECRET_ACCESS_KEY"),
            ("aws-kms:///k?REGION=r&AWS_SECRET_ACCESS_KEY=S3CRET", "AWS_ACCESS_KEY_ID"),
            ("aws-kms:///k?REGION=r%2Fx", "REGION"),
            ("aws-kms:///k?REGION=r&AWS_ACCESS_KEY_ID=A%0A&AWS_SECRET_ACCESS_KEY=S3CRET", "line end"),
            (&format!("{GCP}?CREDENTIALS=/nowhere/S3"), "/nowhere/S3"),
            (
                &format!("{GCP}?CREDENTIALS={{%22type%22:%22external_account%22%2C%22x%22:%22S3CRET%22}}"),
                "external_account",
            ),
            ("gcp-kms:///projects/p/keyRings/r", "cryptoKeys"),
        ] {
            let error = opened(url).unwrap_err();
            let name = if url.starts_with("aws") { "'k'" } else { "'projects/p" };
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(says) && shown.contains(name) && !shown.contains("S3CRET"), "{url}: {shown}");
            assert!(!error.retry);
        }
    }

    #[test]
    fn a_client_shows_its_key_and_no_credential() {
        let url = "aws-kms:///arn:aws:kms:eu-west-1:1:key/k?AWS_ACCESS_KEY_ID=S3CRET&AWS_SECRET_ACCESS_KEY=S3CRET";
        let client = opened(url).unwrap();
        let shown = format!("{client:?} {client:#?}");
        assert!(shown.contains("key/k") && shown.contains("eu-west-1") && !shown.contains("S3CRET"), "{shown}");
        let azure = KmsKey { vendor: KmsVendor::Azure, ..key() };
        assert!(open_kms(&azure).unwrap_err().to_string().contains("Builder::kms"));
    }

    fn key() -> KmsKey {
        let (region, endpoint) = (String::new(), String::new());
        KmsKey { vendor: KmsVendor::Aws, key_id: "k".to_owned(), region, endpoint, credentials: Default::default() }
    }
}
