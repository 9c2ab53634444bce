//! What an operator does to regions: hand their leadership over, split and merge them, move their peers, cut their logs.

use std::time::Instant;

use logtide_model::{Region, RegionId, StoreId, encode_raw_key};

use super::{CALL_TIMEOUT, Cluster, ClusterError, Ticket};
use crate::raftstore::{Action, Done, PeerMeta, Proposal, SplitChild, StoreMessage};
use crate::rpc::RegionError;

impl Cluster {
    /// Asks the leader of a region to hand over to `to`, which may or may not come about:
    /// [`Cluster::wait_regions`] tells.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchStore`], [`ClusterError::NoSuchRegion`].
    pub fn transfer_leader(&self, region_id: RegionId, to: StoreId) -> Result<(), ClusterError> {
        let (_, leader) = self.0.region(region_id)?;
        let node = self.0.node(leader).ok_or(ClusterError::NoSuchStore(leader))?;
        node.service.post(StoreMessage::TransferLeader { region_id, to });
        Ok(())
    }

    /// Splits the region of a raw key, so that a new region begins there; returns the old and the new one.
    ///
    /// # Errors
    /// [`ClusterError::Region`] if the store that seems to lead the region refuses: try again.
    pub fn split_region(&self, raw_key: &[u8]) -> Result<(Region, Region), ClusterError> {
        self.wait_for(&self.submit_split(raw_key)?)
    }

    /// As [`Cluster::split_region`], without waiting for the answer.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchStore`] if the store that seems to lead the region is stopped.
    pub fn submit_split(&self, raw_key: &[u8]) -> Result<Ticket<(Region, Region)>, ClusterError> {
        let (region, leader) = self.0.pd.locate_raw(raw_key);
        let start = encode_raw_key(raw_key).into();
        let peer_ids = self.0.pd.peer_stores(region.id).iter().map(|_| self.0.pd.alloc_id()).collect();
        let child = SplitChild { region_id: self.0.pd.alloc_id(), start, peer_ids };
        let two = |done: Done| match <[Region; 2]>::try_from(done.regions) {
            Ok([parent, child]) => Ok((parent, child)),
            Err(_) => Err(RegionError::Busy("the split made another number of regions".to_owned())),
        };
        self.propose(&region, leader, Action::Split(vec![child]), two)
    }

    /// Truncates the log of a region on all of its peers but for the last `keep` entries that its leader has applied.
    ///
    /// # Errors
    /// As [`Cluster::split_region`].
    pub fn truncate_log(&self, region_id: RegionId, keep: u64) -> Result<Region, ClusterError> {
        self.wait_for(&self.submit_truncate_log(region_id, keep)?)
    }

    /// As [`Cluster::truncate_log`], without waiting for the answer.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchRegion`]; [`ClusterError::NoSuchStore`] if the store that seems to lead it is stopped.
    pub fn submit_truncate_log(&self, region_id: RegionId, keep: u64) -> Result<Ticket<Region>, ClusterError> {
        let (region, leader) = self.0.region(region_id)?;
        self.propose(&region, leader, Action::Truncate { keep }, one_region)
    }

    /// Adds a peer of a region on a store; it gets all data by a snapshot, later.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchStore`], [`ClusterError::NoSuchRegion`]; else as [`Cluster::split_region`].
    pub fn add_peer(&self, region_id: RegionId, store: StoreId) -> Result<Region, ClusterError> {
        self.wait_for(&self.submit_add_peer(region_id, store)?)
    }

    /// As [`Cluster::add_peer`], without waiting for the answer.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchStore`], [`ClusterError::NoSuchRegion`].
    pub fn submit_add_peer(&self, region_id: RegionId, store: StoreId) -> Result<Ticket<Region>, ClusterError> {
        if !self.stores().contains(&store) {
            return Err(ClusterError::NoSuchStore(store));
        }
        let (region, leader) = self.0.region(region_id)?;
        let peer = PeerMeta { id: self.0.pd.alloc_id(), store_id: store };
        self.propose(&region, leader, Action::AddPeer(peer), one_region)
    }

    /// Removes the peer of a region on a store. It is refused to the leader itself, and if no two peers would be left.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchRegion`]; else as [`Cluster::split_region`].
    pub fn remove_peer(&self, region_id: RegionId, store: StoreId) -> Result<Region, ClusterError> {
        self.wait_for(&self.submit_remove_peer(region_id, store)?)
    }

    /// As [`Cluster::remove_peer`], without waiting for the answer.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchRegion`]; [`ClusterError::NoSuchStore`] if the store that seems to lead it is stopped.
    pub fn submit_remove_peer(&self, region_id: RegionId, store: StoreId) -> Result<Ticket<Region>, ClusterError> {
        let (region, leader) = self.0.region(region_id)?;
        self.propose(&region, leader, Action::RemovePeer(store), one_region)
    }

    /// Has a region taken over by its neighbour `target`, to the left or the right; returns that as it is then.
    ///
    /// # Errors
    /// [`ClusterError::Region`] if it cannot be done, or was taken back because the target changed meanwhile: try again.
    pub fn merge_regions(&self, source: RegionId, target: RegionId) -> Result<Region, ClusterError> {
        self.wait_for(&self.submit_merge(source, target)?)
    }

    /// As [`Cluster::merge_regions`], without waiting for the answer, which comes when the merge is done or taken back.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchRegion`]; [`ClusterError::NoSuchStore`] if the store that seems to lead the source is stopped.
    pub fn submit_merge(&self, source: RegionId, target: RegionId) -> Result<Ticket<Region>, ClusterError> {
        let (region, leader) = self.0.region(source)?;
        self.propose(&region, leader, Action::Merge { target, known: None }, one_region)
    }

    /// Proposes to the store that seems to lead a region.
    fn propose<T: Send + 'static>(
        &self,
        region: &Region,
        leader: StoreId,
        action: Action,
        answer_of: impl FnOnce(Done) -> Result<T, RegionError> + Send + 'static,
    ) -> Result<Ticket<T>, ClusterError> {
        let node = self.0.node(leader).ok_or(ClusterError::NoSuchStore(leader))?;
        let (ticket, answer) = Ticket::new();
        node.service.post(StoreMessage::Propose(Proposal {
            region_id: region.id,
            epoch: region.epoch,
            term: None,
            action,
            reply: Box::new(move |outcome| answer(outcome.and_then(answer_of))),
        }));
        Ok(ticket)
    }

    fn wait_for<T: Send + 'static>(&self, ticket: &Ticket<T>) -> Result<T, ClusterError> {
        let lost = || Err(RegionError::Undetermined("the store did not answer".to_owned()));
        let answer = self.0.runtime.wait(ticket.receiver(), Instant::now() + CALL_TIMEOUT);
        answer.unwrap_or_else(lost).map_err(ClusterError::Region)
    }
}

/// The answer of a command that leaves one region behind.
fn one_region(done: Done) -> Result<Region, RegionError> {
    let region = done.regions.into_iter().next();
    region.ok_or_else(|| RegionError::Busy("the command was answered without a region".to_owned()))
}
