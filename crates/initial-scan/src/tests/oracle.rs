//! Scans of random stores, compared with what a naive reader finds.

use logtide_model::message::ScanEntry;
use logtide_model::mvcc::{Lock, LockKind, Write, WriteKind};
use logtide_model::{Cf, KeyRange, Task, Ts, append_ts, split_ts};
use proptest::prelude::*;

use super::store::{Store, scan, scanner, task};

/// Keys that share prefixes across the groups of the encoding.
const KEYS: [&str; 7] = ["a", "a\0", "aaaaaaaa", "aaaaaaaaa", "b", "mmmmmmmmmmmmmmmmm", "z"];

/// A record on a key: which kind, how much older its start is, how long its value.
type Step = (usize, u8, u64, usize);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop::sample::select(vec![0usize, 1, 64, 65, 500, 9000]);
    prop::collection::vec((0..KEYS.len(), 0..10u8, 0..5u64, length), 0..90)
}

/// Step `n` commits at `100 n`; starts are unique, and in another order than commits.
fn build(steps: &[Step], range: KeyRange) -> Store {
    let mut store = Store::new(range);
    for (n, (key, kind, age, length)) in (1u64..).zip(steps) {
        let (key, value) = (KEYS[*key], vec![b'v'; *length]);
        let (start, commit) = ((n.saturating_sub(*age).max(1)) * 100 - 1 - n % 97, n * 100);
        match kind {
            0..5 => store.write(WriteKind::Put, key, start, commit, &value),
            5 => store.write(WriteKind::Delete, key, start, commit, b""),
            6 => store.write(WriteKind::Lock, key, start, commit, b""),
            7 => store.write(WriteKind::Rollback, key, start, start, b""),
            8 => store.lock(if *age == 0 { LockKind::Delete } else { LockKind::Put }, key, commit + 1, &value),
            _ => store.lock(if *age == 0 { LockKind::Lock } else { LockKind::Pessimistic }, key, commit + 1, b""),
        }
    }
    store
}

fn record(store: &Store, cf: Cf, key: Vec<u8>) -> ScanEntry {
    let value = store.cf(cf)[&key].clone();
    ScanEntry { cf, key: key.into(), value }
}

/// What belongs to the backup: looks at every record, one by one.
fn expected(store: &Store, region: &KeyRange, task: &Task, start_ts: Ts) -> (Vec<(Vec<u8>, Ts)>, Vec<ScanEntry>) {
    let wanted = |key: &[u8]| region.contains(key) && task.contains(key);
    let (mut locks, mut entries) = (Vec::new(), Vec::new());
    let value_at = |user: &[u8], ts: Ts| {
        let mut key = user.to_vec();
        append_ts(&mut key, ts);
        record(store, Cf::Default, key)
    };
    for (key, bytes) in store.cf(Cf::Lock).iter().filter(|(key, _)| wanted(key)) {
        let lock = Lock::parse(bytes).unwrap();
        if lock.holds_resolved_ts() {
            locks.push((key.clone(), lock.start_ts));
        }
        if lock.kind == LockKind::Put && lock.short_value.is_none() {
            entries.push(value_at(key, lock.start_ts));
        }
    }
    for (key, bytes) in store.cf(Cf::Write).iter().filter(|(key, _)| wanted(key)) {
        let (user, commit_ts) = split_ts(key).unwrap();
        let write = Write::parse(bytes).unwrap();
        if commit_ts > start_ts && matches!(write.kind, WriteKind::Put | WriteKind::Delete) {
            entries.push(record(store, Cf::Write, key.clone()));
            if write.needs_default() {
                entries.push(value_at(user, write.start_ts));
            }
        }
    }
    (locks, entries)
}

fn ranges(bounds: &[(usize, usize)]) -> Vec<KeyRange> {
    let bound = |n: usize| KEYS.get(n).copied().unwrap_or_default();
    // Ascending; a bound that is not among the keys is open.
    let range = |(a, b): &(usize, usize)| KeyRange::from_raw(bound(*a.min(b)).as_bytes(), bound(*a.max(b)).as_bytes());
    bounds.iter().map(range).collect()
}

fn sorted(mut entries: Vec<ScanEntry>) -> Vec<ScanEntry> {
    entries.sort_by(|a, b| (a.cf, &a.key).cmp(&(b.cf, &b.key)));
    entries
}

proptest! {
    #[test]
    fn a_scan_finds_what_a_naive_reader_finds(
        steps in steps(), start_ts in prop_oneof![0u64..10_000, (0u64..95).prop_map(|n| n * 100)], region in (0usize..8, 0usize..9),
        bounds in prop::collection::vec((0usize..8, 0usize..9), 1..4), batch_bytes in 1usize..4096,
    ) {
        let region = ranges(&[region]).remove(0);
        let store = build(&steps, region.clone());
        let task = task(ranges(&bounds));
        let (emitted, report) = scan(&scanner(1 << 20, batch_bytes), &store, &task, start_ts).unwrap();
        let (locks, entries) = expected(&store, &region, &task, Ts::new(start_ts));
        let found: Vec<_> = emitted.locks.iter().map(|(key, ts)| (key.to_vec(), *ts)).collect();
        prop_assert_eq!(found, locks);
        prop_assert_eq!(report.entries, entries.len() as u64);
        // Each exactly once, and no value behind the record that needs it.
        for (n, entry) in emitted.entries.iter().enumerate().filter(|(_, entry)| entry.cf == Cf::Write) {
            let write = Write::parse(&entry.value).unwrap();
            let mut value = split_ts(&entry.key).unwrap().0.to_vec();
            append_ts(&mut value, write.start_ts);
            let before = |e: &ScanEntry| e.cf == Cf::Default && e.key == value;
            prop_assert!(!write.needs_default() || emitted.entries[..n].iter().any(before));
        }
        prop_assert_eq!(sorted(emitted.entries), sorted(entries));
        let order = emitted.order.trim_start_matches('s').trim_start_matches('l').trim_start_matches('d');
        prop_assert_eq!(order.trim_start_matches('e'), "f");
        prop_assert_eq!(emitted.order.matches(['s', 'd', 'f']).count(), 3);
    }
}
