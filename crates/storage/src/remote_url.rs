//! The URL of a bucket on a server, as `br` writes it: `scheme://bucket/prefix?parameters`.

use object_store::path::Path;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::location::bad;
use crate::parameters::{Known, Parameters};
use crate::{Storage, StorageError};

/// What must not stand as it is in a path.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?');

/// A kind of remote storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// S3 and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Kind {
    /// All that there are.
    pub(crate) const ALL: [Kind; 3] = [Kind::S3, Kind::Gcs, Kind::Azure];

    /// The kind that `br` means by a scheme.
    pub(crate) fn of_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "s3" => Some(Kind::S3),
            "gcs" | "gs" => Some(Kind::Gcs),
            "azure" | "azblob" => Some(Kind::Azure),
            _ => None,
        }
    }

    pub(crate) fn scheme(self) -> &'static str {
        match self {
            Kind::S3 => "s3",
            Kind::Gcs => "gcs",
            Kind::Azure => "azure",
        }
    }

    /// The parameters that it knows; `None` if it was not compiled in.
    pub(crate) fn parameters(self) -> Option<&'static [Known]> {
        match self {
            #[cfg(feature = "s3")]
            Kind::S3 => Some(crate::s3::PARAMETERS),
            #[cfg(feature = "gcs")]
            Kind::Gcs => Some(crate::gcs::PARAMETERS),
            #[cfg(feature = "azure")]
            Kind::Azure => Some(crate::azure::PARAMETERS),
            #[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
            _ => None,
        }
    }
}

/// A bucket, what lies before the names of our objects in it, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteUrl {
    kind: Kind,
    /// Of Azure: the container.
    pub(crate) bucket: String,
    pub(crate) prefix: Path,
    pub(crate) parameters: Parameters,
}

impl RemoteUrl {
    /// Reads what follows the scheme and its colon.
    pub(crate) fn parse(given: &str, scheme: &str, rest: &str) -> Result<Self, StorageError> {
        let kind = Kind::of_scheme(scheme).ok_or_else(|| bad(given, "its scheme is unknown"))?;
        let rest = rest.strip_prefix("//").ok_or_else(|| bad(given, "two slashes must follow the scheme"))?;
        if rest.contains('#') {
            return Err(bad(given, "a '#' is written %23"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, path) = place.split_once('/').unwrap_or((place, ""));
        if bucket.contains(['@', ':']) {
            return Err(bad(given, "credentials do not stand before the bucket; they are parameters"));
        }
        // `$` for Azure's containers $root and $web.
        if bucket.is_empty() || !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.$".contains(&b)) {
            return Err(bad(given, "the name of a bucket follows the two slashes"));
        }
        let prefix = prefix(path).map_err(|reason| bad(given, &reason))?;
        let slash = if prefix.as_ref().is_empty() { "" } else { "/" };
        let shown = utf8_percent_encode(prefix.as_ref(), ENCODED);
        let url = format!("{}://{bucket}{slash}{shown}", kind.scheme());
        let Some(known) = kind.parameters() else {
            return Err(StorageError::NotInThisBuild { url, scheme: scheme.to_owned() });
        };
        let parameters = Parameters::read(&url, query, known)?;
        Ok(RemoteUrl { kind, bucket: bucket.to_owned(), prefix, parameters })
    }

    /// The URL without secrets.
    pub(crate) fn shown(&self) -> String {
        self.parameters.whole(false)
    }

    /// Opens it. Nothing is sent yet.
    pub(crate) fn open(&self) -> Result<Storage, StorageError> {
        #[cfg(feature = "remote")]
        crate::environment::check(self.kind, self.parameters.url())?;
        match self.kind {
            #[cfg(feature = "s3")]
            Kind::S3 => crate::s3::open(self),
            #[cfg(feature = "gcs")]
            Kind::Gcs => crate::gcs::open(self),
            #[cfg(feature = "azure")]
            Kind::Azure => crate::azure::open(self),
            #[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
            other => Err(StorageError::NotInThisBuild { url: self.shown(), scheme: other.scheme().to_owned() }),
        }
    }

    /// An endpoint as it was given: scheme, host, and perhaps port and path.
    #[cfg(feature = "remote")]
    pub(crate) fn endpoint(&self, endpoint: &str) -> Result<url::Url, StorageError> {
        let bad = |reason: String| self.parameters.bad("endpoint", &reason, "write endpoint=https://host:port");
        crate::endpoint::address(endpoint).map_err(bad)
    }

    /// The store of this URL, opened.
    #[cfg(feature = "remote")]
    pub(crate) fn storage<S: object_store::ObjectStore>(&self, store: S, class: Option<&str>) -> Storage {
        let url = self.shown();
        let store = crate::remote::RemoteStore::new(store, self.prefix.clone(), url.clone(), class);
        Storage { store: std::sync::Arc::new(store), url }
    }

    #[cfg(feature = "remote")]
    pub(crate) fn unopened(&self, cause: &object_store::Error) -> StorageError {
        StorageError::Unopened { url: self.shown(), reason: cause.to_string() }
    }
}

fn prefix(path: &str) -> Result<Path, String> {
    let path = percent_decode_str(path.trim_matches('/')).decode_utf8().map_err(|_| "its prefix is not UTF-8")?;
    Path::parse(path.trim_matches('/')).map_err(|e| format!("its prefix cannot be one: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_model::Diagnose;

    fn parse(url: &str) -> Result<RemoteUrl, StorageError> {
        let (scheme, rest) = url.split_once(':').unwrap();
        RemoteUrl::parse(url, scheme, rest)
    }

    #[cfg(all(feature = "s3", feature = "gcs", feature = "azure"))]
    #[test]
    fn one_place_has_one_url() {
        for (given, shown, prefix) in [
            ("s3://b", "s3://b", ""),
            ("s3://b//a/b/?REGION=x&secret-access-key=S&access_key=K", "s3://b/a/b?region=x", "a/b"),
            ("gs://b_1.c/a%20b", "gcs://b_1.c/a%20b", "a b"),
            ("azblob://$web/p?sas-token=x%26y&account-name=n", "azure://$web/p?account-name=n", "p"),
        ] {
            let read = parse(given).unwrap();
            assert_eq!((read.shown().as_str(), read.prefix.as_ref()), (shown, prefix), "{given}");
            assert_eq!(parse(&read.parameters.whole(true)).unwrap(), read, "{given}");
        }
    }

    #[test]
    fn bad_places_are_refused_without_their_secrets() {
        for (given, says) in [
            ("s3://AK:S/ECRET@bucket/p", "parameters"),
            ("s3:///p?secret-access-key=ECRET", "name of a bucket"),
            ("s3:b/p", "two slashes"),
            ("s3://b/a/../c", "prefix"),
            ("s3://b/a//c", "prefix"),
            ("s3://b/p?access-key=ECRET#x", "%23"),
        ] {
            let error = parse(given).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(says) && !text.contains("ECRET") && !error.remedy().is_empty(), "{given}: {text}");
        }
    }
}
