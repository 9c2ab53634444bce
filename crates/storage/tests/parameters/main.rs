//! Everything that can be said about a storage, by the parameters of its URL and by the environment: that it is read, that
//! it goes through the record of a task unchanged, and what a server sees of it; and what is said when it cannot be used.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod answers;
mod azure;
mod effects;
mod gcs;
mod process;
mod record;
mod recorder;
mod row;
mod s3;
mod s3_variables;
mod signature;
mod troubles;

use std::collections::BTreeSet;
use std::path::Path;

use logtide_format::proto::storage_backend::Backend;
use logtide_model::Diagnose;
use logtide_storage::{open, redacted, settings, task_url};
use row::{Kept, Row};

/// The parameters of `br` (`S3BackendOptions`, `GCSBackendOptions`, `AzblobBackendOptions` of TiDB's `pkg/objstore`).
const OF_BR: [(&str, &[&str]); 3] = [
    (
        "s3",
        &[
            "endpoint",
            "region",
            "storage-class",
            "sse",
            "sse-kms-key-id",
            "acl",
            "access-key",
            "secret-access-key",
            "session-token",
            "provider",
            "force-path-style",
            "use-accelerate-endpoint",
            "role-arn",
            "external-id",
            "profile",
            "object-lock-enabled",
        ],
    ),
    ("gcs", &["endpoint", "storage-class", "predefined-acl", "credentials-file"]),
    (
        "azure",
        &["endpoint", "account-name", "account-key", "access-tier", "sas-token", "encryption-scope", "encryption-key"],
    ),
];

fn rows() -> impl Iterator<Item = &'static Row> {
    let all =
        [s3::PARAMETERS, s3_variables::VARIABLES, gcs::PARAMETERS, gcs::VARIABLES, azure::PARAMETERS, azure::VARIABLES];
    all.into_iter().flatten()
}

fn parameters() -> impl Iterator<Item = &'static Row> {
    rows().filter(|row| !row.in_environment)
}

#[test]
fn the_table_has_every_setting_and_no_other() {
    let known: BTreeSet<_> = settings().into_iter().collect();
    let in_table: BTreeSet<_> = rows().map(Row::setting).collect();
    assert_eq!(in_table, known);
    for row in rows() {
        let (_, query) = row.url.split_once('?').unwrap_or((row.url, ""));
        let said =
            query.contains(&format!("{}=", row.name)) || row.environment.iter().any(|(name, _)| *name == row.name);
        assert!(said, "{} is not in its row: {}", row.name, row.url);
        assert_eq!(row.effects.is_empty(), matches!(row.kept, Kept::Refused(..)), "{}", row.url);
    }
}

#[test]
fn every_parameter_of_br_is_known() {
    let known: BTreeSet<_> = settings().iter().map(|setting| (setting.scheme, setting.name)).collect();
    for (scheme, names) in OF_BR {
        for name in names {
            assert!(known.contains(&(scheme, *name)), "{scheme}: {name}");
        }
    }
}

#[test]
fn the_docs_name_every_setting() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/storages.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for setting in settings() {
        assert!(docs.contains(&format!("`{}`", setting.name)), "{setting:?} is not in docs/storages.md");
    }
}

/// What counts of the environment is known only if nothing else looks there.
#[test]
fn the_environment_is_read_in_one_place() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let text = std::fs::read_to_string(&entry).unwrap();
            let reads = ["env::var", "from_env("].iter().any(|call| text.contains(call));
            assert_eq!(reads, entry.ends_with("environment.rs"), "{}", entry.display());
        }
    }
}

#[test]
fn a_directory_and_memory_have_no_settings() {
    let names: BTreeSet<_> = settings().iter().filter(|s| !s.in_environment).map(|s| s.name).collect();
    for name in names {
        for url in ["local:///tmp", "file:///tmp", "memory://x"] {
            let error = open(&format!("{url}?{name}=S3CRET")).unwrap_err();
            assert!(!format!("{error} {}", error.remedy()).contains("S3CRET"), "{error}");
        }
    }
}

#[test]
fn a_parameter_goes_through_the_record_of_a_task() {
    for row in parameters() {
        let (message, read) = record::through_a_task(&told(row).unwrap_or_else(|| row.url.to_owned()));
        let fields = record::fields(&message);
        match row.kept {
            Kept::Field(field, value) | Kept::Refused(field, value) => {
                let found = fields.iter().find(|(name, _)| *name == field);
                let found = found.unwrap_or_else(|| panic!("{}: no field {field} in {message:?}", row.url));
                let refused = matches!(row.kept, Kept::Refused(..));
                assert!(if refused { !found.1.is_empty() } else { found.1 == value }, "{}: {found:?}", row.url);
            }
            Kept::Url => assert!(matches!(message, Backend::CloudDynamic(_)), "{}: {message:?}", row.url),
            Kept::Nothing => panic!("a parameter is kept somewhere: {}", row.url),
        }
        // What is read is what would be read once more, and shows no more than the URL did.
        assert_eq!(record::through_a_task(&read).1, read, "{}", row.url);
        if !matches!(row.kept, Kept::Refused(..)) {
            assert_eq!(redacted(&read), redacted(&task_url(&read).unwrap()), "{}", row.url);
        }
    }
}

#[test]
fn every_field_of_a_message_is_some_parameters() {
    let messages = parameters().map(|row| record::through_a_task(row.url).0);
    let mut of_nobody = BTreeSet::new();
    let mut of_somebody = BTreeSet::new();
    for message in messages {
        let kind = std::mem::discriminant(&message);
        for (name, value) in record::fields(&message) {
            let is_set = !value.is_empty() && value != "false";
            if is_set { &mut of_somebody } else { &mut of_nobody }.insert((format!("{kind:?}"), name));
        }
    }
    let missing: Vec<_> = of_nobody.difference(&of_somebody).collect();
    assert!(missing.is_empty() && !of_somebody.is_empty(), "{missing:?}");
}

/// The URL of a row as a task keeps it: `None` if it is refused.
fn told(row: &Row) -> Option<String> {
    (!matches!(row.kept, Kept::Refused(..))).then(|| task_url(row.url).unwrap())
}

#[test]
fn what_is_refused_is_refused_by_name_wherever_it_comes_from() {
    let mut seen = 0;
    for row in rows() {
        let Kept::Refused(_, remedy) = row.kept else { continue };
        let (_, of_a_task) = record::through_a_task(row.url);
        for url in [row.url, &of_a_task] {
            let error = open(url).unwrap_err();
            assert!(error.to_string().contains(&format!("'{}'", row.name)), "{url}: {error}");
            assert!(error.remedy().contains(remedy), "{url}: {}", error.remedy());
            seen += 1;
        }
    }
    assert_eq!(seen, 2 * settings().iter().filter(|setting| setting.refused).count());
}
