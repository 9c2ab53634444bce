//! How a command ends: exit codes, and errors with their code, causes and remedy, for people or as JSON.

use std::process::ExitCode;

use logtide_model::{Diagnose, ErrorCode};
use serde_json::json;

/// A command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: String,
    remedy: String,
    exit: u8,
}

impl Failure {
    /// An argument that cannot be (exit code 2).
    pub(crate) fn usage(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Failure { message: message.into(), code: "KV:LogBackup:Config".into(), remedy: remedy.into(), exit: 2 }
    }

    /// Something that does not work (exit code 1).
    pub(crate) fn failed(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Failure { exit: 1, ..Failure::usage(message, remedy) }
    }

    /// The same with another code than that of wrong settings.
    pub(crate) fn coded(self, code: ErrorCode) -> Self {
        Failure { code: code.to_string(), ..self }
    }
}

impl<E: Diagnose> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            let text = next.to_string();
            // Messages that quote their cause already are not told twice.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = next.source();
        }
        Failure { message, code: error.code().to_string(), remedy: error.remedy(), exit: 1 }
    }
}

/// Ends the command: 0, or the failure's exit code after telling it on standard error.
pub(crate) fn finish(result: Result<(), Failure>, as_json: bool) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    if as_json {
        let error = json!({ "error": failure.message, "code": failure.code, "remedy": failure.remedy });
        tell(&error.to_string());
    } else {
        tell(&format!("error: {} [{}]", failure.message, failure.code));
        if !failure.remedy.is_empty() {
            tell(&format!("  what to do: {}", failure.remedy));
        }
    }
    ExitCode::from(failure.exit)
}

#[allow(clippy::print_stderr)]
fn tell(line: &str) {
    eprintln!("{line}");
}

/// Writes a line to standard output. A closed pipe is the reader's right: the line is lost silently.
pub(crate) fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
