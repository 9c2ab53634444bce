//! A bank: transfers move money between accounts in different regions; the sum never changes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use logtide_mock_raftstore::client::{Client, ClientError, TxnOptions};

use crate::source::table_prefix;

/// Table id of the first account; accounts lie in several tables, so that they lie in several regions.
const FIRST_TABLE: i64 = 1000;
/// Accounts.
pub(crate) const ACCOUNTS: u64 = 240;
/// Tables that they are spread over.
pub(crate) const TABLES: u64 = 4;
/// What each account begins with.
pub(crate) const OPENING_BALANCE: u64 = 1_000;

/// The raw key of an account.
pub(crate) fn account_key(account: u64) -> Vec<u8> {
    let mut key = table_prefix(FIRST_TABLE + (account % TABLES) as i64);
    key.extend_from_slice(&account.to_be_bytes());
    key
}

/// Raw keys that keep the tables of accounts apart.
pub(crate) fn split_keys() -> Vec<Vec<u8>> {
    (0..TABLES as i64).map(|table| table_prefix(FIRST_TABLE + table)).collect()
}

/// What an account holds; padded, so that a balance is not always a short value.
pub(crate) fn balance_value(account: u64, balance: u64) -> Vec<u8> {
    let padding = if account.is_multiple_of(3) { 100 } else { 0 };
    format!("{balance:012}{}", ".".repeat(padding)).into_bytes()
}

/// The balance in a value.
pub(crate) fn balance(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value.get(..12)?).ok()?.parse().ok()
}

/// True if the key is an account's.
pub(crate) fn is_account(key: &[u8]) -> bool {
    key >= &table_prefix(FIRST_TABLE)[..] && key < &table_prefix(FIRST_TABLE + TABLES as i64)[..]
}

/// Opens all accounts, in one transaction.
pub(crate) fn open(client: &Client) -> Result<(), ClientError> {
    let mut txn = client.begin()?;
    for account in 0..ACCOUNTS {
        txn.put(account_key(account), balance_value(account, OPENING_BALANCE));
    }
    txn.commit().map(drop)
}

/// Transfers until told to stop. Every kind of transaction takes its turn. Conflicts are part of the game; other errors end
/// it.
pub(crate) fn transfer(client: &Client, seed: u64, stop: &AtomicBool, done: &AtomicU64) -> Result<(), ClientError> {
    let mut random = seed;
    let mut next = move || {
        // An LCG will do: this is a load, not a lottery (constants: Knuth, MMIX).
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    while !stop.load(Ordering::Relaxed) {
        let (from, to, amount) = (next() % ACCOUNTS, next() % ACCOUNTS, next() % 100);
        if from == to {
            continue;
        }
        let options = TxnOptions {
            pessimistic: next() % 2 == 0,
            async_commit: next() % 2 == 0,
            one_pc: next() % 2 == 0,
            ..TxnOptions::default()
        };
        match move_money(client, options, from, to, amount) {
            Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
            Err(ClientError::RolledBack { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn move_money(client: &Client, options: TxnOptions, from: u64, to: u64, amount: u64) -> Result<(), ClientError> {
    let (from_key, to_key) = (account_key(from), account_key(to));
    let mut txn = client.begin_with(options)?;
    // A pessimistic transaction goes by what it locked: its snapshot may be older than that.
    let values = match options.pessimistic {
        true => txn.lock(&[&from_key, &to_key])?,
        false => vec![txn.get(&from_key)?, txn.get(&to_key)?],
    };
    let balances: Vec<u64> = values.iter().map(|value| value.as_deref().and_then(balance).unwrap_or(0)).collect();
    let &[a, b] = &balances[..] else { return txn.rollback() };
    if a < amount {
        return txn.rollback();
    }
    txn.put(from_key, balance_value(from, a - amount));
    txn.put(to_key, balance_value(to, b + amount));
    txn.commit().map(drop)
}
