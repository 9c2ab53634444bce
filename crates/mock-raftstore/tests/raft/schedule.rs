//! Random schedules on the step driver, by seed: writes, ticks, deliveries in any order, loss, partitions, transfers,
//! splits, restarts. What must hold at every point is checked on the way, the rest at the end.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use logtide_mock_raftstore::cluster::Ticket;
use logtide_mock_raftstore::pd::ManualClock;
use logtide_mock_raftstore::rpc::{Command, KvRequest, KvResponse, Mutation, MutationKind, Prewrite};
use logtide_mock_raftstore::transport::Faults;
use logtide_mock_raftstore::{Cluster, ClusterConfig, Driver};
use logtide_model::{Cf, KeyRange, KvSnapshot, Op, Region, StoreId, Ts, encode_raw_key};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::life::contents;
use crate::recorder::{Recorder, Sequence};

/// A barrier that a store gave.
struct Barrier {
    store: StoreId,
    ts: Ts,
    seq: u64,
}

struct Schedule {
    cluster: Cluster,
    clock: ManualClock,
    rng: SmallRng,
    sequence: Sequence,
    /// Recorders of the store's present life, and of those before.
    recorders: BTreeMap<StoreId, Recorder>,
    past: Vec<(StoreId, Recorder)>,
    stopped: Option<StoreId>,
    tickets: Vec<(StoreId, Vec<u8>, Ticket)>,
    /// Raw keys whose write was acknowledged, with the ts of the commit.
    acknowledged: Vec<(Vec<u8>, Ts)>,
    /// Raw keys whose write was refused for certain.
    refused: Vec<Vec<u8>>,
    barriers: Vec<Barrier>,
    writes: u64,
    /// Snapshots that stores took in before they were stopped.
    snapshots: u64,
}

impl Schedule {
    fn new(seed: u64) -> Schedule {
        let (sequence, clock) = (Sequence::default(), ManualClock::new(1_000_000));
        // Every other seed has a store more than regions have peers, for these to move about.
        let (stores, replicas) = (3 + seed as usize % 2, Some(3));
        let recorders: BTreeMap<_, _> = (1..=stores as StoreId).map(|s| (s, Recorder::new(s, &sequence))).collect();
        let mut config = ClusterConfig { stores, replicas, ..ClusterConfig::memory(Driver::Steps) };
        config.seed = seed;
        config.clock = Arc::new(clock.clone());
        config.split_keys = vec![b"k3".to_vec(), b"k6".to_vec()];
        config.observers = recorders.iter().map(|(s, r)| (*s, vec![Arc::new(r.clone()) as _])).collect();
        let cluster = Cluster::start(config).unwrap();
        cluster.network().set_faults(Faults { drop: 0.08, duplicate: 0.08, delay: 0.2, max_delay: 6 });
        Schedule {
            cluster,
            clock,
            rng: SmallRng::seed_from_u64(seed),
            sequence,
            recorders,
            past: Vec::new(),
            stopped: None,
            tickets: Vec::new(),
            acknowledged: Vec::new(),
            refused: Vec::new(),
            barriers: Vec::new(),
            writes: 0,
            snapshots: 0,
        }
    }

    fn steps(&self) -> logtide_mock_raftstore::Steps {
        self.cluster.steps().unwrap().clone()
    }

    fn turn(&mut self) {
        let store = self.rng.random_range(1..=self.cluster.stores().len() as StoreId);
        match self.rng.random_range(0..1000) {
            0..390 => drop(self.steps().step(store)),
            390..420 => drop(self.steps().turn()),
            420..760 => {
                let flying = self.steps().flying();
                // Mostly in order, as a network does; sometimes whatever is there.
                let any = self.rng.random_bool(0.2);
                let wanted = flying.iter().position(|f| f.late == 0).filter(|_| !any);
                let n = wanted.unwrap_or_else(|| self.rng.random_range(0..flying.len().max(1)));
                self.steps().deliver(n);
            }
            760..830 => {
                self.clock.advance(1);
                self.steps().tick_all();
            }
            830..930 => self.write(),
            930..956 => self.barrier(store),
            956..960 => self.change_members(store),
            960..972 => drop(self.random_region().map(|(id, _)| self.cluster.transfer_leader(id, store))),
            972..976 => self.split(),
            976..978 => self.merge(),
            978..986 => self.truncate(),
            986..992 => self.partition(store),
            992..995 => self.cluster.partition(&[]),
            _ => self.restart(store),
        }
        self.collect();
    }

    fn random_region(&mut self) -> Option<(u64, StoreId)> {
        let regions = self.cluster.pd().regions();
        let (region, leader, _) = regions.get(self.rng.random_range(0..regions.len()))?;
        Some((region.id, *leader))
    }

    fn write(&mut self) {
        self.writes += 1;
        let raw = format!("k{}", self.rng.random_range(0..10)).into_bytes();
        let raw = [&raw[..], &self.writes.to_be_bytes()].concat();
        let (region, leader) = self.cluster.rpc().locate(&raw);
        let start_ts = self.cluster.pd().tso().unwrap();
        let mutation = Mutation {
            key: raw.clone(),
            kind: MutationKind::Put(Bytes::from(format!("value {}", self.writes))),
            pessimistic: false,
        };
        let command = Command::Prewrite(Prewrite {
            mutations: vec![mutation],
            primary: raw.clone(),
            start_ts,
            ttl: 1000,
            txn_size: 1,
            async_commit: true,
            one_pc: true,
            ..Prewrite::default()
        });
        let request = KvRequest { region_id: region.id, epoch: region.epoch, command };
        self.tickets.push((leader, raw, self.cluster.submit(leader, request)));
    }

    fn barrier(&mut self, store: StoreId) {
        if let Ok(ts) = self.cluster.host(store).commit_barrier() {
            self.barriers.push(Barrier { store, ts, seq: self.sequence.next() });
        }
    }

    fn split(&mut self) {
        let raw = format!("k{}{}", self.rng.random_range(0..10), self.rng.random_range(0..10)).into_bytes();
        if self.cluster.pd().regions().len() < 8 {
            // Whether it comes about does not matter; writes go on meanwhile.
            drop(self.cluster.submit_split(&raw));
        }
    }

    /// Adds a peer of some region on a store, or removes it.
    fn change_members(&mut self, store: StoreId) {
        let Some((id, _)) = self.random_region() else { return };
        let members = self.cluster.pd().peer_stores(id);
        if !members.contains(&store) {
            drop(self.cluster.submit_add_peer(id, store));
        } else if members.len() > 2 {
            drop(self.cluster.submit_remove_peer(id, store));
        }
    }

    fn merge(&mut self) {
        let all = self.cluster.pd().regions();
        let n = self.rng.random_range(0..all.len());
        if let Some([(left, ..), (right, ..)]) = all.get(n..n + 2) {
            let (source, target) = if self.rng.random_bool(0.5) { (left, right) } else { (right, left) };
            drop(self.cluster.submit_merge(source.id, target.id));
        }
    }

    /// Cuts a log so short that whoever was away needs a snapshot.
    fn truncate(&mut self) {
        let keep = self.rng.random_range(0..3);
        if let Some((id, _)) = self.random_region() {
            drop(self.cluster.submit_truncate_log(id, keep));
        }
    }

    fn partition(&mut self, store: StoreId) {
        let others = self.cluster.stores().into_iter().filter(|s| *s != store).collect();
        self.cluster.partition(&[[store].into(), others]);
    }

    fn restart(&mut self, store: StoreId) {
        if let Some(stopped) = self.stopped.take() {
            let recorder = Recorder::new(stopped, &self.sequence);
            self.cluster.restart_store(stopped, vec![Arc::new(recorder.clone())]).unwrap();
            self.recorders.insert(stopped, recorder);
            return;
        }
        self.count_snapshots(store);
        self.cluster.stop_store(store);
        self.past.extend(self.recorders.remove(&store).map(|r| (store, r)));
        // Its engine is what it was; barriers of a life that is over say nothing about the next.
        self.barriers.retain(|b| b.store != store);
        self.stopped = Some(store);
    }

    fn count_snapshots(&mut self, store: StoreId) {
        self.snapshots += self.cluster.stats().stores.get(&store).map_or(0, |stats| stats.snapshots);
    }

    fn collect(&mut self) {
        let tickets = std::mem::take(&mut self.tickets);
        for (store, raw, ticket) in tickets {
            match ticket.take() {
                None => self.tickets.push((store, raw, ticket)),
                Some(Ok(KvResponse::Prewrite { one_pc_commit_ts, .. })) if !one_pc_commit_ts.is_zero() => {
                    self.acknowledged.push((raw, one_pc_commit_ts));
                }
                Some(Err(error)) if !error.is_undetermined() => self.refused.push(raw),
                Some(_) => {}
            }
        }
    }

    /// Ends all faults and lets everybody catch up.
    fn end(&mut self) {
        if self.stopped.is_some() {
            self.restart(0);
        }
        self.cluster.heal();
        // A leader that knows of no quorum needs an election; and followers the heartbeat that tells the commit index.
        for _ in 0..120 {
            self.steps().settle();
            self.steps().tick_all();
        }
        assert!(self.cluster.wait_ready(Duration::ZERO));
        self.steps().settle();
        self.collect();
    }

    fn check_observers(&self) {
        let mut told: BTreeMap<(u64, u64), String> = BTreeMap::new();
        let all = self.recorders.values().chain(self.past.iter().map(|(_, r)| r));
        for recorder in all {
            recorder.assert_clean();
            for (region, first, _, ops) in &recorder.seen.lock().batches {
                // Batches differ by store, so only single entries can be compared one to one.
                let ops = format!("{ops:?}");
                if let Some(other) = told.insert((*region, *first), ops.clone()) {
                    let (short, long) = if other.len() < ops.len() { (other, ops) } else { (ops, other) };
                    let prefix = short.trim_end_matches(']');
                    assert!(long.starts_with(prefix), "region {region} entry {first}: {short} against {long}");
                }
            }
        }
    }

    fn check_barriers(&self) {
        for barrier in &self.barriers {
            let seen = self.recorders[&barrier.store].seen.lock();
            let late = seen.commits.iter().find(|c| c.seq > barrier.seq && c.commit_ts <= barrier.ts);
            let late = late.map(|c| c.commit_ts);
            assert_eq!(late, None, "store {}: told after the barrier {} (H2)", barrier.store, barrier.ts);
        }
    }

    /// True if all replicas of a region hold the same at the same index, and nobody else has one.
    fn converged(&self, region: &Region) -> bool {
        let members = self.cluster.pd().peer_stores(region.id);
        let replicas = self.cluster.stores().into_iter().map(|s| (s, self.cluster.replica(s, region.id)));
        let (there, away): (Vec<_>, Vec<_>) = replicas.partition(|(s, _)| members.contains(s));
        let replicas = there.into_iter().map(|(_, replica)| replica).collect::<Result<Vec<_>, _>>();
        let Some(replicas) = replicas.ok().filter(|_| away.iter().all(|(_, replica)| replica.is_err())) else {
            return false;
        };
        let first = &replicas[0];
        let alike = |r: &dyn KvSnapshot| (r.region(), r.applied_index()) == (first.region(), first.applied_index());
        if !replicas.iter().all(|r| alike(&**r)) {
            return false;
        }
        let wanted = contents(&**first);
        replicas.iter().for_each(|r| assert_eq!(contents(&**r), wanted, "region {} at one index", region.id));
        true
    }

    fn check_replicas(&self) {
        for _ in 0..500 {
            if self.cluster.pd().regions().iter().all(|(region, ..)| self.converged(region)) {
                return;
            }
            self.steps().settle();
            self.steps().tick_all();
        }
        panic!("replicas stay apart: {:?}", self.cluster.stats());
    }

    /// What logs tell is what was told when it was applied.
    fn check_logs(&self) -> usize {
        let mut checked = 0;
        for (store, recorder) in &self.recorders {
            let seen = recorder.seen.lock();
            for (region, ..) in self.cluster.pd().regions() {
                let told: Vec<_> = seen.batches.iter().filter(|b| b.0 == region.id).collect();
                let Some(through) = told.last().map(|b| b.2) else { continue };
                for (n, first) in told.iter().enumerate().rev().take(10) {
                    let log = self.cluster.host(*store).raft_log(region.id, region.epoch.version, first.1, through);
                    let Ok(Some(log)) = log else { break };
                    let ops: Vec<Op> = log.flat_map(|batch| batch.unwrap().ops).collect();
                    let wanted = told[n..].iter().flat_map(|b| b.3.clone()).filter(|op| *op != Op::Admin);
                    assert_eq!(
                        ops,
                        wanted.collect::<Vec<_>>(),
                        "store {store}, region {}, from {}",
                        region.id,
                        first.1
                    );
                    checked += ops.len();
                }
            }
        }
        checked
    }

    fn check_data(&self) {
        let leads: Vec<_> = self.cluster.pd().regions();
        for (raw, commit_ts) in &self.acknowledged {
            let encoded = encode_raw_key(raw);
            let (region, leader, _) = leads.iter().find(|(r, ..)| r.range.contains(&encoded)).unwrap();
            let snapshot = self.cluster.host(*leader).snapshot(region.id, region.epoch).unwrap();
            let mut key = encoded;
            logtide_model::append_ts(&mut key, *commit_ts);
            assert!(snapshot.get(Cf::Write, &key).unwrap().is_some(), "{raw:?} is lost");
        }
        for raw in &self.refused {
            let encoded = encode_raw_key(raw);
            let (region, leader, _) = leads.iter().find(|(r, ..)| r.range.contains(&encoded)).unwrap();
            let replica = self.cluster.replica(*leader, region.id).unwrap();
            let mut iter = replica.iter(Cf::Write, &KeyRange::new(encoded.clone(), &b""[..])).unwrap();
            let there = iter.next().unwrap() && iter.key().starts_with(&encoded);
            assert!(!there, "{raw:?} was refused, and is there");
        }
    }

    fn digest(&self) -> u64 {
        let mut hash = std::hash::DefaultHasher::new();
        for recorder in self.recorders.values() {
            recorder.digest().hash(&mut hash);
        }
        self.acknowledged.hash(&mut hash);
        format!("{:?}", self.cluster.pd().regions()).hash(&mut hash);
        hash.finish()
    }
}

struct Outcome {
    digest: u64,
    acknowledged: usize,
    barriers: usize,
    splits: usize,
    /// Changes that logs told again.
    replayed: usize,
    merges: usize,
    snapshots: u64,
    destroyed: usize,
}

fn run(seed: u64) -> Outcome {
    let mut schedule = Schedule::new(seed);
    for _ in 0..4000 {
        schedule.turn();
    }
    schedule.end();
    schedule.check_observers();
    schedule.check_barriers();
    schedule.check_replicas();
    schedule.cluster.stores().into_iter().for_each(|store| schedule.count_snapshots(store));
    schedule.check_data();
    let replayed = schedule.check_logs();
    let everybody = || schedule.recorders.values().chain(schedule.past.iter().map(|(_, r)| r));
    let splits = everybody().map(|r| r.seen.lock().splits).sum();
    let destroyed = everybody().map(|r| r.seen.lock().destroyed).sum();
    let merges = everybody().map(|r| r.seen.lock().merges).sum();
    Outcome {
        digest: schedule.digest(),
        acknowledged: schedule.acknowledged.len(),
        barriers: schedule.barriers.len(),
        splits,
        replayed,
        merges,
        snapshots: schedule.snapshots,
        destroyed,
    }
}

/// H1 (contiguous, in order, the same everywhere), H2, and that nothing acknowledged is lost.
#[test]
fn contracts_hold_under_faults() {
    let (mut acknowledged, mut barriers, mut splits, mut snapshots) = (0, 0, 0, 0);
    let (mut destroyed, mut merges, mut replayed) = (0, 0, 0);
    let seeds: u64 = std::env::var("RAFT_SEEDS").map_or(24, |n| n.parse().unwrap());
    for seed in 0..seeds {
        let outcome = run(seed);
        acknowledged += outcome.acknowledged;
        barriers += outcome.barriers;
        splits += outcome.splits;
        snapshots += outcome.snapshots;
        destroyed += outcome.destroyed;
        merges += outcome.merges;
        replayed += outcome.replayed;
    }
    assert!(acknowledged > 1000 && barriers > 500 && splits > 20, "{acknowledged} {barriers} {splits}: too tame");
    assert!(snapshots > 40 && destroyed > 20, "{snapshots} {destroyed}: too few snapshots and peers that go");
    assert!(merges > 20 && replayed > 100, "{merges} merges, {replayed} changes told again: too few");
}

#[test]
fn a_seed_has_one_history() {
    for seed in [3, 11] {
        assert_eq!(run(seed).digest, run(seed).digest);
    }
    assert_ne!(run(3).digest, run(4).digest);
}

/// Contract H1, the other half: who wrote is answered after `on_apply` returned.
#[test]
fn the_proposer_is_answered_after_the_observer() {
    let mut schedule = Schedule::new(1);
    schedule.cluster.heal();
    assert!(schedule.cluster.wait_ready(Duration::ZERO));
    schedule.write();
    let (store, raw, ticket) = schedule.tickets.pop().unwrap();
    let ticket = Arc::new(ticket);
    let encoded = encode_raw_key(&raw);
    let (at_apply, told) = (ticket.clone(), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let count = told.clone();
    schedule.recorders[&store].set_hook(move |ops| {
        let ours = |op: &Op| matches!(op, Op::Put { key, .. } if key.starts_with(&encoded));
        if ops.iter().any(ours) {
            assert!(at_apply.take().is_none(), "answered before the observer was told");
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    schedule.steps().settle();
    assert!(matches!(ticket.take(), Some(Ok(KvResponse::Prewrite { .. }))));
    assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), 1);
}
