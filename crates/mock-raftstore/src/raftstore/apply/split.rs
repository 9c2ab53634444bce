//! Splits: the pieces of a region, and the entry that makes them regions.

use logtide_model::{KeyRange, Op, Region};

use super::{Effects, Event};
use crate::engine::WriteBatch;
use crate::raftstore::command::SplitChild;
use crate::raftstore::message::Done;
use crate::raftstore::peer::Peer;
use crate::raftstore::records::{EntryId, PeerMeta, RegionMeta, put_region, put_replayable};
use crate::rpc::RegionError;

impl Effects {
    /// An entry that splits the region.
    pub(super) fn split(
        &mut self,
        peer: &mut Peer,
        into: &[SplitChild],
        at: EntryId,
        batch: &mut WriteBatch,
    ) -> Result<Done, RegionError> {
        let Some((parent, children)) = split(&peer.meta, into) else {
            return Err(RegionError::Busy(format!("region {} has no such keys to split at", self.region_id)));
        };
        self.note(peer.meta.region.epoch, at.index, vec![Op::Admin]);
        put_replayable(batch, self.region_id, at.index);
        peer.shaped_at = at.index;
        put_region(batch, &parent);
        peer.meta = parent.clone();
        let leader = peer.is_leader() && peer.announced == Some(peer.term());
        let regions = std::iter::once(&parent).chain(&children).map(|m| m.region.clone()).collect();
        self.events.push(Event::Split { parent, children, gone: Vec::new(), leader });
        Ok(Done { regions })
    }
}

/// The region as it is after a split, and its children; `None` if the split makes no sense.
fn split(meta: &RegionMeta, into: &[SplitChild]) -> Option<(RegionMeta, Vec<RegionMeta>)> {
    let range = &meta.region.range;
    let mut epoch = meta.region.epoch;
    epoch.version += into.len() as u64;
    let mut bounds = vec![range.start.clone()];
    for child in into {
        let above = bounds.last().is_some_and(|b| *b < child.start);
        if !above || !range.contains(&child.start) || child.peer_ids.len() != meta.peers.len() {
            return None;
        }
        bounds.push(child.start.clone());
    }
    bounds.push(range.end.clone());
    let piece = |i: usize| KeyRange { start: bounds[i].clone(), end: bounds[i + 1].clone() };
    let parent = RegionMeta { region: Region { id: meta.region.id, epoch, range: piece(0) }, ..meta.clone() };
    let child = |(i, child): (usize, &SplitChild)| RegionMeta {
        range_deleted: meta.range_deleted,
        region: Region { id: child.region_id, epoch, range: piece(i + 1) },
        peers: meta
            .peers
            .iter()
            .zip(&child.peer_ids)
            .map(|(p, id)| PeerMeta { id: *id, store_id: p.store_id })
            .collect(),
    };
    Some((parent, into.iter().enumerate().map(child).collect()))
}

#[cfg(test)]
mod tests {
    use logtide_model::RegionEpoch;

    use super::*;

    fn meta(start: &'static str, end: &'static str) -> RegionMeta {
        let region = Region { id: 1, epoch: RegionEpoch { conf_ver: 1, version: 4 }, range: KeyRange::new(start, end) };
        let peers = vec![PeerMeta { id: 2, store_id: 1 }, PeerMeta { id: 3, store_id: 2 }];
        RegionMeta { region, peers, range_deleted: None }
    }

    fn child(region_id: u64, start: &'static str) -> SplitChild {
        SplitChild { region_id, start: start.into(), peer_ids: vec![region_id + 1, region_id + 2] }
    }

    #[test]
    fn a_split_covers_the_parent_without_overlap() {
        let (parent, children) = split(&meta("b", "y"), &[child(10, "d"), child(20, "m")]).unwrap();
        assert_eq!(parent.region.range, KeyRange::new("b", "d"));
        assert_eq!(children[0].region.range, KeyRange::new("d", "m"));
        assert_eq!(children[1].region.range, KeyRange::new("m", "y"));
        assert_eq!((parent.region.epoch.version, children[1].region.epoch.version), (6, 6));
        assert_eq!(children[1].peer_on(2), Some(22));
    }

    #[test]
    fn senseless_splits_are_refused() {
        for children in [vec![child(10, "b")], vec![child(10, "y")], vec![child(10, "m"), child(20, "d")]] {
            assert_eq!(split(&meta("b", "y"), &children), None);
        }
    }
}
