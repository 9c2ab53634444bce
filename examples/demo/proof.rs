//! The proof: the source's state at T1, read through raft, against the restored directory.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use indicatif::ProgressBar;
use logtide_mock_raftstore::client::Client;
use logtide_model::Ts;

use crate::bank;
use crate::compare::{Pair, Verdict, compare};

/// Pairs in flight between a reader and the comparison.
const QUEUE: usize = 256;
/// Pairs of one read from the source.
const PAGE: usize = 256;

/// What the proof found.
pub struct Proof {
    /// The comparison.
    pub verdict: Verdict,
    /// Accounts that were restored.
    pub accounts: u64,
    /// The sum of their balances.
    pub sum: u64,
}

type Stream = Receiver<Result<Pair, String>>;

/// Compares both at `at`.
pub fn prove(client: &Client, restored: &Path, at: Ts, bar: &ProgressBar) -> Result<Proof, String> {
    let source = read_source(client.clone(), at);
    let mut proof = Proof { verdict: Verdict::default(), accounts: 0, sum: 0 };
    let counted = read_restored(restored.to_path_buf(), at).into_iter().inspect(|pair| {
        if let Ok((key, value)) = pair {
            bar.inc((key.len() + value.len()) as u64);
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
    let snapshot = client.snapshot(at);
    let mut start = Vec::new();
    loop {
        let page = snapshot.scan(&start, &[], PAGE).map_err(|e| e.to_string())?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        start = [&last[..], &[0]].concat();
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
        if let Err(error) = logtide_restore::dump(&dir, at, None, each) {
            let _ = sender.send(Err(format!("cannot read {}: {error}", dir.display())));
        }
    });
    stream
}
