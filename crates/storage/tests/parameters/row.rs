//! A row of the table: one thing that can be said about a storage, what becomes of it, and how a server sees it.

use logtide_storage::Setting;

use crate::recorder::Request;
use crate::signature::{is_shared, is_signed};

pub(crate) struct Row {
    /// Of the parameter or the variable.
    pub(crate) name: &'static str,
    pub(crate) in_environment: bool,
    /// A URL, with the parameter in it. `{dir}` is where the files of the test are.
    pub(crate) url: &'static str,
    /// What is in the environment besides the recorder's address and certificate.
    pub(crate) environment: &'static [(&'static str, &'static str)],
    pub(crate) kept: Kept,
    pub(crate) effects: &'static [Effect],
}

/// What becomes of a parameter in the record of a task.
pub(crate) enum Kept {
    /// It stands in a field of TiDB's message.
    Field(&'static str, &'static str),
    /// That message has no field for it, and the URL is kept whole.
    Url,
    /// It is refused, with a remedy that says so; a task of TiDB's tools that has it in that field is refused too.
    Refused(&'static str, &'static str),
    /// It is no parameter.
    Nothing,
}

/// What a server sees.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Host and path of the object that is put, with its query.
    At(&'static str, &'static str),
    /// A header of every request that makes an object, and its value.
    Header(&'static str, &'static str),
    /// A header of the put of an object, and what is in it.
    PutHas(&'static str, &'static str),
    /// The put is signed with that secret.
    Signed(&'static str),
    /// The put is signed with that account's key.
    Shared(&'static str, &'static str),
    /// A server was asked something, with this in the request.
    Asked(&'static str, &'static str),
    /// A server was asked nothing.
    NotAsked(&'static str),
}

impl Row {
    pub(crate) const fn parameter(
        name: &'static str,
        url: &'static str,
        kept: Kept,
        effects: &'static [Effect],
    ) -> Self {
        Row { name, in_environment: false, url, environment: &[], kept, effects }
    }

    pub(crate) const fn refused(
        name: &'static str,
        url: &'static str,
        field: &'static str,
        remedy: &'static str,
    ) -> Self {
        Row::parameter(name, url, Kept::Refused(field, remedy), &[])
    }

    /// The same, in an environment.
    pub(crate) const fn within(self, environment: &'static [(&'static str, &'static str)]) -> Self {
        Row { environment, ..self }
    }

    pub(crate) const fn variable(
        name: &'static str,
        url: &'static str,
        environment: &'static [(&'static str, &'static str)],
        effects: &'static [Effect],
    ) -> Self {
        Row { name, in_environment: true, url, environment, kept: Kept::Nothing, effects }
    }

    pub(crate) fn setting(&self) -> Setting {
        let (scheme, _) = self.url.split_once(':').unwrap();
        let refused = matches!(self.kept, Kept::Refused(..));
        let scheme = ["s3", "gcs", "azure"].into_iter().find(|known| *known == scheme).unwrap();
        Setting { scheme, name: self.name, in_environment: self.in_environment, refused }
    }
}

impl Effect {
    pub(crate) fn is_seen(&self, requests: &[Request]) -> bool {
        let put = requests.iter().find(|request| request.method == "PUT" && is_object(request));
        match self {
            Effect::At(host, target) => put.is_some_and(|put| put.host == *host && put.target == *target),
            Effect::Header(name, value) => {
                let mut makers = requests.iter().filter(|r| makes_object(r)).peekable();
                makers.peek().is_some() && makers.all(|r| r.header(name) == Some(value))
            }
            Effect::PutHas(name, value) => {
                put.and_then(|put| put.header(name)).is_some_and(|text| text.contains(value))
            }
            Effect::Signed(secret) => put.is_some_and(|put| is_signed(put, secret)),
            Effect::Shared(account, key) => put.is_some_and(|put| is_shared(put, account, key)),
            Effect::Asked(host, text) => requests.iter().any(|r| r.host == *host && r.text().contains(text)),
            Effect::NotAsked(host) => !requests.iter().any(|r| r.host == *host),
        }
    }
}

/// GCS has its names in one part of the path.
fn is_object(request: &Request) -> bool {
    let path = request.target.split('?').next().unwrap();
    path.ends_with("/o") || path.ends_with("%2Fo")
}

/// A put of an object, or what makes one of parts: what it is to be is said at the begin (S3, GCS) or at the end (Azure).
fn makes_object(request: &Request) -> bool {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    match request.method.as_str() {
        "PUT" => is_object(request) || query.contains("comp=blocklist"),
        "POST" => query.contains("uploads"),
        _ => false,
    }
}
