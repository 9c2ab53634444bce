//! The troubles that a schedule has.

mod deposed;
mod regions;
mod stores;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use logtide_mock_raftstore::transport::{Envelope, Faults, Filter};
use logtide_model::{Region, RegionId, StoreId};
use rand::rngs::SmallRng;

pub(super) use deposed::Deposed;

use super::World;
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

    fn heal(&mut self) {
        self.cluster.heal();
        self.client.set_reach(None);
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
