//! The directory of regions: what stores told last of their shapes, their leaders and their ends.

use std::collections::BTreeMap;

use bytes::Bytes;
use logtide_model::{KeyRange, Region, RegionEpoch, RegionId, StoreId, Term};

use crate::raftstore::{Merged, PeerMeta, RegionMeta};

/// See the module.
#[derive(Default)]
pub(super) struct Directory {
    regions: BTreeMap<RegionId, Entry>,
    by_start: BTreeMap<Bytes, RegionId>,
    /// Regions that others took over.
    merged: BTreeMap<RegionId, Merged>,
    /// As they were at last, where that is known.
    ended: BTreeMap<RegionId, RegionMeta>,
}

struct Entry {
    region: Region,
    peers: Vec<PeerMeta>,
    leader: StoreId,
    term: Term,
}

impl Directory {
    /// Takes in the shape of a region. Older versions, and what is merged, are ignored.
    pub(super) fn learn(&mut self, meta: &RegionMeta, likely_leader: StoreId) {
        let RegionMeta { region, peers, .. } = meta;
        if self.merged.contains_key(&region.id)
            || self.regions.get(&region.id).is_some_and(|e| e.region.epoch >= region.epoch)
        {
            return;
        }
        let Directory { regions, by_start, .. } = self;
        if let Some(old) = regions.get(&region.id)
            && by_start.get(&old.region.range.start) == Some(&region.id)
        {
            by_start.remove(&old.region.range.start);
        }
        by_start.insert(region.range.start.clone(), region.id);
        let (leader, term) = regions.get(&region.id).map_or((likely_leader, 0), |e| (e.leader, e.term));
        regions.insert(region.id, Entry { region: region.clone(), peers: peers.clone(), leader, term });
    }

    /// Takes in who leads a region; false if a later term is known.
    pub(super) fn learn_leader(&mut self, region_id: RegionId, term: Term, leader: StoreId) -> bool {
        match self.regions.get_mut(&region_id).filter(|entry| entry.term <= term) {
            Some(entry) => {
                (entry.term, entry.leader) = (term, leader);
                true
            }
            None => false,
        }
    }

    /// Takes in that a region was taken over.
    pub(super) fn forget_merged(&mut self, region_id: RegionId, merged: Merged) {
        self.merged.insert(region_id, merged);
        if let Some(old) = self.regions.remove(&region_id)
            && self.by_start.get(&old.region.range.start) == Some(&region_id)
        {
            self.by_start.remove(&old.region.range.start);
        }
    }

    /// As [`Directory::forget_merged`], with what the region was at last.
    pub(super) fn end(&mut self, source: &RegionMeta, merged: Merged) {
        self.forget_merged(source.region.id, merged);
        self.ended.insert(source.region.id, source.clone());
    }

    pub(super) fn merged(&self, region_id: RegionId) -> Option<Merged> {
        self.merged.get(&region_id).copied()
    }

    pub(super) fn merged_into(&self, target: RegionId) -> Vec<(RegionId, Merged)> {
        self.merged.iter().filter(|(_, m)| m.target == target).map(|(id, m)| (*id, *m)).collect()
    }

    pub(super) fn is_merge_hopeless(&self, source: RegionId, target: RegionId, epoch: RegionEpoch) -> bool {
        let passed = |e: &Entry| e.region.epoch.version > epoch.version || e.region.epoch.conf_ver > epoch.conf_ver;
        !self.merged.contains_key(&source)
            && (self.merged.contains_key(&target) || self.regions.get(&target).is_some_and(passed))
    }

    /// The region of an encoded key and its leader; the whole key space, led by nobody, if nothing is known.
    pub(super) fn locate(&self, encoded: &[u8]) -> (Region, StoreId) {
        let range = (std::ops::Bound::Unbounded, std::ops::Bound::Included(encoded));
        let below = self.by_start.range::<[u8], _>(range).next_back();
        match below.and_then(|(_, id)| self.regions.get(id)) {
            Some(entry) => (entry.region.clone(), entry.leader),
            None => (Region { id: 0, epoch: RegionEpoch::default(), range: KeyRange::ALL }, 0),
        }
    }

    pub(super) fn region(&self, region_id: RegionId) -> Option<(Region, StoreId)> {
        self.regions.get(&region_id).map(|e| (e.region.clone(), e.leader))
    }

    /// The stores of a region's peers, ascending.
    pub(super) fn peer_stores(&self, region_id: RegionId) -> Vec<StoreId> {
        let peers = self.regions.get(&region_id).map(|e| &e.peers[..]).unwrap_or_default();
        let mut stores: Vec<_> = peers.iter().map(|p| p.store_id).collect();
        stores.sort_unstable();
        stores
    }

    pub(super) fn has_removed(&self, region: &Region, peer_id: u64) -> bool {
        let now = self.regions.get(&region.id).map(|e| (e.region.epoch, &e.peers));
        let now = now.or_else(|| self.ended.get(&region.id).map(|meta| (meta.region.epoch, &meta.peers)));
        now.is_some_and(|(epoch, peers)| {
            epoch.conf_ver > region.epoch.conf_ver && peers.iter().all(|p| p.id != peer_id)
        })
    }

    /// All regions in the order of their ranges, with their leaders and the terms of these.
    pub(super) fn list(&self) -> Vec<(Region, StoreId, Term)> {
        let entries = self.by_start.values().filter_map(|id| self.regions.get(id));
        entries.map(|e| (e.region.clone(), e.leader, e.term)).collect()
    }
}
