//! Tells what a storage can do, by trying it: `cargo run -p logtide-storage --example probe -- 's3://bucket/prefix?…'`.
//! It writes below `v1/logtide/probe` in the prefix, and removes what it wrote.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command")]

use std::process::ExitCode;
use std::time::Instant;

use logtide_model::Diagnose;
use logtide_storage::{StorageError, open, probe, read_identity};

fn main() -> ExitCode {
    let Some(url) = std::env::args().nth(1) else {
        eprintln!("usage: probe URL");
        return ExitCode::FAILURE;
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(tell(&url)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\nto mend it: {}", error.remedy());
            ExitCode::FAILURE
        }
    }
}

async fn tell(url: &str) -> Result<(), StorageError> {
    let storage = open(url)?;
    println!("{}", storage.url);
    match read_identity(&storage).await? {
        Some(owner) => println!("it holds the log of task {} of cluster {}", owner.task, owner.cluster_id),
        None => println!("no task of logtide owns it"),
    }
    let began = Instant::now();
    let seen = probe(&storage).await?;
    println!("create-if-absent: {:?} (seen in {:?})\n{seen}", seen.create, began.elapsed());
    Ok(())
}
