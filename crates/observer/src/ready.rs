//! From the `raft` crate's `Ready` to the callbacks of [`RaftObserver`], for one region's peer.
//!
//! ```no_run
//! # use logtide_observer::ready::ReadyAdapter;
//! # use raft::{RawNode, eraftpb::Entry, storage::MemStorage};
//! # fn apply(_: &[Entry]) {}
//! # fn decode(_: &Entry, _: &mut Vec<logtide_model::Op>) {}
//! # fn on_ready(node: &mut RawNode<MemStorage>, observer: logtide_observer::Observer, region: logtide_model::Region) {
//! let mut adapter = ReadyAdapter::new(observer, region, decode); // once, with the peer
//!
//! let mut ready = node.ready();
//! adapter.on_soft_state(ready.ss(), node.raft.term);
//! let committed = ready.take_committed_entries();
//! apply(&committed);
//! adapter.before_ack(&committed); // and only then answer the proposers
//! let mut light = node.advance(ready);
//! let committed = light.take_committed_entries();
//! apply(&committed);
//! adapter.before_ack(&committed);
//! # }
//! ```
//!
//! A node that applies on another thread keeps the adapter there, and sends soft state and term along with the entries.

use logtide_model::{ApplyBatch, Op, RaftObserver, Region, RegionChange, Role, Term};
use raft::eraftpb::{Entry, EntryType};
use raft::{SoftState, StateRole};

/// Tells an observer what a peer applies and when it leads. `D` appends the effects that applying a normal entry with
/// data had: nothing for an entry that was refused.
#[derive(Debug)]
pub struct ReadyAdapter<R, D> {
    observer: R,
    decode: D,
    region: Region,
    term: Term,
    leadership: Leadership,
    ops: Vec<Op>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leadership {
    None,
    /// Elected, but no entry of the term is applied: writes of earlier terms may be missing yet.
    Elected(Term),
    Told(Term),
}

impl<R: RaftObserver, D: FnMut(&Entry, &mut Vec<Op>)> ReadyAdapter<R, D> {
    /// An adapter for a peer that is a follower yet. (For one that leads already, call
    /// [`on_soft_state`](Self::on_soft_state) with `node.raft.soft_state()`.)
    pub fn new(observer: R, region: Region, decode: D) -> Self {
        ReadyAdapter { observer, decode, region, term: 0, leadership: Leadership::None, ops: Vec::new() }
    }

    /// The region as the adapter knows it.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// For every `Ready`, before its entries are applied: `ready.ss()` and `node.raft.term`.
    pub fn on_soft_state(&mut self, soft_state: Option<&SoftState>, term: Term) {
        self.term = term;
        let led = self.leadership != Leadership::None;
        let leads = soft_state.map_or(led, |soft_state| soft_state.raft_state == StateRole::Leader);
        self.leadership = match self.leadership {
            Leadership::Elected(known) | Leadership::Told(known) if leads && known == term => return,
            _ if leads => Leadership::Elected(term),
            _ => Leadership::None,
        };
        if led && !leads {
            self.observer.on_leadership(&self.region, term, Role::Follower);
        }
    }

    /// After consecutive entries were applied and before any of their proposers is told (contract H1). All entries
    /// belong here, those without data too.
    pub fn before_ack(&mut self, committed: &[Entry]) {
        let (Some(first), Some(last)) = (committed.first(), committed.last()) else { return };
        self.ops.clear();
        for entry in committed {
            match entry.entry_type() {
                EntryType::EntryNormal if entry.data.is_empty() => {}
                EntryType::EntryNormal => (self.decode)(entry, &mut self.ops),
                EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => self.ops.push(Op::Admin),
            }
        }
        self.observer.on_apply(&ApplyBatch {
            region_id: self.region.id,
            epoch: self.region.epoch,
            term: self.term,
            first_index: first.index,
            last_index: last.index,
            ops: &self.ops,
        });
        // The values are the observer's now; only the room for them stays.
        self.ops.clear();
        if let Leadership::Elected(term) = self.leadership
            && committed.iter().any(|entry| entry.term == term)
        {
            self.leadership = Leadership::Told(term);
            self.observer.on_leadership(&self.region, term, Role::Leader);
        }
    }

    /// After a change of this region's shape was applied; in order with [`before_ack`](Self::before_ack).
    pub fn region_changed(&mut self, change: &RegionChange) {
        let (RegionChange::Split { parent: region, .. }
        | RegionChange::Merge { target: region, .. }
        | RegionChange::EpochChange { region }
        | RegionChange::Destroy { region }) = change;
        if region.id == self.region.id {
            self.region = region.clone();
        }
        self.observer.on_region_changed(change);
    }
}
