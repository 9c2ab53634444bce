//! The server that `.ci/servers/run` started.

use std::error::Error;

use logtide_storage::{CreateIfAbsent, Trouble, classify, open, redacted, task_url};
use object_store::{ObjectStore, ObjectStoreExt};

use crate::place::{Place, below, path, unique};

/// The URL of its bucket.
pub(crate) fn url() -> String {
    let missing = "LOGTIDE_TEST_STORAGE names no server; run these tests with `make test-storage-moto` or \
                   `.ci/servers/run moto cargo test -p logtide-storage --all-features`";
    std::env::var("LOGTIDE_TEST_STORAGE").unwrap_or_else(|_| panic!("{missing}"))
}

/// Whether the server is known not to do something right. A test then holds that it does it wrong: what gets better is
/// seen, and taken out of its script.
pub(crate) fn has_defect(name: &str) -> bool {
    std::env::var("LOGTIDE_TEST_DEFECTS").unwrap().split(' ').any(|defect| defect == name)
}

pub(crate) fn place(test: &str) -> Place {
    let url = below(&url(), &unique(test));
    let storage = open(&url).unwrap();
    let said = std::env::var("LOGTIDE_TEST_CREATE").unwrap();
    let create: CreateIfAbsent = serde_json::from_value(said.into()).unwrap();
    // The short form is for every `make test`.
    let large = if std::env::var_os("LOGTIDE_TEST_LONG").is_some() { 64 << 20 } else { 8 << 20 };
    let (long_names, directories) = (!has_defect("short-names"), has_defect("directories"));
    Place { storage, url, create, lists_in_order: true, large, long_names, directories, _directory: None }
}

/// The values of the parameters of a URL that must not be seen.
fn secrets(url: &str) -> Vec<String> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let secret = |name: &str| name.ends_with("-key") || name.ends_with("token");
    pairs.filter(|(name, _)| secret(name)).map(|(_, value)| value.to_owned()).filter(|v| v.len() > 4).collect()
}

fn everything(error: &object_store::Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(" {cause} {cause:?}"));
        next = cause.source();
    }
    text
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_no_passing_trouble() {
    let url = url();
    let (head, rest) = url.split_once("/tests").unwrap();
    let storage = open(&format!("{head}-nowhere/tests{rest}")).unwrap();
    let answer = storage.store.put(&path("x"), "x".into()).await;
    if has_defect("makes-buckets") {
        assert!(answer.is_ok(), "{answer:?}");
        return;
    }
    let error = answer.unwrap_err();
    assert_eq!(classify(&error), Trouble::Permanent, "{error}");
    for secret in secrets(&url) {
        assert!(!everything(&error).contains(&secret), "{}", everything(&error));
    }
}

#[tokio::test]
async fn wrong_credentials_are_denied_and_not_repeated_in_words() {
    let url = url();
    let other = |secret: &String| format!("{}{}", if secret.starts_with('x') { 'y' } else { 'x' }, &secret[1..]);
    let wrong: Vec<_> = secrets(&url).iter().map(|s| (s.clone(), other(s))).collect();
    let bad = wrong.iter().fold(url, |url, (right, wrong)| url.replace(right, wrong));
    let storage = open(&bad).unwrap();
    let answer = storage.store.put(&path("x"), "x".into()).await;
    if std::env::var("LOGTIDE_TEST_CREDENTIALS").unwrap() == "ignored" {
        assert!(answer.is_ok(), "the server verifies them after all: say so in its script");
        return;
    }
    let error = answer.unwrap_err();
    assert_eq!(classify(&error), Trouble::Denied, "{error}");
    for (right, wrong) in &wrong {
        assert!(!everything(&error).contains(right) && !everything(&error).contains(wrong), "{}", everything(&error));
    }
}

#[tokio::test]
async fn secrets_are_shown_nowhere() {
    let place = place("secrets");
    let store: &dyn ObjectStore = &place.storage.store;
    let shown = format!("{:?} {} {store} {store:?} {}", place.storage, place.storage.url, redacted(&place.url));
    let secrets = secrets(&place.url);
    // Those of GCS are in a file.
    assert_eq!(secrets.is_empty(), place.url.starts_with("gcs:"));
    for secret in &secrets {
        assert!(!shown.contains(secret), "{shown}");
        let kept = task_url(&place.url).unwrap();
        assert!(
            open(&kept).is_ok() && kept.replace("%2B", "+").contains(secret),
            "the record of a task must hold them"
        );
    }
}
