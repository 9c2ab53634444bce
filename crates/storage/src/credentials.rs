//! Credentials that say where they should have come from, when they do not come.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::{CredentialProvider, Error, Result};

use crate::trouble::{NoCredentials, Trouble, cause};

/// What asks a service for credentials.
pub(crate) type Provider<C> = Arc<dyn CredentialProvider<Credential = C>>;

/// Where credentials come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    /// Nothing is said of them: the service that hands them out on machines of that vendor, if this is one.
    Machine,
    /// What is said, as it is told.
    Said(&'static str),
}

/// The same credentials, and another error.
pub(crate) fn from<C: 'static>(from: From, inner: &Provider<C>) -> Provider<C> {
    Arc::new(Told { from, inner: inner.clone() })
}

struct Told<C> {
    from: From,
    inner: Provider<C>,
}

impl<C> fmt::Debug for Told<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.from)
    }
}

#[async_trait]
impl<C> CredentialProvider for Told<C> {
    type Credential = C;

    async fn get_credential(&self) -> Result<Arc<C>> {
        let told = |source: Error| {
            let kind = cause::<HttpError>(&source).map(HttpError::kind);
            let (why, trouble) = match (self.from, kind) {
                (From::Machine, _) => {
                    let why = "neither the URL nor the environment has some, and this machine hands out none";
                    (why.to_owned(), Trouble::Denied)
                }
                (From::Said(whose), Some(HttpErrorKind::Connect | HttpErrorKind::Timeout)) => {
                    (format!("{whose} cannot be asked"), Trouble::Unavailable)
                }
                (From::Said(whose), _) => (format!("{whose} gives none"), Trouble::Denied),
            };
            Error::Generic { store: "storage", source: Box::new(NoCredentials { why, trouble, source }) }
        };
        self.inner.get_credential().await.map_err(told)
    }
}
