//! A random history: transactions, rollbacks, garbage collection, changes of leadership, restarts.

use std::collections::{BTreeMap, BTreeSet};

use logtide_format::{EntryKind, ObjectTag};
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{Cf, Compression, Ts, append_ts, encode_raw_key};
use logtide_storage::Storage;

use super::backup::{Entry, Style, begin, checkpoint, flush, memory_storage};
use super::{Random, State};

const REGIONS: u64 = 4;
const STORES: u64 = 3;

/// What a finished history left.
pub(crate) struct History {
    pub(crate) storage: Storage,
    pub(crate) start: u64,
    pub(crate) checkpoint: u64,
    /// Raw key → commit ts → value, or none for a delete. Commits above `start` only.
    pub(crate) versions: BTreeMap<Vec<u8>, BTreeMap<u64, Option<Vec<u8>>>>,
    /// What happened, so that tests can see that the interesting things do.
    pub(crate) seen: BTreeMap<&'static str, u64>,
}

impl History {
    /// The MVCC state at a ts.
    pub(crate) fn at(&self, ts: u64) -> State {
        let newest = |(key, versions): (&Vec<u8>, &BTreeMap<u64, Option<Vec<u8>>>)| {
            let (_, value) = versions.range(..=ts).next_back()?;
            Some((key.clone(), value.clone()?))
        };
        self.versions.iter().filter_map(newest).collect()
    }
}

/// A prewritten key.
struct Prewrite {
    value: Option<Vec<u8>>,
    kind: WriteKind,
}

struct Txn {
    start: u64,
    keys: BTreeMap<Vec<u8>, Prewrite>,
}

struct Store {
    boot: u64,
    generation: u64,
    flush_ts: u64,
    open: Vec<Entry>,
}

pub(crate) struct Cluster {
    random: Random,
    clock: u64,
    keys: Vec<Vec<u8>>,
    /// The engine: encoded key with ts → record, of the column families write and default.
    write: BTreeMap<Vec<u8>, Vec<u8>>,
    default: BTreeMap<Vec<u8>, Vec<u8>>,
    locks: BTreeMap<Vec<u8>, u64>,
    txns: Vec<Txn>,
    leaders: Vec<u64>,
    epochs: Vec<u64>,
    stores: Vec<Store>,
    style: Style,
    logging: bool,
    out: History,
}

impl Cluster {
    pub(crate) fn run(seed: u64, steps: u64) -> History {
        let mut cluster = Cluster::new(seed);
        (0..steps / 5).for_each(|_| cluster.step());
        cluster.begin();
        (0..steps).for_each(|_| cluster.step());
        cluster.finish()
    }

    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let n = 3 + random.below(12);
        let keys = (0..n).map(|i| raw_key(&mut random, i)).collect::<BTreeSet<_>>().into_iter().collect();
        let mut style = Style {
            compression: if random.chance(50) { Compression::Zstd } else { Compression::None },
            block: 1 + random.below(12),
            object: 1 + random.below(20) as usize,
            tags: random.chance(70),
            links: false,
        };
        style.links = style.tags && seed.is_multiple_of(2);
        let (start, checkpoint) = (0, 0);
        let (versions, seen, storage) = (BTreeMap::new(), BTreeMap::new(), memory_storage());
        Cluster {
            clock: 1000 + random.below(1 << 40),
            keys,
            write: BTreeMap::new(),
            default: BTreeMap::new(),
            locks: BTreeMap::new(),
            txns: Vec::new(),
            leaders: (0..REGIONS).map(|r| r % STORES).collect(),
            epochs: vec![1; REGIONS as usize],
            stores: (0..STORES).map(|_| Store { boot: 1, generation: 0, flush_ts: 0, open: Vec::new() }).collect(),
            style,
            logging: false,
            out: History { storage, start, checkpoint, versions, seen },
            random,
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1 + self.random.below(50);
        self.clock
    }

    fn note(&mut self, what: &'static str) {
        *self.out.seen.entry(what).or_default() += u64::from(self.logging);
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..25 => self.prewrite(),
            25..33 => self.rewrite(),
            33..60 => self.commit(),
            60..66 => self.roll_back(),
            66..70 => self.overlapped_rollback(),
            70..74 => self.collapse(),
            74..80 => self.collect_garbage(),
            80..85 => self.move_leader(),
            85..95 => self.flush_one(),
            95..97 => self.restart(),
            _ => self.repeat(),
        }
    }

    /// The log begins here: locks of transactions in flight are scanned.
    fn begin(&mut self) {
        self.out.start = self.tick();
        self.out.versions.clear();
        self.logging = true;
        begin(&self.out.storage, self.out.start);
        (0..REGIONS as usize).for_each(|region| self.scan(region, self.out.start));
    }

    fn finish(mut self) -> History {
        (0..STORES as usize).for_each(|store| self.flush(store));
        // Locks hold the checkpoint back: what commits later is not decided yet.
        let now = self.tick();
        let oldest = self.txns.iter().map(|txn| txn.start).min().unwrap_or(u64::MAX);
        self.out.checkpoint = now.min(oldest.saturating_sub(1)).max(self.out.start);
        checkpoint(&self.out.storage, 1, self.out.checkpoint);
        checkpoint(&self.out.storage, 2, self.out.start);
        self.out
    }

    fn region(&self, key: &[u8]) -> usize {
        key.iter().map(|b| usize::from(*b)).sum::<usize>() % REGIONS as usize
    }

    /// An applied change: in the engine, and in the log of the region's leader.
    fn apply(&mut self, cf: Cf, kind: EntryKind, raw: &[u8], ts: u64, value: Vec<u8>) {
        let key = versioned(raw, ts);
        let engine = if cf == Cf::Write { &mut self.write } else { &mut self.default };
        match kind {
            EntryKind::Put => engine.insert(key.clone(), value.clone()),
            EntryKind::Delete => engine.remove(&key),
        };
        self.log(cf, kind, raw, key, value);
    }

    fn log(&mut self, cf: Cf, kind: EntryKind, raw: &[u8], key: Vec<u8>, value: Vec<u8>) {
        let region = self.region(raw);
        if self.logging {
            let entry = Entry { region: region as u64 + 1, version: self.epochs[region], cf, kind, key, value };
            self.stores[self.leaders[region] as usize].open.push(entry);
        }
    }

    fn prewrite(&mut self) {
        let start = self.tick();
        let mut keys = BTreeMap::new();
        for _ in 0..1 + self.random.below(3) {
            let key = self.keys[self.random.below(self.keys.len() as u64) as usize].clone();
            if self.locks.contains_key(&key) {
                continue;
            }
            self.locks.insert(key.clone(), start);
            let kind = match self.random.below(10) {
                0..7 => WriteKind::Put,
                7..9 => WriteKind::Delete,
                _ => WriteKind::Lock,
            };
            let value = (kind == WriteKind::Put).then(|| self.value());
            self.put_default(&key, start, value.as_deref());
            keys.insert(key, Prewrite { value, kind });
        }
        self.txns.push(Txn { start, keys });
    }

    fn value(&mut self) -> Vec<u8> {
        let n = if self.random.chance(50) { self.random.below(60) } else { 256 + self.random.below(300) };
        self.random.bytes(n as usize)
    }

    fn put_default(&mut self, key: &[u8], start: u64, value: Option<&[u8]>) {
        if let Some(value) = value.filter(|v| v.len() > 255) {
            self.apply(Cf::Default, EntryKind::Put, key, start, value.to_vec());
        }
    }

    /// A transaction writes a key a second time.
    fn rewrite(&mut self) {
        let Some(mut txn) = self.take_txn() else { return };
        let key = txn.keys.iter().find(|(_, p)| p.kind == WriteKind::Put).map(|(key, _)| key.clone());
        if let Some(key) = key {
            let region = self.region(&key);
            if self.random.chance(50) {
                self.move_region(region);
            }
            let value = self.value();
            self.put_default(&key, txn.start, Some(&value));
            self.note("rewritten values");
            txn.keys.insert(key, Prewrite { value: Some(value), kind: WriteKind::Put });
        }
        self.txns.push(txn);
    }

    fn take_txn(&mut self) -> Option<Txn> {
        let n = self.txns.len() as u64;
        (n > 0).then(|| self.random.below(n)).map(|i| self.txns.swap_remove(i as usize))
    }

    fn commit(&mut self) {
        let Some(txn) = self.take_txn() else { return };
        let commit = self.tick();
        for (key, prewrite) in txn.keys {
            self.locks.remove(&key);
            if self.random.chance(5) {
                // A rollback of a transaction with this start ts was there first, unprotected: it is overwritten.
                let rollback = Write::rollback(Ts::new(commit), false).to_bytes();
                self.apply(Cf::Write, EntryKind::Put, &key, commit, rollback);
                self.note("overwritten rollbacks");
            }
            let short = prewrite.value.as_deref().filter(|v| v.len() <= 255);
            let write = Write::new(prewrite.kind, Ts::new(txn.start), short).to_bytes();
            self.apply(Cf::Write, EntryKind::Put, &key, commit, write);
            if prewrite.kind != WriteKind::Lock {
                self.out.versions.entry(key).or_default().insert(commit, prewrite.value);
            }
        }
        self.note("commits");
    }

    fn roll_back(&mut self) {
        let Some(txn) = self.take_txn() else { return };
        for (key, prewrite) in txn.keys {
            self.locks.remove(&key);
            if prewrite.value.is_some_and(|v| v.len() > 255) {
                self.apply(Cf::Default, EntryKind::Delete, &key, txn.start, Vec::new());
                self.note("undone values");
            }
            let rollback = Write::rollback(Ts::new(txn.start), self.random.chance(50)).to_bytes();
            self.apply(Cf::Write, EntryKind::Put, &key, txn.start, rollback);
        }
    }

    /// A commit is marked: a transaction that began at its commit ts was rolled back.
    fn overlapped_rollback(&mut self) {
        let Some((raw, commit, bytes)) = self.some_write() else { return };
        let mut write = Write::parse(&bytes).unwrap();
        if write.kind == WriteKind::Rollback || write.overlapped_rollback {
            return;
        }
        write.overlapped_rollback = true;
        write.gc_fence = Some(Ts::new(self.next_version(&raw, commit)));
        let bytes = write.to_bytes();
        self.apply(Cf::Write, EntryKind::Put, &raw, commit, bytes);
        self.note("overlapped rollbacks");
    }

    /// The commit ts of the put or delete after one; zero if there is none.
    fn next_version(&self, raw: &[u8], commit: u64) -> u64 {
        let newer = self.write.range(encode_raw_key(raw)..versioned(raw, commit)).rev();
        let data = |bytes: &[u8]| matches!(Write::parse(bytes).unwrap().kind, WriteKind::Put | WriteKind::Delete);
        let mut newer = newer.filter(|(key, bytes)| key.starts_with(&encode_raw_key(raw)) && data(bytes));
        newer.next().map_or(0, |(key, _)| logtide_model::split_ts(key).unwrap().1.get())
    }

    fn some_write(&mut self) -> Option<(Vec<u8>, u64, Vec<u8>)> {
        let n = self.write.len() as u64;
        let at = (n > 0).then(|| self.random.below(n))?;
        let (key, bytes) = self.write.iter().nth(at as usize)?;
        let (user, ts) = logtide_model::split_ts(key).unwrap();
        Some((logtide_model::decode_raw_key(user).unwrap(), ts.get(), bytes.clone()))
    }

    /// An unprotected rollback record is removed.
    fn collapse(&mut self) {
        let rollback = self.write.iter().find(|(_, bytes)| {
            let write = Write::parse(bytes).unwrap();
            write.kind == WriteKind::Rollback && !write.is_protected()
        });
        let Some((key, _)) = rollback else { return };
        let (user, ts) = logtide_model::split_ts(key).unwrap();
        let raw = logtide_model::decode_raw_key(user).unwrap();
        self.apply(Cf::Write, EntryKind::Delete, &raw, ts.get(), Vec::new());
        self.note("collapsed rollbacks");
    }

    /// Versions that no read at or above a safepoint sees are removed, with deletes that hide nothing any more.
    fn collect_garbage(&mut self) {
        // The advancer holds the safepoint below the checkpoint, and the checkpoint below what is not flushed.
        let flushed = self.stores.iter().map(|s| s.flush_ts).min().unwrap_or(0);
        let oldest = self.txns.iter().map(|txn| txn.start).min().unwrap_or(u64::MAX);
        let safepoint = if self.logging { flushed.min(oldest).saturating_sub(1) } else { oldest.saturating_sub(1) };
        let keys = self.keys.clone();
        for raw in keys {
            self.collect_key(&raw, safepoint);
        }
    }

    fn collect_key(&mut self, raw: &[u8], safepoint: u64) {
        let user = encode_raw_key(raw);
        let mut hidden = false;
        let versions: Vec<_> =
            self.write.range(versioned(raw, safepoint)..).map(|(k, v)| (k.clone(), v.clone())).collect();
        for (key, bytes) in versions.into_iter().take_while(|(key, _)| key.starts_with(&user)) {
            let (_, commit) = logtide_model::split_ts(&key).unwrap();
            let write = Write::parse(&bytes).unwrap();
            let keep = !hidden && write.kind == WriteKind::Put;
            hidden |= matches!(write.kind, WriteKind::Put | WriteKind::Delete);
            if keep {
                continue;
            }
            self.note("collected versions");
            self.apply(Cf::Write, EntryKind::Delete, raw, commit.get(), Vec::new());
            if write.needs_default() {
                self.apply(Cf::Default, EntryKind::Delete, raw, write.start_ts.get(), Vec::new());
            }
        }
    }

    /// Another store leads a region; it scans what was committed after some checkpoint, and locks.
    fn move_leader(&mut self) {
        let region = self.random.below(REGIONS) as usize;
        self.move_region(region);
    }

    fn move_region(&mut self, region: usize) {
        self.leaders[region] = self.random.below(STORES);
        self.epochs[region] += 1;
        if self.logging {
            let flushed = self.stores.iter().map(|s| s.flush_ts).min().unwrap_or(0);
            let oldest = self.txns.iter().map(|txn| txn.start).min().unwrap_or(u64::MAX);
            let from = flushed.min(oldest.saturating_sub(1)).max(self.out.start);
            self.scan(region, from);
            self.note("scans");
        }
    }

    fn scan(&mut self, region: usize, from: u64) {
        let mut found = Vec::new();
        for (raw, start) in &self.locks {
            found.push((Cf::Default, raw.clone(), *start, self.default.get(&versioned(raw, *start)).cloned()));
        }
        for (key, bytes) in &self.write {
            let (user, commit) = logtide_model::split_ts(key).unwrap();
            let write = Write::parse(bytes).unwrap();
            if commit.get() > from && matches!(write.kind, WriteKind::Put | WriteKind::Delete) {
                let raw = logtide_model::decode_raw_key(user).unwrap();
                let value = self.default.get(&versioned(&raw, write.start_ts.get())).cloned();
                found.push((Cf::Default, raw.clone(), write.start_ts.get(), value.filter(|_| write.needs_default())));
                found.push((Cf::Write, raw, commit.get(), Some(bytes.clone())));
            }
        }
        for (cf, raw, ts, value) in found {
            if let Some(value) = value.filter(|_| self.region(&raw) == region) {
                self.log(cf, EntryKind::Put, &raw, versioned(&raw, ts), value);
            }
        }
    }

    /// A zombie logs records again that the leader logged.
    fn repeat(&mut self) {
        let Some((raw, commit, bytes)) = self.some_write() else { return };
        let region = self.region(&raw);
        let zombie = self.random.below(STORES) as usize;
        let write = Write::parse(&bytes).unwrap();
        let default = versioned(&raw, write.start_ts.get());
        let value = self.default.get(&default).cloned().filter(|_| write.needs_default());
        if !self.logging {
            return;
        }
        let version = self.epochs[region];
        let entry = |cf, key, value| Entry { region: region as u64 + 1, version, cf, kind: EntryKind::Put, key, value };
        let entries = value.map(|v| entry(Cf::Default, default, v));
        let write = entry(Cf::Write, versioned(&raw, commit), bytes);
        self.stores[zombie].open.extend(entries.into_iter().chain([write]));
        self.note("repeated commits");
    }

    fn flush_one(&mut self) {
        let store = self.random.below(STORES) as usize;
        self.flush(store);
    }

    fn flush(&mut self, at: usize) {
        let now = self.tick();
        if !self.logging {
            return;
        }
        let store = &mut self.stores[at];
        store.generation += 1;
        store.flush_ts = now.max(store.flush_ts + 1);
        let tag = ObjectTag { boot: store.boot, generation: store.generation };
        let (flush_ts, entries) = (store.flush_ts, std::mem::take(&mut store.open));
        flush(&self.out.storage, &mut self.random, self.style, at as u64 + 1, flush_ts, tag, &entries);
        self.note("generations");
    }

    /// A store comes back with a new boot epoch, and, if it has one to tell it by, with a smaller flush ts.
    fn restart(&mut self) {
        let at = self.random.below(STORES) as usize;
        self.flush(at);
        let store = &mut self.stores[at];
        store.boot += 1;
        store.generation = 0;
        if self.style.tags {
            store.flush_ts = store.flush_ts.saturating_sub(3);
        }
    }
}

/// Raw keys of several sorts: table rows, schema keys, plain ones, some prefixes of others.
fn raw_key(random: &mut Random, i: u64) -> Vec<u8> {
    match random.below(4) {
        0 => [b"t\x80\0\0\0\0\0\0\x05_r".as_slice(), &i.to_be_bytes()].concat(),
        1 => format!("mDB:{i}").into_bytes(),
        2 => vec![b'k'; i as usize],
        _ => [b"t", &random.bytes(1 + (i % 20) as usize)[..]].concat(),
    }
}

pub(crate) fn versioned(raw: &[u8], ts: u64) -> Vec<u8> {
    let mut key = encode_raw_key(raw);
    append_ts(&mut key, Ts::new(ts));
    key
}
