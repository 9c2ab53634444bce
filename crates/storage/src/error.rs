//! What can go wrong with a storage, with the remedy.

use std::io;
use std::path::PathBuf;

use logtide_model::{Class, Diagnose, ErrorCode};
use thiserror::Error;

use crate::trouble::{NoCredentials, Trouble, cause, classify};

/// Why a storage could not be opened, probed or claimed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The URL says nothing that can be opened.
    #[error("'{url}' is no storage: {reason}")]
    BadUrl {
        /// As it was given, without its query.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A storage of a kind that is not compiled in.
    #[error("cannot open '{url}': this build of logtide has no storage of the kind '{scheme}'")]
    NotInThisBuild {
        /// The URL without its query.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// A parameter of a URL that cannot be used.
    #[error("cannot use the parameter '{name}' of '{url}': {reason}")]
    Parameter {
        /// The URL without its parameters.
        url: String,
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
        /// What to write instead.
        remedy: String,
    },
    /// A variable of the environment that cannot be used.
    #[error("cannot open '{url}' with the variable '{name}' of the environment: {reason}")]
    Variable {
        /// The URL without its parameters.
        url: String,
        /// Its name.
        name: &'static str,
        /// Why not.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// What a URL and the environment say does not make a storage.
    #[error("cannot open '{url}': {reason}")]
    Unopened {
        /// The URL without secrets.
        url: String,
        /// What is missing or wrong.
        reason: String,
    },
    /// Something else than a directory has that name.
    #[error("'{}' is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The directory could be created, but not the one that it would be in.
    #[error("'{}' does not exist and cannot be created: there is no directory '{}'", path.display(), parent.display())]
    MissingParent {
        /// The directory of the storage.
        path: PathBuf,
        /// What is missing.
        parent: PathBuf,
    },
    /// The directory could not be looked at.
    #[error("cannot look at '{}': {source}", path.display())]
    Directory {
        /// The directory of the storage.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An operation on an object failed.
    #[error("cannot {action} '{object}' in '{url}': {source}")]
    Object {
        /// What was tried: a verb.
        action: &'static str,
        /// The object, or the prefix that was listed.
        object: String,
        /// The storage.
        url: String,
        /// What the storage said.
        #[source]
        source: Box<object_store::Error>,
    },
    /// The storage said yes and did something else.
    #[error("'{url}' cannot hold a backup: {found}")]
    Unfit {
        /// The storage.
        url: String,
        /// What was seen.
        found: String,
    },
    /// The prefix belongs to somebody else.
    #[error("'{url}' is in use: it holds {owner}")]
    InUse {
        /// The storage.
        url: String,
        /// Whose it is.
        owner: String,
    },
    /// An identity or checkpoint object cannot be understood.
    #[error("'{object}' in '{url}' is damaged: {cause}")]
    Malformed {
        /// The object.
        object: String,
        /// The storage.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// The error of the file system below an error of the object store, if there is one.
fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    cause::<io::Error>(error).map(io::Error::kind)
}

/// True if a storage does not offer an operation at all (a hard link, on some file systems).
pub(crate) fn is_unsupported(error: &object_store::Error) -> bool {
    use object_store::Error::{NotImplemented, NotSupported};
    let no_links = || matches!(io_kind(error), Some(io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied));
    matches!(error, NotImplemented { .. } | NotSupported { .. }) || no_links()
}

impl Diagnose for StorageError {
    fn code(&self) -> ErrorCode {
        match self {
            StorageError::Object { .. } | StorageError::Directory { .. } => ErrorCode::Io,
            StorageError::Malformed { .. } => ErrorCode::MalformedMetadata,
            _ => ErrorCode::Config,
        }
    }

    fn class(&self) -> Class {
        match self {
            StorageError::Object { .. } | StorageError::Directory { .. } => Class::Retry,
            StorageError::Malformed { .. } => Class::Corrupt,
            _ => Class::Fatal,
        }
    }

    fn remedy(&self) -> String {
        match self {
            StorageError::BadUrl { .. } => "write an absolute path, or local:///dir, s3://bucket/prefix, gcs://bucket/prefix, azure://container/prefix"
                    .to_owned(),
            StorageError::NotInThisBuild { .. } => {
                "build logtide with the features s3, gcs and azure of logtide-storage, or use local:///dir".to_owned()
            }
            StorageError::Parameter { remedy, .. } | StorageError::Variable { remedy, .. } => remedy.clone(),
            StorageError::Unopened { .. } => {
                "check the parameters of the URL and the credentials in the environment of logtide".to_owned()
            }
            StorageError::NotADirectory(path) => format!("move '{}' away or name another directory", path.display()),
            StorageError::MissingParent { parent, .. } => {
                format!("check the spelling, mount what should be there, or `mkdir -p '{}'`", parent.display())
            }
            StorageError::Directory { path, .. } => {
                format!("let the user that runs logtide read and enter '{}'", path.display())
            }
            StorageError::Object { url, source, .. } => remedy_for(url, source),
            StorageError::Unfit { .. } => "use another storage; this one would lose or mix up data".to_owned(),
            StorageError::InUse { .. } => {
                "give every task an empty prefix of its own; if that backup is not wanted any more, remove all of it"
                    .to_owned()
            }
            StorageError::Malformed { object, .. } => {
                format!("put '{object}' back from a copy; if the prefix holds nothing of value, empty it")
            }
        }
    }
}

fn remedy_for(url: &str, source: &object_store::Error) -> String {
    if !url.starts_with("local:") {
        return remote_remedy(url, source);
    }
    match io_kind(source) {
        Some(io::ErrorKind::PermissionDenied) => {
            format!("let the user that runs logtide write to '{url}' (chown or chmod), or name another directory")
        }
        Some(io::ErrorKind::ReadOnlyFilesystem) => format!("mount '{url}' writable, or name another directory"),
        Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => format!("make room in '{url}'"),
        _ => format!("check that '{url}' is there and can be written by the user that runs logtide"),
    }
}

fn remote_remedy(url: &str, source: &object_store::Error) -> String {
    let bucket = if url.starts_with("azure:") { "container, account" } else { "bucket, region" };
    match classify(source) {
        Trouble::Denied if cause::<NoCredentials>(source).is_some() => {
            format!("give credentials for '{url}': in its parameters, or in the environment of logtide")
        }
        Trouble::Denied => {
            format!("check the credentials for '{url}', and that they may put, get, list and delete below its prefix")
        }
        Trouble::RateLimited { .. } => format!("nothing, if it passes; else ask for a higher request rate for '{url}'"),
        Trouble::Full => format!("raise the quota of '{url}', or make room"),
        Trouble::NotFound | Trouble::Permanent => {
            format!("check {bucket} and endpoint in '{url}'; logtide does not create buckets")
        }
        Trouble::Precondition | Trouble::Unavailable => tls_remedy(url, source)
            .unwrap_or_else(|| format!("nothing, if it passes; else check that this machine can reach '{url}'")),
    }
}

#[cfg(not(feature = "remote"))]
fn tls_remedy(_: &str, _: &object_store::Error) -> Option<String> {
    None
}

#[cfg(feature = "remote")]
fn tls_remedy(url: &str, source: &object_store::Error) -> Option<String> {
    match cause::<rustls::Error>(source)? {
        rustls::Error::InvalidCertificate(_) => Some(format!(
            "check host and clock; if an authority of your own vouches for '{url}', name its file in ca-file or LOGTIDE_CA_FILE"
        )),
        rustls::Error::InvalidMessage(_) => {
            Some(format!("check port and scheme of the endpoint in '{url}': http:// if the server has no TLS"))
        }
        _ => None,
    }
}
