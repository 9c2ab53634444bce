//! What servers see of a setting.

use std::collections::BTreeSet;

use logtide_storage::redacted;

use crate::process::{files, put};
use crate::recorder::Recorder;
use crate::row::Row;
use crate::{record, rows};

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
            if panics.filter(|line| !line.contains("tests/parameters/process.rs")).count() > 0 {
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
