//! Clients that write transactions of every kind, and remember what became of them: the truth that a restore is held to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use logtide_mock_raftstore::client::{Client, ClientError, Txn, TxnOptions};
use logtide_mock_raftstore::rpc::KvRpc;
use logtide_model::Ts;

/// Keys that all writers share.
const KEYS: u64 = 240;
/// Keys of transactions whose end is left to others begin so: who wrote them does not know what became of them.
const LEFT: &str = "left-";
/// How many they are.
const LEFT_KEYS: u64 = 40;

/// A client that goes on trying for longer than anything here may last.
pub(crate) fn patient(rpc: Arc<dyn KvRpc>) -> Client {
    let wait = |attempts: u32| thread::park_timeout(Duration::from_millis(u64::from(attempts.min(50))));
    Client::with_retry(
        rpc,
        Arc::new(move |retry| {
            wait(retry.attempts);
            retry.attempts < 10_000
        }),
    )
}

/// What one transaction changed, and where it committed.
struct Commit {
    ts: Ts,
    changes: Vec<(Vec<u8>, Option<Bytes>)>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Load {
    stop: AtomicBool,
    commits: AtomicU64,
    rollbacks: AtomicU64,
    left: AtomicU64,
    history: Mutex<Vec<Commit>>,
}

/// Ends the load when it goes out of scope, also by a panic: the writers' threads are waited for.
pub(crate) struct Until<'a>(&'a Load);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

impl Load {
    /// The load ends with what this returns.
    pub(crate) fn until(&self) -> Until<'_> {
        Until(self)
    }

    /// True once it ends.
    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Transactions committed so far.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    /// Writes until the load ends.
    pub(crate) fn write(&self, client: &Client, writer: u64) {
        let mut dice = Dice(writer);
        for n in 0.. {
            if self.is_over() {
                return;
            }
            match self.transaction(client, &mut dice, n) {
                Ok(()) => {}
                Err(ClientError::RolledBack { .. }) => drop(self.rollbacks.fetch_add(1, Ordering::SeqCst)),
                Err(error) => panic!("writer {writer}, transaction {n}: {error}"),
            }
        }
    }

    /// One transaction; every kind takes its turn.
    fn transaction(&self, client: &Client, dice: &mut Dice, n: u64) -> Result<(), ClientError> {
        let options = TxnOptions {
            pessimistic: dice.below(3) == 0,
            async_commit: dice.below(3) == 0,
            one_pc: dice.below(3) == 0,
            lock_ttl_ms: 1000,
            ..TxnOptions::default()
        };
        let mut txn = client.begin_with(options)?;
        match n % 16 {
            3 => self.leave(txn, dice),
            5 => {
                txn.lock(&[&shared_key(dice.below(KEYS)), &shared_key(dice.below(KEYS))])?;
                txn.put(shared_key(dice.below(KEYS)), "never seen");
                txn.rollback()
            }
            // Who reads everything gets the locks out of the way that were left behind.
            11 => txn.scan(b"", b"", usize::MAX).map(drop),
            7 => self.commit(txn, (0..80).map(|_| dice.below(KEYS)).collect(), dice),
            // Neighbours, mostly of one region: what 1PC wants.
            8..=10 => {
                let first = dice.below(KEYS - 1);
                self.commit(txn, vec![first, first + 1], dice)
            }
            _ => self.commit(txn, vec![dice.below(KEYS), dice.below(KEYS), dice.below(KEYS)], dice),
        }
    }

    fn commit(&self, mut txn: Txn, keys: Vec<u64>, dice: &mut Dice) -> Result<(), ClientError> {
        let mut changes = BTreeMap::new();
        if dice.below(2) == 0 {
            let keys: Vec<_> = keys.iter().map(|key| shared_key(*key)).collect();
            txn.lock(&keys.iter().map(|key| &key[..]).collect::<Vec<_>>())?;
        }
        for key in keys {
            let change = (dice.below(6) > 0).then(|| value(txn.start_ts(), key, dice));
            match &change {
                Some(value) => txn.put(shared_key(key), value.clone()),
                None => txn.delete(shared_key(key)),
            }
            changes.insert(shared_key(key), change);
        }
        let ts = txn.commit()?;
        self.history.lock().unwrap().push(Commit { ts, changes: changes.into_iter().collect() });
        self.commits.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// A client that dies on the way: its locks, or its decision, are found by others.
    fn leave(&self, mut txn: Txn, dice: &mut Dice) -> Result<(), ClientError> {
        for _ in 0..3 {
            let key = dice.below(LEFT_KEYS);
            txn.put(left_key(key), value(txn.start_ts(), key, dice));
        }
        drop(txn.prewrite()?);
        self.left.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Ends what the writers left behind. A read would only pass by locks whose time is not over; who wants to lock the same
    /// keys waits, and gets them out of the way.
    pub(crate) fn end_what_is_left(client: &Client) {
        let keys: Vec<_> = (0..LEFT_KEYS).map(left_key).chain((0..KEYS).map(shared_key)).collect();
        let keys: Vec<_> = keys.iter().map(|key| &key[..]).collect();
        let end = || {
            let mut txn = client.begin()?;
            txn.lock(&keys)?;
            txn.commit()
        };
        while let Err(error) = end() {
            assert!(matches!(error, ClientError::RolledBack { .. }), "{error}");
        }
    }

    /// What the shared keys hold at a ts, as those know it who wrote them.
    pub(crate) fn state_at(&self, at: Ts) -> BTreeMap<Vec<u8>, Bytes> {
        let mut history = self.history.lock().unwrap();
        history.sort_by_key(|commit| commit.ts);
        let mut state = BTreeMap::new();
        for (key, change) in history.iter().take_while(|c| c.ts <= at).flat_map(|c| &c.changes) {
            match change {
                Some(value) => drop(state.insert(key.clone(), value.clone())),
                None => drop(state.remove(key)),
            }
        }
        state
    }

    /// True for keys of which the writers know the truth.
    pub(crate) fn knows(key: &[u8]) -> bool {
        !key.starts_with(LEFT.as_bytes())
    }

    /// Something of everything took place.
    pub(crate) fn assert_mixed(&self) {
        let counts = [&self.commits, &self.rollbacks, &self.left].map(|count| count.load(Ordering::SeqCst));
        assert!(counts[0] > 100 && counts[2] > 0, "commits, rollbacks by others, left: {counts:?}");
    }
}

/// A key of the load.
pub(crate) fn shared_key(n: u64) -> Vec<u8> {
    format!("key-{n:03}").into_bytes()
}

fn left_key(n: u64) -> Vec<u8> {
    format!("{LEFT}{n:03}").into_bytes()
}

/// Short ones and long ones (which lie in the default column family); each is of one transaction.
fn value(start_ts: Ts, key: u64, dice: &mut Dice) -> Bytes {
    let padding = [0, 30, 700][dice.below(3) as usize];
    Bytes::from(format!("{start_ts} {key} {}", "x".repeat(padding)))
}

/// Numbers that look random (constants: Knuth, MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
