//! Rows are tried in a process of their own, whose environment is the row's: this one, told to run one of these tests.

use std::path::Path;
use std::process::Command;

use logtide_model::Diagnose;
use logtide_storage::{open, probe, redacted};
use object_store::ObjectStoreExt;
use tempfile::TempDir;

use crate::recorder::{Recorder, Request};

/// Where such a process finds its URL.
const TOLD: &str = "LOGTIDE_TEST_PUT";

/// It puts an object, at once and in parts, where it is told to, or into memory.
#[tokio::test]
async fn an_object_is_put() {
    let storage = open(&told()).unwrap();
    storage.store.put(&"o".into(), "content".into()).await.unwrap();
    let mut parts = storage.store.put_multipart(&"m".into()).await.unwrap();
    parts.put_part("content".into()).await.unwrap();
    parts.complete().await.unwrap();
    let shown = format!("{storage:?}");
    assert!(shown.contains(&redacted(&storage.url)), "{shown}");
}

/// It says what a task would be told of a storage.
#[tokio::test]
async fn a_storage_is_probed() {
    let probed = match open(&told()) {
        Ok(storage) => probe(&storage).await,
        Err(error) => Err(error),
    };
    let said = probed.map_err(|error| format!("{error}\nto mend it: {}", error.remedy()));
    assert!(said.is_ok(), "{}", said.unwrap_err());
}

fn told() -> String {
    std::env::var(TOLD).unwrap_or("memory://put".to_owned())
}

/// What the rows name by `{dir}`.
pub(crate) fn files(recorder: &Recorder) -> TempDir {
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

/// Puts an object in such a process; what that said if it could not, and what the servers were asked.
pub(crate) fn put(
    url: &str,
    environment: &[(&str, &str)],
    recorder: &Recorder,
    files: &TempDir,
) -> (Result<(), String>, Vec<Request>) {
    let proxy = format!("http://{}", recorder.address);
    let directory = files.path().to_str().unwrap();
    let mut command = this("process::an_object_is_put", url, files.path());
    command.env("HTTP_PROXY", &proxy).env("HTTPS_PROXY", &proxy);
    command.env("LOGTIDE_CA_FILE", format!("{directory}/ca.pem"));
    command.envs(environment.iter().map(|(name, value)| (name, value.replace("{dir}", directory))));
    (run(command), recorder.take())
}

/// Probes a storage in such a process; what that said if it could not.
pub(crate) fn probe_in(environment: &[(&str, &str)], url: &str, home: &Path) -> Result<(), String> {
    let mut command = this("process::a_storage_is_probed", url, home);
    command.envs(environment.iter().copied());
    run(command)
}

fn this(test: &str, url: &str, home: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env_clear().env("HOME", home).env(TOLD, url);
    command
}

/// What it said if it failed.
fn run(mut command: Command) -> Result<(), String> {
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed") || said.contains("1 failed"), "no test of that name ran: {said}");
    if output.status.success() { Ok(()) } else { Err(said) }
}
