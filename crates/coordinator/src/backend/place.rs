//! The URL of a remote storage in parts: a bucket, a prefix in it, and parameters in the spelling of `br`.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::form_urlencoded;

/// What must not stand as it is in a prefix, and in a value: canonical URLs of `logtide_storage` are written so.
const IN_PREFIX: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?');
const IN_VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'>');

/// A remote URL in parts.
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) prefix: String,
    pub(super) parameters: BTreeMap<String, String>,
}

impl Place {
    /// `None` for what is better kept as it is.
    pub(super) fn read(url: &str) -> Option<Self> {
        let (_, rest) = url.split_once("://")?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let prefix = percent_decode_str(prefix).decode_utf8().ok()?.into_owned();
        let mut parameters = BTreeMap::new();
        // A `+` is a plus: secret keys have it.
        for (name, value) in form_urlencoded::parse(query.replace('+', "%2B").as_bytes()) {
            if parameters.insert(name.into_owned(), value.into_owned()).is_some() {
                return None;
            }
        }
        Some(Place { bucket: bucket.to_owned(), prefix, parameters })
    }

    pub(super) fn of(bucket: String, prefix: &str) -> Self {
        Place { bucket, prefix: prefix.trim_matches('/').to_owned(), parameters: BTreeMap::new() }
    }

    /// Parameters in the order of their names, empty ones left out.
    pub(super) fn url(&self, scheme: &str) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        let place = format!("{scheme}://{}{slash}{}", self.bucket, utf8_percent_encode(&self.prefix, IN_PREFIX));
        let given = self.parameters.iter().filter(|(_, value)| !value.is_empty());
        let pairs: Vec<_> =
            given.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, IN_VALUE))).collect();
        if pairs.is_empty() { place } else { format!("{place}?{}", pairs.join("&")) }
    }

    /// Moves parameters into the fields of their names.
    pub(super) fn fill<const N: usize>(&mut self, fields: [(&str, &mut String); N]) {
        for (name, field) in fields {
            *field = self.parameters.remove(name).unwrap_or_default();
        }
    }

    /// Moves fields into parameters of their names.
    pub(super) fn take<const N: usize>(&mut self, fields: [(&str, &mut String); N]) {
        for (name, field) in fields {
            self.parameters.insert(name.to_owned(), std::mem::take(field));
        }
    }

    /// A parameter that is true or false, in the spellings that `br` reads. One that is neither stays.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        let flag = match self.parameters.get(name)?.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return None,
        };
        self.parameters.remove(name);
        Some(flag)
    }
}
