//! The proof: the source's state at T1, read through raft, against the restored directory.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use indicatif::ProgressBar;
use logtide_mock_raftstore::client::Client;
use logtide_model::{KeyRange, Ts};

use crate::bank;
use crate::compare::{Pair, Verdict, compare};
use crate::source::{SourceFile, file_key};

/// Pairs in flight between a reader and the comparison.
const QUEUE: usize = 256;
/// Pairs of one read from the source.
const PAGE: usize = 256;

/// What the proof found.
pub(crate) struct Proof {
    /// The comparison.
    pub(crate) verdict: Verdict,
    /// Accounts that were restored.
    pub(crate) accounts: u64,
    /// The sum of their balances.
    pub(crate) sum: u64,
    /// Files that the accident deleted and that were restored.
    pub(crate) victims: usize,
}

type Stream = Receiver<Result<Pair, String>>;

/// Compares both at `at`.
pub(crate) fn prove(
    client: &Client,
    restored: &Path,
    at: Ts,
    bar: &ProgressBar,
    victims: &[SourceFile],
) -> Result<Proof, String> {
    let source = read_source(client.clone(), at);
    let mut proof = Proof { verdict: Verdict::default(), accounts: 0, sum: 0, victims: 0 };
    let first = victims.first().map(|file| file_key(&file.name)).unwrap_or_default();
    let last = victims.last().map(|file| file_key(&file.name)).unwrap_or_default();
    let counted = read_restored(restored.to_path_buf(), at).into_iter().inspect(|pair| {
        if let Ok((key, value)) = pair {
            bar.inc((key.len() + value.len()) as u64);
            proof.victims += usize::from(*key >= first && *key <= last);
            if bank::is_account(key) {
                proof.accounts += 1;
                proof.sum += bank::balance(value).unwrap_or(0);
            }
        }
    });
    let verdict = compare(source.into_iter(), counted)?;
    proof.verdict = verdict;
    Ok(proof)
}

fn read_source(client: Client, at: Ts) -> Stream {
    let (sender, stream) = sync_channel(QUEUE);
    thread::spawn(move || {
        if let Err(error) = send_source(&client, at, &sender) {
            let _ = sender.send(Err(format!("cannot read the source: {error}")));
        }
    });
    stream
}

fn send_source(client: &Client, at: Ts, sender: &SyncSender<Result<Pair, String>>) -> Result<(), String> {
    let mut snapshot = client.snapshot(at);
    let mut start = Vec::new();
    loop {
        let page = snapshot.scan(&start, &[], PAGE).map_err(|e| e.to_string())?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        start = [last, &[0][..]].concat();
        for (key, value) in page {
            if sender.send(Ok((key.to_vec(), value.to_vec()))).is_err() {
                return Ok(());
            }
        }
    }
}

fn read_restored(dir: std::path::PathBuf, at: Ts) -> Stream {
    let (sender, stream) = sync_channel(QUEUE);
    thread::spawn(move || {
        let each = &mut |key: &[u8], value: &[u8]| {
            // A comparison that has ended early needs no more.
            let _ = sender.send(Ok((key.to_vec(), value.to_vec())));
            Ok(())
        };
        if let Err(error) = logtide_restore::dump(&dir, at, &KeyRange::ALL, each) {
            let _ = sender.send(Err(format!("cannot read {}: {error}", dir.display())));
        }
    });
    stream
}
