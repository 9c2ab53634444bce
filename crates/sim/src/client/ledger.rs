//! What clients may have locked. Readers do not meet pessimistic locks, nor those of [`super::TxnPlan::locks_only`]: who
//! wants to find every lock asks here.

use std::collections::{BTreeMap, BTreeSet};

use logtide_model::Ts;

/// A transaction that may hold locks.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) primary: Vec<u8>,
    pub(super) ttl_ms: u64,
    /// Raw keys that are not known to be without lock.
    pub(super) keys: BTreeSet<Vec<u8>>,
    /// Its client lives.
    pub(super) live: bool,
}

/// See the module; by start ts.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<Ts, Entry>);

impl Ledger {
    pub(super) fn begin(&mut self, start_ts: Ts, entry: Entry) {
        self.0.insert(start_ts, entry);
    }

    /// No lock is left on any key.
    pub(super) fn finish(&mut self, start_ts: Ts) {
        self.0.remove(&start_ts);
    }

    /// The client is gone.
    pub(super) fn die(&mut self, start_ts: Ts) {
        if let Some(entry) = self.0.get_mut(&start_ts) {
            entry.live = false;
        }
    }

    /// These keys have no lock now. That of a living client may come back.
    pub(super) fn resolved(&mut self, start_ts: Ts, keys: &[Vec<u8>]) {
        let Some(entry) = self.0.get_mut(&start_ts).filter(|entry| !entry.live) else { return };
        entry.keys.retain(|key| !keys.contains(key));
        if entry.keys.is_empty() {
            self.0.remove(&start_ts);
        }
    }

    pub(super) fn start_timestamps(&self) -> Vec<Ts> {
        self.0.keys().copied().collect()
    }

    /// The transactions that may have locks in `[start, end)` (an empty end is +inf), with these keys only.
    pub(super) fn in_range(&self, start: &[u8], end: &[u8]) -> Vec<(Ts, Entry)> {
        let inside = |key: &Vec<u8>| &key[..] >= start && (end.is_empty() || &key[..] < end);
        let narrow = |(ts, entry): (&Ts, &Entry)| {
            let keys: BTreeSet<_> = entry.keys.iter().filter(|key| inside(key)).cloned().collect();
            (!keys.is_empty()).then(|| (*ts, Entry { keys, ..entry.clone() }))
        };
        self.0.iter().filter_map(narrow).collect()
    }
}
