//! The `logtide` command, run as its user would: as a process of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Failed;

/// The command that was built with this demo.
pub(crate) fn logtide() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("logtide")));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("logtide"))
}

/// Runs it with `--json`; what it printed. Its progress and errors go to the terminal.
pub(crate) fn run(args: &[&str]) -> Result<Value, Failed> {
    let output = Command::new(logtide()).arg("--json").args(args).stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| format!("cannot run {}: {e}; 'make demo' builds it", logtide().display()))?;
    if !output.status.success() {
        // Not all of its arguments: there may be credentials among them.
        return Err(format!("'logtide {}' failed", args[..args.len().min(2)].join(" ")).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// True once the nodes have told the coordinator about themselves.
pub(crate) fn nodes_are_known(coordinator: &str) -> Result<bool, Failed> {
    let store = logtide_coordinator::DirectoryStore::open(coordinator)?;
    let tasks = logtide_coordinator::Tasks::new(std::sync::Arc::new(store));
    Ok(!tasks.nodes()?.is_empty())
}
