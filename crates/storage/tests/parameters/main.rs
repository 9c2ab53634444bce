//! Everything that can be said about a storage, by the parameters of its URL and by the environment: that it is read, that
//! it goes through the record of a task unchanged, and what a server sees of it.
//!
//! Every row is tried in a process of its own, whose environment is the row's, against a recorder that plays the servers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod answers;
mod azure;
mod gcs;
mod record;
mod recorder;
mod row;
mod s3;
mod signature;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use logtide_format::proto::storage_backend::Backend;
use logtide_model::Diagnose;
use logtide_storage::{open, redacted, settings, task_url};
use object_store::ObjectStoreExt;
use recorder::{Recorder, Request};
use row::{Kept, Row};
use tempfile::TempDir;

/// Where the process that a row is tried in finds its URL.
const TOLD: &str = "LOGTIDE_TEST_PUT";

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
    let all = [s3::PARAMETERS, s3::VARIABLES, gcs::PARAMETERS, gcs::VARIABLES, azure::PARAMETERS, azure::VARIABLES];
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

/// A process that puts an object is this one: it puts where it is told to, or into memory.
#[tokio::test]
async fn an_object_is_put() {
    let storage = open(&std::env::var(TOLD).unwrap_or("memory://put".to_owned())).unwrap();
    storage.store.put(&"o".into(), "content".into()).await.unwrap();
    let mut parts = storage.store.put_multipart(&"m".into()).await.unwrap();
    parts.put_part("content".into()).await.unwrap();
    parts.complete().await.unwrap();
    let shown = format!("{storage:?}");
    assert!(shown.contains(&redacted(&storage.url)), "{shown}");
}

#[test]
fn a_setting_has_its_effect_before_and_after_the_record_of_a_task() {
    let recorder = Recorder::start();
    let files = files(&recorder);
    let mut faults = Vec::new();
    for row in rows().filter(|row| !row.effects.is_empty()) {
        let given = row.url.replace("{dir}", files.path().to_str().unwrap());
        let (_, kept) = record::through_a_task(&given);
        for url in [given, kept] {
            let (output, requests) = put(&url, row.environment, &recorder, &files);
            match output {
                Err(said) => faults.push(format!("{} {url}\n{said}", row.name)),
                Ok(()) => faults.extend(row.effects.iter().filter(|effect| !effect.is_seen(&requests)).map(|effect| {
                    let requests: Vec<_> = requests.iter().map(|r| format!("{}: {}", r.host, r.text())).collect();
                    format!("{} {url}\n{effect:?} was not seen in\n{}", row.name, requests.join("\n"))
                })),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// An odd value of a setting is refused or sent, ends no process (object_store has its panics), and is not shown if it
/// is a secret.
#[test]
fn no_value_makes_a_panic_or_shows_a_secret() {
    let recorder = Recorder::start();
    let files = files(&recorder);
    let mut tried = BTreeSet::new();
    let mut refused = 0;
    let mut faults = Vec::new();
    for row in rows().filter(|row| !row.effects.is_empty() && tried.insert(row.setting())) {
        for value in ["S3CRET\n", "S3CRET %:/\u{e4}", "http://S3CRET:S3CRET@ /"] {
            let (url, environment) = with_value(row, value);
            let (outcome, _) =
                put(&url.replace("{dir}", files.path().to_str().unwrap()), &environment, &recorder, &files);
            let Err(said) = outcome else { continue };
            refused += 1;
            let panics = said.lines().filter(|line| line.contains("panicked at"));
            if panics.filter(|line| !line.contains("tests/parameters/main.rs")).count() > 0 {
                faults.push(format!("{} {value:?} panics:\n{said}", row.name));
            }
            if is_secret(row) && said.contains("S3CRET") {
                faults.push(format!("{} {value:?} is shown:\n{said}", row.name));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    assert!(refused > tried.len(), "{refused} of {} were refused", 3 * tried.len());
}

/// A row's URL and environment with another value of what it is about.
fn with_value<'a>(row: &Row, value: &'a str) -> (String, Vec<(&'static str, &'a str)>) {
    let environment = row.environment.iter().map(|(name, old)| (*name, if *name == row.name { value } else { *old }));
    let url = match row.url.split_once(&format!("{}=", row.name)).filter(|_| !row.in_environment) {
        Some((before, after)) => {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let rest = after.split_once('&').map_or("", |(_, rest)| rest);
            format!("{before}{}={encoded}&{rest}", row.name)
        }
        None => row.url.to_owned(),
    };
    (url, environment.collect())
}

fn is_secret(row: &Row) -> bool {
    if row.in_environment {
        let is_name = row.name.ends_with("_FILE") || row.name.contains("ENDPOINT");
        return !is_name && ["KEY", "SECRET", "TOKEN"].iter().any(|part| row.name.contains(part));
    }
    !redacted(row.url).contains(&format!("{}=", row.name))
}

/// What the rows name by `{dir}`.
fn files(recorder: &Recorder) -> TempDir {
    let files = tempfile::tempdir().unwrap();
    let credentials = "[default]\naws_access_key_id = DEFAULT\naws_secret_access_key = s\n\
                       [work]\naws_access_key_id = WORK\naws_secret_access_key = work-secret\naws_session_token = work-token\n";
    let login = r#"{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"of-login"}"#;
    let account = r#"{"private_key":"","private_key_id":"","client_email":"","disable_oauth":true,"gcs_base_url":"http://account.example"}"#;
    for (name, content) in [
        ("ca.pem", recorder.authority.as_str()),
        ("credentials", credentials),
        ("login.json", login),
        ("account.json", account),
        ("identity", "who-I-am"),
    ] {
        std::fs::write(files.path().join(name), content).unwrap();
    }
    files
}

/// Puts an object in a process of its own; what that said if it could not, and what the servers were asked.
fn put(
    url: &str,
    environment: &[(&str, &str)],
    recorder: &Recorder,
    files: &TempDir,
) -> (Result<(), String>, Vec<Request>) {
    let proxy = format!("http://{}", recorder.address);
    let directory = files.path().to_str().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "an_object_is_put", "--nocapture"]).env_clear().env("HOME", directory);
    command.env("HTTP_PROXY", &proxy).env("HTTPS_PROXY", &proxy);
    command.env("LOGTIDE_CA_FILE", format!("{directory}/ca.pem")).env(TOLD, url);
    command.envs(environment.iter().map(|(name, value)| (name, value.replace("{dir}", directory))));
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success().then_some(()).ok_or(said), recorder.take())
}
