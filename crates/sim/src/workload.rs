//! What clients do: transactions of every kind, most of them small, some large, some that nobody ends.

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::client::{Ending, TxnKind, TxnPlan};
use crate::world::KEYS;

/// The raw key of a number below [`KEYS`].
pub(crate) fn key(n: u64) -> Vec<u8> {
    format!("k{n:03}").into_bytes()
}

/// The transaction that a seed stands for.
pub(crate) fn plan(seed: u64) -> TxnPlan {
    plan_in(seed, |_| true)
}

/// The transaction that a seed stands for, with the keys that `is_there` names; with all of its keys if that is none.
pub(crate) fn plan_in(seed: u64, is_there: impl Fn(&[u8]) -> bool) -> TxnPlan {
    let mut rng = SmallRng::seed_from_u64(seed);
    let kind = match rng.random_range(0..8) {
        0..=2 => TxnKind::Optimistic2pc,
        3..=4 => TxnKind::AsyncCommit,
        5..=6 => TxnKind::OnePc,
        _ => TxnKind::Pessimistic,
    };
    // Many more keys than little memory for locks can hold, behind those of the others.
    if rng.random_bool(0.01) {
        let keys: Vec<u64> = (0..rng.random_range(100..300)).map(|n| KEYS + 10 + n).collect();
        return wide(seed, kind, &keys, &mut rng);
    }
    let size = match rng.random_range(0..10) {
        0..=4 => 1,
        5..=8 => rng.random_range(2..6),
        _ => rng.random_range(8..40),
    };
    let there: Vec<u64> = (0..KEYS).filter(|n| is_there(&key(*n))).collect();
    let there = if there.is_empty() { (0..KEYS).collect() } else { there };
    let mut keys: Vec<u64> = (0..size).map(|_| there[rng.random_range(0..there.len())]).collect();
    keys.sort_unstable();
    keys.dedup();
    let writes = keys.iter().map(|n| (key(*n), value(seed, *n, &mut rng))).collect();
    let locks_only = if rng.random_bool(0.1) { vec![key(KEYS + rng.random_range(0..4))] } else { Vec::new() };
    let ending = match rng.random_range(0..20) {
        0 => Ending::CommitPrimaryOnly,
        1 => Ending::Abandon,
        2 => Ending::AbandonHalf,
        3..=4 => Ending::Rollback,
        5..=8 => Ending::CommitLater(rng.random_range(1..60)),
        _ => Ending::Commit,
    };
    let think = if rng.random_bool(0.4) { rng.random_range(1..150) } else { 0 };
    let (ttl_ms, batch) = (rng.random_range(20..2000), rng.random_range(1..8));
    TxnPlan { kind, writes, locks_only, think, ttl_ms, ending, batch }
}

fn wide(seed: u64, kind: TxnKind, keys: &[u64], rng: &mut SmallRng) -> TxnPlan {
    let writes = keys.iter().map(|n| (key(*n), Some(format!("{seed:016x}").into_bytes()))).collect();
    // One phase is for what fits one command.
    let kind = if kind == TxnKind::OnePc { TxnKind::Optimistic2pc } else { kind };
    let ending = if rng.random_bool(0.7) { Ending::CommitLater(rng.random_range(1..80)) } else { Ending::Abandon };
    TxnPlan { kind, writes, locks_only: Vec::new(), think: 0, ttl_ms: rng.random_range(200..3000), ending, batch: 64 }
}

/// Raw keys and values that a seed stands for, ascending, among the keys that `is_there` names: to be ingested.
pub(crate) fn files(seed: u64, is_there: impl Fn(&[u8]) -> bool) -> Vec<(Vec<u8>, Bytes)> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let there: Vec<u64> = (0..KEYS).filter(|n| is_there(&key(*n))).collect();
    let first = rng.random_range(0..there.len().max(1));
    let count = rng.random_range(1..10);
    let pair = |n: &u64| Some((key(*n), value(seed, *n, &mut rng)?.into()));
    there.iter().skip(first).take(count).filter_map(pair).collect()
}

/// The raw keys that a range delete removes, first and behind the last, for keys of numbers below `upto`, and whether locks go
/// too. The end is that of no other.
pub(crate) fn range_delete(seed: u64, is_here: impl Fn(&[u8]) -> bool) -> Option<(Vec<u8>, Vec<u8>, bool)> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let first = rng.random_range(0..KEYS);
    let count = [1, 2, 5, 12][rng.random_range(0..4)];
    let last = (first..(first + count).min(KEYS)).take_while(|n| is_here(&key(*n))).last()?;
    Some((key(first), [&key(last)[..], format!(" {seed:016x}").as_bytes()].concat(), rng.random_bool(0.25)))
}

/// Mostly short values, some that lie in the default column family, some deletions.
fn value(seed: u64, key: u64, rng: &mut SmallRng) -> Option<Vec<u8>> {
    match rng.random_range(0..10) {
        0 => None,
        1..=4 => Some(format!("{seed:016x}-{key}-").repeat(rng.random_range(12..20)).into_bytes()),
        _ => Some(format!("{seed:016x}-{key}").into_bytes()),
    }
}
