//! A cluster, a clock and scripts that take turns.

mod faults;
mod kinds;
mod random;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use logtide_mock_raftstore::pd::ManualClock;
use logtide_mock_raftstore::{Cluster, ClusterConfig, Driver, Steps};
use logtide_model::{StoreId, Ts};

use super::{Ending, Outcome, Scripts, SimClient, TxnKind, TxnPlan, resolve_range, txn};

pub(super) const KINDS: [TxnKind; 4] =
    [TxnKind::Optimistic2pc, TxnKind::AsyncCommit, TxnKind::OnePc, TxnKind::Pessimistic];

/// Most turns that anything here may take.
const TURNS: usize = 200_000;

pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) clock: ManualClock,
    pub(super) client: SimClient,
    pub(super) scripts: Scripts,
    pub(super) over: BTreeMap<u64, Outcome>,
}

impl World {
    /// Three stores; regions are split at the raw keys.
    pub(super) fn new(seed: u64, split_keys: &[&str]) -> World {
        let clock = ManualClock::new(1_000_000);
        let mut config = ClusterConfig::memory(Driver::Steps);
        config.seed = seed;
        config.clock = Arc::new(clock.clone());
        config.split_keys = split_keys.iter().map(|k| k.as_bytes().to_vec()).collect();
        let cluster = Cluster::start(config).unwrap();
        assert!(cluster.wait_ready(Duration::ZERO));
        let client = SimClient::new(cluster.clone());
        World { cluster, clock, client, scripts: Scripts::default(), over: BTreeMap::new() }
    }

    pub(super) fn steps(&self) -> Steps {
        self.cluster.steps().unwrap().clone()
    }

    /// Something happens in the cluster; if there is nothing to do, time passes.
    pub(super) fn turn(&self) {
        if !self.steps().turn() {
            self.clock.advance(1);
            self.steps().tick_all();
        }
    }

    pub(super) fn start(&mut self, plan: TxnPlan) -> u64 {
        self.scripts.start(&self.client, plan)
    }

    /// Turns and polls until `enough`.
    pub(super) fn run_until(&mut self, enough: impl Fn(&World) -> bool) {
        for _ in 0..TURNS {
            if enough(self) {
                return;
            }
            self.over.extend(self.scripts.poll_all());
            self.turn();
        }
        panic!("not within {TURNS} turns: {:?}", self.scripts);
    }

    /// Runs one transaction to its end.
    pub(super) fn txn(&mut self, plan: TxnPlan) -> Outcome {
        let id = self.start(plan);
        self.run_until(|w| w.over.contains_key(&id));
        self.over[&id].clone()
    }

    /// Runs any script to its end.
    pub(super) fn run<T>(&mut self, script: impl Future<Output = T> + 'static) -> T {
        let mut scripts = Scripts::default();
        scripts.spawn(script);
        for _ in 0..TURNS {
            if let Some((_, end)) = scripts.poll(0) {
                return end;
            }
            self.turn();
        }
        panic!("not within {TURNS} turns");
    }

    pub(super) fn get_at(&mut self, key: &str, ts: Ts) -> Option<Bytes> {
        let (client, key) = (self.client.clone(), key.as_bytes().to_vec());
        self.run(async move { client.get(&key, ts).await }).unwrap()
    }

    pub(super) fn get(&mut self, key: &str) -> Option<Bytes> {
        let ts = self.cluster.pd().tso().unwrap();
        self.get_at(key, ts)
    }

    /// Lets all locks expire, and resolves them.
    pub(super) fn resolve_all(&mut self) -> usize {
        self.clock.advance(60_000);
        let ended = self.run(resolve_range(self.client.clone(), Vec::new(), Vec::new()));
        assert_eq!(self.client.unfinished(), []);
        assert_eq!(self.client.violations(), [""; 0]);
        ended
    }

    pub(super) fn leader_of(&self, key: &str) -> (u64, StoreId) {
        let (region, leader) = self.cluster.pd().locate_raw(key.as_bytes());
        (region.id, leader)
    }
}

/// A plan that writes `value` to the keys, the first of which is the primary.
pub(super) fn plan(kind: TxnKind, ending: Ending, keys: &[&str], value: &str) -> TxnPlan {
    TxnPlan {
        kind,
        writes: keys.iter().map(|k| (k.as_bytes().to_vec(), Some(value.as_bytes().to_vec()))).collect(),
        locks_only: Vec::new(),
        think: 0,
        ttl_ms: 3000,
        ending,
        batch: 2,
    }
}

pub(super) fn committed(outcome: &Outcome) -> Ts {
    match outcome {
        Outcome::Committed { commit_ts, .. } => *commit_ts,
        other => panic!("not committed: {other:?}"),
    }
}
