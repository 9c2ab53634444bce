//! The parameters behind the `?` of a storage's URL: each one is known by name and either used or refused, and those
//! that are secret are shown to nobody.

use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{Setting, StorageError};

/// What must not stand as it is in a value. `+` is among them, for other readers of URLs take it for a space.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'>');

/// What cannot stand in a header, and where object_store would panic.
pub(crate) const UNPRINTABLE: &str = "it has a character that cannot be sent (a line end, perhaps)";

/// True for what can stand in the header of a request.
pub(crate) fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// A parameter that a kind of storage knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    name: &'static str,
    secret: bool,
    /// Whether its value may be of any characters, as those of a file's name.
    any_text: bool,
    /// Why it cannot be used, and what to do instead.
    refused: Option<(&'static str, &'static str)>,
}

impl Known {
    /// What is told of it.
    pub(crate) fn setting(&self, scheme: &'static str) -> Setting {
        Setting { scheme, name: self.name, in_environment: false, refused: self.refused.is_some() }
    }

    /// One that may be shown.
    pub(crate) const fn plain(name: &'static str) -> Self {
        Known { name, secret: false, any_text: false, refused: None }
    }

    /// One that is shown to nobody.
    pub(crate) const fn secret(name: &'static str) -> Self {
        Known { name, secret: true, any_text: false, refused: None }
    }

    /// One of `br`'s that logtide cannot honour: the reason, and what to do instead.
    #[cfg_attr(not(feature = "azure"), allow(dead_code, reason = "the other kinds refuse nothing"))]
    pub(crate) const fn refused(name: &'static str, reason: &'static str, remedy: &'static str) -> Self {
        Known { name, secret: false, any_text: false, refused: Some((reason, remedy)) }
    }

    /// Its value may be of any characters.
    pub(crate) const fn any_text(self) -> Self {
        Known { any_text: true, ..self }
    }
}

/// The parameters of one URL.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// The URL without them, for errors.
    url: String,
    values: BTreeMap<&'static str, Value>,
}

#[derive(Clone, PartialEq, Eq)]
struct Value {
    text: String,
    secret: bool,
}

impl Parameters {
    /// Reads a query. As in `br`, names may be written with `_` and in capitals, an empty value is none, and a `+` is a
    /// plus (secret keys contain it).
    pub(crate) fn read(url: &str, query: &str, known: &[Known]) -> Result<Self, StorageError> {
        let mut values = BTreeMap::new();
        for (name, text) in url::form_urlencoded::parse(query.replace('+', "%2B").as_bytes()) {
            let name = name.to_ascii_lowercase().replace('_', "-");
            let Some(found) = known.iter().find(|k| k.name == name) else {
                return Err(unknown(url, name, known));
            };
            if text.is_empty() {
                continue;
            }
            if let Some((reason, remedy)) = found.refused {
                return Err(parameter(url, found.name, reason, remedy));
            }
            if !found.any_text && !is_printable(&text) {
                return Err(parameter(url, found.name, UNPRINTABLE, "write printable ASCII characters alone"));
            }
            let value = Value { text: text.into_owned(), secret: found.secret };
            if values.insert(found.name, value).is_some() {
                return Err(parameter(url, found.name, "it is there twice", "write it once"));
            }
        }
        Ok(Parameters { url: url.to_owned(), values })
    }

    /// The value of a parameter, if it was given.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.text.as_str())
    }

    /// A parameter that is true or false, in the spellings that `br` reads.
    #[cfg_attr(not(feature = "s3"), allow(dead_code, reason = "the other kinds have no such parameter"))]
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, StorageError> {
        match self.get(name) {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(_) => Err(self.bad(name, "it is neither true nor false", "write true or false")),
        }
    }

    /// An error about a parameter. The reason must not repeat a secret.
    pub(crate) fn bad(&self, name: &str, reason: &str, remedy: &str) -> StorageError {
        parameter(&self.url, name, reason, remedy)
    }

    /// The URL without its parameters.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The URL with the parameters in the order of their names; secret ones only if asked for.
    pub(crate) fn whole(&self, with_secrets: bool) -> String {
        let shown = self.values.iter().filter(|(_, value)| with_secrets || !value.secret);
        let pairs: Vec<_> =
            shown.map(|(name, value)| format!("{name}={}", utf8_percent_encode(&value.text, ENCODED))).collect();
        if pairs.is_empty() { self.url.clone() } else { format!("{}?{}", self.url, pairs.join("&")) }
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.whole(false))
    }
}

fn unknown(url: &str, name: String, known: &[Known]) -> StorageError {
    let names: Vec<_> = known.iter().filter(|k| k.refused.is_none()).map(|k| k.name).collect();
    let remedy = format!("check its spelling, or leave it out; this kind of storage knows {}", names.join(", "));
    // What follows a '&' that should have been written as %26 may be part of a secret.
    let name = if name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') { name } else { "…".to_owned() };
    parameter(url, &name, "logtide does not know it", &remedy)
}

fn parameter(url: &str, name: &str, reason: &str, remedy: &str) -> StorageError {
    StorageError::Parameter {
        url: url.to_owned(),
        name: name.to_owned(),
        reason: reason.to_owned(),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_model::Diagnose;

    const KNOWN: &[Known] = &[
        Known::plain("region"),
        Known::plain("path-style"),
        Known::secret("key"),
        Known::refused("acl", "no", "do something else"),
    ];

    fn read(query: &str) -> Result<Parameters, StorageError> {
        Parameters::read("s3://b/p", query, KNOWN)
    }

    #[test]
    fn names_are_read_as_br_reads_them_and_secrets_stay_inside() {
        let read = read("PATH_STYLE=1&key=a+b%2F%26&region=").unwrap();
        assert_eq!((read.get("key"), read.get("region")), (Some("a+b/&"), None));
        assert_eq!(read.flag("path-style").unwrap(), Some(true));
        assert_eq!(format!("{read:?}"), "s3://b/p?path-style=1");
        assert_eq!(read.whole(true), "s3://b/p?key=a%2Bb/%26&path-style=1");
    }

    #[test]
    fn what_was_written_is_read_again() {
        let first = read("key=a+b/&region=x%23y%25z%3D").unwrap();
        let query = first.whole(true).split_once('?').unwrap().1.to_owned();
        assert_eq!(read(&query).unwrap(), first);
    }

    #[test]
    fn refusals_name_the_parameter_and_not_its_value() {
        for (query, name, says) in [
            ("acl=SECRET", "acl", "do something else"),
            ("regoin=SECRET", "regoin", "region, path-style, key"),
            ("key=SECRET&key=SECRET", "key", "once"),
            ("key=ab&SECRET/x=", "…", "spelling"),
            ("key=SECRET%0A", "key", "a line end"),
            ("region=SECRET%C3%A4", "region", "ASCII"),
        ] {
            let error = read(query).unwrap_err();
            let text = format!("{error} {}", error.remedy());
            assert!(text.contains(name) && text.contains(says) && !text.contains("SECRET"), "{query}: {text}");
        }
        assert!(read("path-style=yes").unwrap().flag("path-style").unwrap_err().to_string().contains("path-style"));
    }
}
