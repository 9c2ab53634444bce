//! What can be said about a storage: the parameters of its URL and the variables of the environment.

use crate::environment;
use crate::remote_url::Kind;

/// One thing that can be said about a kind of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// The kind, by the scheme of its URLs: `s3`, `gcs` or `azure`. A directory has no settings.
    pub scheme: &'static str,
    /// What it is called: `storage-class`, `AWS_REGION`.
    pub name: &'static str,
    /// True for a variable of the environment, false for a parameter of the URL.
    pub in_environment: bool,
    /// True for a parameter of `br` that logtide cannot honour: who writes it is told what to write instead.
    pub refused: bool,
}

/// Every setting of the kinds of storage that this build has. There are no others: another parameter is refused, another
/// variable does not count.
pub fn settings() -> Vec<Setting> {
    let known = Kind::ALL.into_iter().filter_map(|kind| Some((kind, kind.parameters()?)));
    let all = known.flat_map(|(kind, parameters)| {
        let parameters = parameters.iter().map(move |known| known.setting(kind.scheme()));
        parameters.chain(environment::settings(kind))
    });
    all.collect()
}
