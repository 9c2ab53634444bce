//! What a storage URL means. It opens nothing.

use std::path::{Path, PathBuf};

use logtide_model::without_credentials;
use url::Url;

use crate::StorageError;
use crate::remote_url::{Kind, RemoteUrl};

/// Where a storage is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// A directory, absolute.
    Local(PathBuf),
    /// Memory of this process, by name.
    Memory(String),
    /// A bucket of a server.
    Remote(RemoteUrl),
}

impl Location {
    /// Reads a URL or an absolute path.
    pub(crate) fn parse(given: &str) -> Result<Location, StorageError> {
        if given.starts_with('/') {
            return Ok(Location::Local(PathBuf::from(given)));
        }
        let Some((scheme, rest)) = given.split_once(':') else {
            return Err(bad(given, "it is neither a URL nor an absolute path"));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "local" | "file" => local(given, rest),
            "memory" => memory(given, rest),
            other if Kind::of_scheme(other).is_some() => RemoteUrl::parse(given, other, rest).map(Location::Remote),
            "ks3" | "oss" => Err(bad(given, "write s3:// with the endpoint of its S3 interface and provider=…")),
            _ if !rest.starts_with("//") => Err(bad(given, "it is neither a URL nor an absolute path")),
            other => Err(bad(given, &format!("there is no storage of the kind '{other}'"))),
        }
    }
}

/// The canonical URL of a directory, as `br` writes it.
pub(crate) fn local_url(path: &Path) -> Result<String, StorageError> {
    let url = Url::from_file_path(path).map_err(|()| bad(&path.display().to_string(), "it is not absolute"))?;
    Ok(url.as_str().trim_end_matches('/').replacen("file:", "local:", 1))
}

fn local(given: &str, rest: &str) -> Result<Location, StorageError> {
    if !rest.starts_with('/') {
        return Err(bad(given, "its path is relative"));
    }
    let url = Url::parse(&format!("file:{rest}")).map_err(|e| bad(given, &e.to_string()))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad(given, "a local storage takes no parameters (in a name, write ? as %3F and # as %23)"));
    }
    if let Some(host) = url.host_str() {
        return Err(bad(given, &format!("'{host}' stands where a host would; three slashes begin a path")));
    }
    url.to_file_path().map(Location::Local).map_err(|()| bad(given, "its path is not a path of this machine"))
}

fn memory(given: &str, rest: &str) -> Result<Location, StorageError> {
    let name = rest.strip_prefix("//").unwrap_or_default();
    let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if good { Ok(Location::Memory(name.to_owned())) } else { Err(bad(given, "write memory://NAME")) }
}

pub(crate) fn bad(given: &str, reason: &str) -> StorageError {
    StorageError::BadUrl { url: without_credentials(given), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_model::Diagnose;

    fn path(given: &str) -> PathBuf {
        match Location::parse(given).unwrap() {
            Location::Local(path) => path,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_directory_has_many_spellings() {
        for given in ["/backup/my log", "local:///backup/my log", "file:///backup/my%20log", "LOCAL:/backup/my%20log"] {
            assert_eq!(path(given), PathBuf::from("/backup/my log"), "{given}");
        }
        assert_eq!(local_url(Path::new("/backup/my log")).unwrap(), "local:///backup/my%20log");
        assert_eq!(path("local:///a%23b"), PathBuf::from("/a#b"));
        assert_eq!(path("/a?b#c"), PathBuf::from("/a?b#c"));
    }

    #[test]
    fn memory_has_a_name() {
        assert_eq!(Location::parse("memory://x-1").unwrap(), Location::Memory("x-1".to_owned()));
        assert!(Location::parse("memory://").is_err());
        assert!(Location::parse("memory://a/b").is_err());
    }

    #[test]
    fn errors_name_the_thing_and_the_remedy() {
        for (given, says) in [
            ("backup/log", "neither a URL nor an absolute path"),
            ("./backup:1", "neither a URL nor an absolute path"),
            ("", "neither a URL nor an absolute path"),
            ("local:backup", "relative"),
            ("local://backup/log", "'backup' stands where a host would"),
            ("local:///x?endpoint=y", "no parameters"),
            ("hdfs://host/x", "no storage of the kind 'hdfs'"),
        ] {
            let error = Location::parse(given).unwrap_err();
            assert!(error.to_string().contains(says), "{given}: {error}");
            assert!(error.remedy().contains("local:///"), "{given}");
        }
    }

    #[test]
    fn other_schemes_of_br_are_told_how_to_come_in() {
        for given in ["ks3://b/p?access-key=SK", "oss://b/p"] {
            let text = Location::parse(given).unwrap_err().to_string();
            assert!(text.contains("write s3://") && !text.contains("SK"), "{text}");
        }
    }
}
