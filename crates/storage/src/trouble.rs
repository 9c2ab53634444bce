//! What kind of trouble an error of a storage is, so that callers can decide what to do about it.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use object_store::Error;
use thiserror::Error;

/// What kind of trouble a storage is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// It asks for fewer requests (429; 503 `SlowDown`, `ServerBusy` and their like): all callers back off together.
    RateLimited {
        /// How long it asks to wait, if it says.
        retry_after: Option<Duration>,
    },
    /// It could not be reached, did not answer in time, or answered with an error of its own. A write may have happened
    /// all the same: repeat it with the same name and bytes.
    Unavailable,
    /// It refuses these credentials (wrong, expired, or not allowed to do this).
    Denied,
    /// There is no such object.
    NotFound,
    /// A condition did not hold: there is an object of that name already, or another version of it.
    Precondition,
    /// It has no room: a full disk, or a quota.
    Full,
    /// It will give the same answer however often it is asked: no such bucket, another region, an operation that it does
    /// not have.
    Permanent,
}

/// What kind of trouble an error of an object store is. What cannot be told apart counts as [`Trouble::Unavailable`]:
/// trying again is the safe side.
pub fn classify(error: &Error) -> Trouble {
    match error {
        Error::NotFound { .. } => Trouble::NotFound,
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => Trouble::Precondition,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Trouble::Denied,
        Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::InvalidPath { .. }
        | Error::UnknownConfigurationKey { .. } => Trouble::Permanent,
        other => from_cause(other),
    }
}

fn from_cause(error: &Error) -> Trouble {
    if let Some(answer) = cause::<Answer>(error) {
        return answer.trouble;
    }
    if let Some(none) = cause::<NoCredentials>(error) {
        return none.trouble;
    }
    match cause::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Trouble::Full,
        // A file stands where a directory would be.
        Some(io::ErrorKind::NotADirectory) => Trouble::NotFound,
        Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => Trouble::Denied,
        _ => Trouble::Unavailable,
    }
}

/// The first error of a kind in a chain of causes.
pub(crate) fn cause<E: StdError + 'static>(error: &Error) -> Option<&E> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(e) = next {
        if let Some(found) = e.downcast_ref::<E>() {
            return Some(found);
        }
        // An error of a file or a socket has another in it, and names only what is below that.
        let inner = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as _).or_else(|| e.source());
    }
    None
}

/// There is nothing to sign a request with.
#[derive(Debug, Error)]
#[error("there are no credentials: {why}: {source}")]
pub(crate) struct NoCredentials {
    pub(crate) why: String,
    pub(crate) trouble: Trouble,
    pub(crate) source: Error,
}

/// The answer of a server that says no: what it says, and nothing that a server repeats from the request.
#[derive(Debug, Error)]
#[error("the server answered {status}{}{said}", if said.is_empty() { "" } else { " " })]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Code and message.
    pub(crate) said: String,
    pub(crate) trouble: Trouble,
}

/// What the status and the code of an answer mean. `None`: what object_store itself makes of the status says it all.
///
/// The codes are those of the error tables in the S3, Azure Blob and GCS XML references.
pub(crate) fn of_answer(status: u16, code: &str, retry_after: Option<Duration>) -> Option<Trouble> {
    let slow_down = matches!(code, "SlowDown" | "SlowDownRead" | "SlowDownWrite" | "ServerBusy" | "TooManyRequests")
        || code.contains("Throttl")
        || code.contains("LimitExceeded");
    Some(match (status, code) {
        (_, "QuotaExceeded" | "XMinioStorageFull" | "InsufficientAccountStorage") | (507, _) => Trouble::Full,
        (429, _) => Trouble::RateLimited { retry_after },
        (400 | 500..=599, _) if slow_down => Trouble::RateLimited { retry_after },
        (503, _) if retry_after.is_some() => Trouble::RateLimited { retry_after },
        (404, "NoSuchBucket" | "ContainerNotFound") => Trouble::Permanent,
        // Somebody else writes the same name at this moment: whether it will be there is not known yet.
        (409, "ConditionalRequestConflict" | "OperationAborted" | "ContainerBeingDeleted") => Trouble::Unavailable,
        // Of a list or of many deletes object_store would make an error that says nothing.
        (401 | 403, _) => Trouble::Denied,
        (404 | 409 | 412 | 416, _) => return None,
        (400, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "AuthenticationFailed") => Trouble::Denied,
        (408, _) | (400, "RequestTimeout") => Trouble::Unavailable,
        (501 | 505, _) => Trouble::Permanent,
        (500..=599, _) => Trouble::Unavailable,
        _ => Trouble::Permanent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_the_references_say() {
        let wait = Some(Duration::from_secs(3));
        for (status, code, retry_after, trouble) in [
            (503, "SlowDown", None, Some(Trouble::RateLimited { retry_after: None })),
            (503, "ServerBusy", None, Some(Trouble::RateLimited { retry_after: None })),
            (429, "", wait, Some(Trouble::RateLimited { retry_after: wait })),
            (503, "", wait, Some(Trouble::RateLimited { retry_after: wait })),
            (400, "ThrottlingException", None, Some(Trouble::RateLimited { retry_after: None })),
            (503, "", None, Some(Trouble::Unavailable)),
            (500, "InternalError", None, Some(Trouble::Unavailable)),
            (409, "ConditionalRequestConflict", None, Some(Trouble::Unavailable)),
            (400, "ExpiredToken", None, Some(Trouble::Denied)),
            (403, "QuotaExceeded", None, Some(Trouble::Full)),
            (404, "NoSuchBucket", None, Some(Trouble::Permanent)),
            (400, "InvalidBucketName", None, Some(Trouble::Permanent)),
            (501, "NotImplemented", None, Some(Trouble::Permanent)),
            (404, "NoSuchKey", None, None),
            (412, "PreconditionFailed", None, None),
            (403, "AccessDenied", None, Some(Trouble::Denied)),
            (401, "", None, Some(Trouble::Denied)),
        ] {
            assert_eq!(of_answer(status, code, retry_after), trouble, "{status} {code}");
        }
    }

    #[test]
    fn errors_of_a_local_disk_are_told_apart() {
        for (kind, trouble) in [
            (io::ErrorKind::StorageFull, Trouble::Full),
            (io::ErrorKind::ReadOnlyFilesystem, Trouble::Denied),
            (io::ErrorKind::Interrupted, Trouble::Unavailable),
        ] {
            let error = Error::Generic { store: "local", source: Box::new(io::Error::from(kind)) };
            assert_eq!(classify(&error), trouble, "{kind}");
        }
        let unknown = Error::Generic { store: "x", source: "?".into() };
        assert_eq!(classify(&unknown), Trouble::Unavailable);
        assert_eq!(
            classify(&Error::NotImplemented { operation: "x".into(), implementer: "y".into() }),
            Trouble::Permanent
        );
    }
}
