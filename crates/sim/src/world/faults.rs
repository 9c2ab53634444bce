//! The troubles that a schedule has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytesize::ByteSize;
use logtide_mock_raftstore::rpc::{Command, KvRequest};
use logtide_mock_raftstore::transport::{Envelope, Faults, Filter, MessageType};
use logtide_model::{Cf, KeyRange, Region, RegionId, StoreId, encode_raw_key};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::World;
use super::node::Settings;
use crate::coordinator::CoordinatorFaults;
use crate::disk::DiskFaults;
use crate::schedule::Step;
use crate::storage::StorageFaults;
use crate::violation::Violation;
use crate::workload;

impl World {
    pub(crate) fn trouble(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::Transfer(region, to) => self.transfer(region, to),
            Step::Split(key) => drop(self.cluster.submit_split(&workload::key(u64::from(key) % super::KEYS))),
            Step::Ingest(seed) => self.ingest(seed),
            Step::DeleteRange(seed) => self.delete_range(seed),
            Step::Depose(region, to) => self.depose(region, to),
            Step::Merge(region) => self.merge(region),
            Step::AddPeer(region, to) => self.add_peer(region, to),
            Step::RemovePeer(region, from) => self.remove_peer(region, from),
            Step::Pause => self.pause(true)?,
            Step::Resume => self.pause(false)?,
            Step::Truncate(region, keep) => self.truncate(region, keep),
            Step::Partition(how) => self.partition(how),
            Step::BadNetwork(how) => self.bad_network(how),
            Step::Heal => self.heal(),
            Step::Crash(n) => self.crash(n),
            Step::Restart(n) => self.restart(n)?,
            Step::RestartBackup(n) => self.restart_backup(n)?,
            Step::Zombie(n) => self.zombie(n)?,
            Step::BadStorage(how) => self.set_storage(bad_storage(how)),
            Step::GoodStorage => self.set_storage(StorageFaults::default()),
            Step::BadCoordinator(how) => self.coordinator.set_faults(bad_coordinator(how)),
            Step::GoodCoordinator => self.coordinator.set_faults(CoordinatorFaults::default()),
            Step::BadDisk(n, how) => self.bad_disk(n, bad_disk(how)),
            Step::GoodDisks => self.disks.heal(),
            Step::TsoAway => self.cluster.pd().set_tso_available(false),
            Step::TsoBack => self.cluster.pd().set_tso_available(true),
            Step::ClockJump(ms) => self.jump_clock(i64::from(ms)),
            Step::BadScans(percent) => self.host_faults.set_snapshots(f64::from(percent.min(99)) / 100.0),
            Step::Squeeze => self.squeeze(true),
            Step::Unsqueeze => self.squeeze(false),
            _ => {}
        }
        Ok(())
    }

    fn store(&self, n: u8) -> StoreId {
        let stores = self.cluster.stores();
        stores[usize::from(n) % stores.len()]
    }

    pub(crate) fn region(&self, n: u8) -> Option<Region> {
        let regions = self.cluster.pd().regions();
        let at = usize::from(n) % regions.len().max(1);
        regions.into_iter().nth(at).map(|(region, ..)| region)
    }

    fn bad_disk(&self, n: u8, faults: DiskFaults) {
        let (one, stores) = (self.store(n), self.cluster.stores());
        let ill = stores.into_iter().filter(|store| *store == one || n.is_multiple_of(3));
        ill.for_each(|store| self.disks.set(store, faults));
    }

    fn transfer(&mut self, region: u8, to: u8) {
        if let Some(region) = self.region(region) {
            // It may or may not come about.
            let _ = self.cluster.transfer_leader(region.id, self.store(to));
        }
    }

    /// Into one region.
    fn ingest(&mut self, seed: u64) {
        let pairs = workload::files(seed, |_| true);
        let Some((key, _)) = pairs.first() else { return };
        let (region, leader) = self.cluster.pd().locate_raw(key);
        self.ingest_into(&region, leader, seed);
    }

    /// Nobody waits for the answer: it may be refused, for a lock that is there or a store that is not.
    fn ingest_into(&self, region: &Region, leader: StoreId, seed: u64) {
        let pairs = workload::files(seed, |key| region.range.contains(&encode_raw_key(key)));
        let pd = self.cluster.pd();
        let (Ok(start_ts), Ok(min_commit_ts)) = (pd.tso(), pd.tso()) else { return };
        if !pairs.is_empty() {
            let command = Command::Ingest { pairs, start_ts, min_commit_ts };
            drop(self.cluster.submit(leader, KvRequest { region_id: region.id, epoch: region.epoch, command }));
        }
    }

    /// Nobody waits for the answer here either. What clients make of records that vanish is their business.
    fn delete_range(&mut self, seed: u64) {
        let pd = self.cluster.pd();
        let (region, leader) =
            pd.locate_raw(&workload::range_delete(seed, |_| true).map(|(start, ..)| start).unwrap_or_default());
        let is_here = |key: &[u8]| region.range.contains(&encode_raw_key(key));
        let Some((start, end, locks)) = workload::range_delete(seed, is_here) else { return };
        self.history.will_delete(KeyRange::from_raw(&start, &end));
        let cfs = if locks { vec![Cf::Default, Cf::Write, Cf::Lock] } else { vec![Cf::Default, Cf::Write] };
        let command = Command::DeleteRange { cfs, start, end };
        let request = KvRequest { region_id: region.id, epoch: region.epoch, command };
        drop(self.cluster.submit(leader, request));
    }

    /// As an operator does with locks that nobody can resolve.
    pub(crate) fn remove_locks(&mut self) {
        self.scripts.kill_all();
        for (region, leader, _) in self.cluster.pd().regions() {
            let start = logtide_model::decode_raw_key(&region.range.start).unwrap_or_default();
            let command = Command::DeleteRange { cfs: vec![Cf::Lock], start, end: Vec::new() };
            drop(self.cluster.submit(leader, KvRequest { region_id: region.id, epoch: region.epoch, command }));
        }
    }

    /// Goes on until the leader has said so to its successor; from then on it hears nothing of the region.
    fn depose(&mut self, region: u8, to: u8) {
        let Some(region) = self.region(region) else { return };
        let (_, leader) = self.cluster.pd().locate(&region.range.start);
        let successor = if self.store(to) == leader { self.store(to.wrapping_add(1)) } else { self.store(to) };
        let _ = self.cluster.transfer_leader(region.id, successor);
        let Some(steps) = self.cluster.steps() else { return };
        let is_said =
            || steps.flying().iter().any(|m| m.region_id == region.id && m.kind == MessageType::MsgTimeoutNow);
        for _ in 0..6 {
            steps.step(leader);
            if is_said() {
                break;
            }
            steps.deliver_all();
            self.cluster.stores().into_iter().filter(|store| *store != leader).for_each(|store| {
                steps.step(store);
            });
        }
        let deaf = Arc::new(AtomicBool::new(true));
        self.cluster.network().add_filter(Box::new(Deaf(leader, Some(region.id), deaf.clone())));
        // Its clients do not hear of the successor either, now and then.
        if to.is_multiple_of(4) {
            self.client.set_reach(Some(BTreeSet::from([leader])));
        }
        // What is written there is not read so soon.
        if !to.is_multiple_of(3) {
            self.host_faults.set_snapshots(0.9);
        }
        let until = self.ticks + 10 + u64::from(to / 8);
        self.deposed.push(Deposed { region, leader, deaf, flush_at: None, until });
    }

    /// Clients write to the successors of leaders that do not know of them, these flush in their belief, as all do, and hear of
    /// it after a while.
    pub(crate) fn tell_deposed(&mut self) {
        let now = self.ticks;
        let mut deposed = std::mem::take(&mut self.deposed);
        for Deposed { region, leader, flush_at, .. } in &mut deposed {
            let Some((region, successor)) = self.cluster.pd().region(region.id).filter(|(_, by)| by != leader) else {
                continue;
            };
            let flush_at = *flush_at.get_or_insert_with(|| {
                let is_there = |key: &[u8]| region.range.contains(&encode_raw_key(key));
                self.scripts.start(&self.client, workload::plan_in(now << 20 | region.id, is_there));
                now + 2 + now % 7
            });
            if now < flush_at {
                self.ingest_into(&region, successor, now << 20 | region.id);
            } else if now == flush_at {
                // The others do too: it is to be the fact of the deposed one that the checkpoint rests on.
                self.nodes.values_mut().for_each(|node| drop(node.stepped.flush(&self.task.name)));
            }
        }
        for Deposed { deaf, .. } in deposed.extract_if(.., |deposed| deposed.until <= now) {
            deaf.store(false, Ordering::SeqCst);
            self.host_faults.set_snapshots(0.0);
            self.client.set_reach(None);
        }
        self.deposed = deposed;
    }

    fn heal(&mut self) {
        self.cluster.heal();
        self.client.set_reach(None);
    }

    fn merge(&mut self, n: u8) {
        let regions = self.cluster.pd().regions();
        if regions.len() > 1 {
            let at = usize::from(n) % (regions.len() - 1);
            let (source, target) = if n < 128 { (at, at + 1) } else { (at + 1, at) };
            // Something that only the leader of the source has seen.
            let (region, leader, _) = &regions[source];
            self.ingest_into(region, *leader, self.ticks << 20 | region.id);
            let is_there = |key: &[u8]| region.range.contains(&encode_raw_key(key));
            self.scripts.start(&self.client, workload::plan_in(self.ticks << 20 | region.id, is_there));
            // It may be refused: peers may be on other stores.
            let _ = self.cluster.submit_merge(regions[source].0.id, regions[target].0.id);
        }
    }

    fn add_peer(&mut self, region: u8, to: u8) {
        if let Some(region) = self.region(region) {
            let _ = self.cluster.submit_add_peer(region.id, self.store(to));
        }
    }

    fn remove_peer(&mut self, region: u8, from: u8) {
        if let Some(region) = self.region(region) {
            let _ = self.cluster.submit_remove_peer(region.id, self.store(from));
        }
    }

    fn truncate(&mut self, region: u8, keep: u8) {
        let id: Option<RegionId> = self.region(region).map(|r| r.id);
        if let Some(id) = id {
            let _ = self.cluster.submit_truncate_log(id, u64::from(keep));
        }
    }

    fn partition(&mut self, how: u8) {
        let stores = self.cluster.stores();
        let one = self.store(how / 2);
        if how.is_multiple_of(2) {
            let others: BTreeSet<StoreId> = stores.into_iter().filter(|s| *s != one).collect();
            self.cluster.partition(&[BTreeSet::from([one]), others]);
            // A client may be cut off together with the store.
            self.client.set_reach(how.is_multiple_of(8).then(|| BTreeSet::from([one])));
        } else {
            self.cluster.network().add_filter(Box::new(Deaf(one, None, Arc::new(AtomicBool::new(true)))));
        }
    }

    fn bad_network(&mut self, how: u8) {
        let part = |shift: u8| f64::from((how >> shift) & 3) * 0.06;
        let faults = Faults { drop: part(0), duplicate: part(2), delay: 2.0 * part(4), max_delay: 6 };
        self.cluster.network().set_faults(faults);
    }

    fn crash(&mut self, n: u8) {
        let store = self.store(n);
        // A majority goes on, or nothing would be worth looking at.
        if self.stopped.is_empty() && self.stopped.insert(store) {
            self.nodes.remove(&store);
            self.cluster.stop_store(store);
        }
    }

    /// The store whose process crashed at a durable step stops; it starts again some ticks later, and at once if another
    /// one is down.
    pub(crate) fn bury_and_revive(&mut self) -> Result<(), Violation> {
        if let Some(store) = self.durable.take_dead() {
            if self.stopped.is_empty() && self.nodes.remove(&store).is_some() {
                self.stopped.insert(store);
                self.cluster.stop_store(store);
                self.revival = Some((store, self.ticks + 8));
            } else if self.nodes.remove(&store).is_some() {
                self.start_node(store)?;
            }
        }
        match self.revival.take_if(|(_, at)| *at <= self.ticks) {
            Some((store, _)) if self.stopped.contains(&store) => self.bring_back(store),
            _ => Ok(()),
        }
    }

    fn restart(&mut self, n: u8) -> Result<(), Violation> {
        let stopped: Vec<StoreId> = self.stopped.iter().copied().collect();
        match stopped.get(usize::from(n) % stopped.len().max(1)) {
            Some(store) => self.bring_back(*store),
            None => Ok(()),
        }
    }

    pub(crate) fn bring_back(&mut self, store: StoreId) -> Result<(), Violation> {
        let node = self.make_node(store)?;
        let observers = self.observers(&node);
        self.cluster.restart_store(store, observers).map_err(|e| Violation::broken(&e))?;
        self.nodes.insert(store, node);
        self.stopped.remove(&store);
        Ok(())
    }

    fn restart_backup(&mut self, n: u8) -> Result<(), Violation> {
        let store = self.store(n);
        if self.nodes.remove(&store).is_some() { self.start_node(store) } else { Ok(()) }
    }

    /// The process that runs goes on and thinks that it is the only one.
    fn zombie(&mut self, n: u8) -> Result<(), Violation> {
        let store = self.store(n);
        let Some(old) = self.nodes.remove(&store) else { return Ok(()) };
        self.zombies.push(old);
        self.start_node(store)
    }

    pub(crate) fn squeeze(&mut self, squeezed: bool) {
        self.squeezed = squeezed;
        let bytes = if squeezed { super::node::LITTLE_MEMORY } else { super::node::MEMORY };
        let (quota, now) = (ByteSize::b(bytes as u64), self.now());
        for node in self.nodes.values_mut().chain(&mut self.zombies) {
            node.configure(|config| config.pending_memory_quota = quota, now);
        }
    }

    pub(crate) fn flush_now(&mut self, n: u8) {
        let store = self.store(n);
        if let Some(node) = self.nodes.get_mut(&store) {
            // Nobody waits for the answer here.
            let _ = node.stepped.flush(&self.task.name);
        }
    }

    pub(crate) fn configure(&mut self, n: u8, seed: u64) {
        let (store, now, squeezed) = (self.store(n), self.now(), self.squeezed);
        if let Some(node) = self.nodes.get_mut(&store) {
            let mut rng = SmallRng::seed_from_u64(seed);
            node.configure(|config| Settings::redraw(config, squeezed, &mut rng), now);
        }
    }

    pub(crate) fn audit(&mut self, n: u8) {
        let store = self.store(n);
        if let Some(node) = self.nodes.get_mut(&store) {
            node.stepped.audit();
        }
    }
}

/// A leader that has a successor and does not hear of it.
pub(crate) struct Deposed {
    region: Region,
    leader: StoreId,
    /// False once it hears again.
    deaf: Arc<AtomicBool>,
    /// In ticks, once there is a successor to write to.
    flush_at: Option<u64>,
    /// In ticks.
    until: u64,
}

/// A store that is heard and hears nothing, of one region or of all, as long as the flag is up.
struct Deaf(StoreId, Option<RegionId>, Arc<AtomicBool>);

impl Filter for Deaf {
    fn fate(&mut self, envelope: &Envelope, _: &mut SmallRng) -> Option<Vec<u32>> {
        let is_it = envelope.to == self.0 && self.1.is_none_or(|region| region == envelope.region_id);
        (is_it && self.2.load(Ordering::SeqCst)).then(Vec::new)
    }
}

fn bad_storage(how: u8) -> StorageFaults {
    let slow_ms = u64::from(how >> 4) * 40;
    match how % 4 {
        0 => StorageFaults { away: true, slow_ms, ..StorageFaults::default() },
        1 => StorageFaults { refuse: 0.4, slow_ms, ..StorageFaults::default() },
        2 => StorageFaults { lose: 0.4, slow_ms, ..StorageFaults::default() },
        _ => StorageFaults { refuse: 0.2, lose: 0.2, slow_ms: slow_ms * 4, away: false },
    }
}

fn bad_disk(how: u8) -> DiskFaults {
    let none = DiskFaults::default();
    match how % 8 {
        // Full; read-only; failing.
        0..=1 => DiskFaults { create: 1.0, write: 1.0, ..none },
        2 => DiskFaults { create: 1.0, write: 1.0, remove: 1.0, ..none },
        3..=4 => DiskFaults { create: 0.1, write: 0.3, remove: 0.1, ..none },
        5 => DiskFaults { remove: 1.0, ..none },
        // What is lost for ever, now and then.
        6 => DiskFaults { read: 0.6, ..none },
        _ => DiskFaults { damage: 0.6, ..none },
    }
}

fn bad_coordinator(how: u8) -> CoordinatorFaults {
    match how % 3 {
        0 => CoordinatorFaults { away: true, ..CoordinatorFaults::default() },
        1 => CoordinatorFaults { refuse: 0.3, ..CoordinatorFaults::default() },
        _ => CoordinatorFaults { refuse: 0.1, lose: 0.3, away: false },
    }
}
