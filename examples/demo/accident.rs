//! The accident: a wrong range of keys is deleted, and a wrong mass update hits the bank.

use logtide_mock_raftstore::client::Client;

use crate::Failed;
use crate::bank;
use crate::load::until_done;
use crate::source::{SourceFile, file_key};

/// Keys of a deleting transaction.
const BATCH: usize = 500;

/// The files that are hit: the middle third.
pub(crate) fn victims(files: &[SourceFile]) -> &[SourceFile] {
    &files[files.len() / 3..files.len() * 2 / 3]
}

/// Lets it happen.
pub(crate) fn happen(client: &Client, victims: &[SourceFile]) -> Result<(), Failed> {
    for batch in victims.chunks(BATCH) {
        until_done(|| {
            let mut txn = client.begin()?;
            batch.iter().for_each(|file| txn.delete(file_key(&file.name)));
            txn.commit().map(drop)
        })?;
    }
    until_done(|| {
        let mut txn = client.begin()?;
        for account in 0..bank::ACCOUNTS {
            txn.put(bank::account_key(account), bank::balance_value(account, 1_000_000));
        }
        txn.commit().map(drop)
    })
}

/// How many of the victims are there now.
pub(crate) fn survivors(client: &Client, victims: &[SourceFile]) -> Result<usize, Failed> {
    let now = client.timestamp()?;
    let mut snapshot = client.snapshot(now);
    let mut found = 0;
    for file in victims {
        found += usize::from(snapshot.get(&file_key(&file.name))?.is_some());
    }
    Ok(found)
}
