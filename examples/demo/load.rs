//! Loads files as transactions of about a mebibyte.

use std::fs;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use indicatif::ProgressBar;
use logtide_mock_raftstore::client::{Client, ClientError};

use crate::Failed;
use crate::source::{SourceFile, file_key};

/// Bytes of a transaction.
const BATCH: u64 = 1 << 20;
/// Threads that load.
const LOADERS: usize = 3;

/// Loads all files; `written` counts bytes.
pub(crate) fn load(
    client: &Client,
    files: &[SourceFile],
    written: &AtomicU64,
    bar: &ProgressBar,
) -> Result<(), Failed> {
    let batches = batches(files);
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), Failed> {
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            load_batch(client, batch)?;
            let bytes = batch.iter().map(|file| file.size).sum();
            written.fetch_add(bytes, Ordering::Relaxed);
            bar.inc(bytes);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let loaders: Vec<_> = (0..LOADERS).map(|_| scope.spawn(work)).collect();
        loaders.into_iter().try_for_each(|loader| loader.join().map_err(|_| Failed::from("a loader panicked"))?)
    })
}

fn batches(files: &[SourceFile]) -> Vec<&[SourceFile]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (n, file) in files.iter().enumerate() {
        bytes += file.size;
        if bytes >= BATCH || n + 1 == files.len() {
            batches.push(&files[start..=n]);
            (start, bytes) = (n + 1, 0);
        }
    }
    batches
}

fn load_batch(client: &Client, files: &[SourceFile]) -> Result<(), Failed> {
    let contents: Vec<_> = files.iter().map(|file| fs::read(&file.path)).collect::<Result<_, _>>()?;
    until_done(|| {
        let mut txn = client.begin()?;
        for (file, content) in files.iter().zip(&contents) {
            txn.put(file_key(&file.name), content.clone());
        }
        txn.commit().map(drop)
    })
}

/// Tries again what was rolled back; anything else ends the demo.
pub(crate) fn until_done(mut attempt: impl FnMut() -> Result<(), ClientError>) -> Result<(), Failed> {
    loop {
        match attempt() {
            Err(ClientError::RolledBack { .. }) => {}
            other => return Ok(other?),
        }
    }
}
