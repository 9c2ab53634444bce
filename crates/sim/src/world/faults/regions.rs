//! What happens to regions: leaders, shapes, members and logs, and what changes past transactions.

use logtide_mock_raftstore::rpc::{Command, KvRequest};
use logtide_model::{Cf, KeyRange, Region, RegionId, StoreId, encode_raw_key};

use crate::workload;
use crate::world::World;

impl World {
    pub(super) fn transfer(&mut self, region: u8, to: u8) {
        if let Some(region) = self.region(region) {
            // It may or may not come about.
            let _ = self.cluster.transfer_leader(region.id, self.store(to));
        }
    }

    /// Into one region.
    pub(super) fn ingest(&mut self, seed: u64) {
        let pairs = workload::files(seed, |_| true);
        let Some((key, _)) = pairs.first() else { return };
        let (region, leader) = self.cluster.pd().locate_raw(key);
        self.ingest_into(&region, leader, seed);
    }

    /// Nobody waits for the answer: it may be refused, for a lock that is there or a store that is not.
    pub(super) fn ingest_into(&self, region: &Region, leader: StoreId, seed: u64) {
        let pairs = workload::files(seed, |key| region.range.contains(&encode_raw_key(key)));
        let pd = self.cluster.pd();
        let (Ok(start_ts), Ok(min_commit_ts)) = (pd.tso(), pd.tso()) else { return };
        if !pairs.is_empty() {
            let command = Command::Ingest { pairs, start_ts, min_commit_ts };
            drop(self.cluster.submit(leader, KvRequest { region_id: region.id, epoch: region.epoch, command }));
        }
    }

    /// Nobody waits for the answer here either. What clients make of records that vanish is their business.
    pub(super) fn delete_range(&mut self, seed: u64) {
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

    pub(super) fn merge(&mut self, n: u8) {
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

    pub(super) fn add_peer(&mut self, region: u8, to: u8) {
        if let Some(region) = self.region(region) {
            let _ = self.cluster.submit_add_peer(region.id, self.store(to));
        }
    }

    pub(super) fn remove_peer(&mut self, region: u8, from: u8) {
        if let Some(region) = self.region(region) {
            let _ = self.cluster.submit_remove_peer(region.id, self.store(from));
        }
    }

    pub(super) fn truncate(&mut self, region: u8, keep: u8) {
        let id: Option<RegionId> = self.region(region).map(|r| r.id);
        if let Some(id) = id {
            let _ = self.cluster.submit_truncate_log(id, u64::from(keep));
        }
    }
}
