//! What a store is asked to do, and how it answers.

use logtide_model::{Op, Region, RegionEpoch, RegionId, StoreId, Term, Ts};

use super::command::SplitChild;
use super::records::{PeerMeta, RegionMeta};
use crate::rpc::RegionError;
use crate::transport::Envelope;

/// Called once with the outcome; dropped uncalled if the store stops.
pub(crate) type Reply<T> = Box<dyn FnOnce(Result<T, RegionError>) + Send>;

/// What is asked of a store.
pub(crate) enum StoreMessage {
    /// A raft message arrived.
    Raft(Envelope),
    /// Propose a command.
    Propose(Proposal),
    /// Confirm leadership by a read-index round, then wait until the read index is applied.
    Read {
        /// The region.
        region_id: RegionId,
        /// The answer.
        reply: Reply<ReadReady>,
    },
    /// Hand the leadership of a region over.
    TransferLeader {
        /// The region.
        region_id: RegionId,
        /// To whom.
        to: StoreId,
    },
    /// Try to become leader of a region at once.
    Campaign(RegionId),
}

/// A command for the log of a region.
pub(crate) struct Proposal {
    /// The region.
    pub(crate) region_id: RegionId,
    /// The epoch that it was computed for.
    pub(crate) epoch: RegionEpoch,
    /// The term that it was computed in: another leader, or the same one later, refuses it. `None`: whatever the term.
    pub(crate) term: Option<Term>,
    /// What to do.
    pub(crate) action: Action,
    /// The answer, after it was applied and observed: the index of its entry, and the regions as they are then (the
    /// region, and its children if it was split).
    pub(crate) reply: Reply<Done>,
}

/// What a proposal does.
pub(crate) enum Action {
    /// Changes data; with the timestamp of the range delete that is among it.
    Write(Vec<Op>, Option<Ts>),
    /// Splits the region.
    Split(Vec<SplitChild>),
    /// Adds a peer.
    AddPeer(PeerMeta),
    /// Removes the peer on a store.
    RemovePeer(StoreId),
    /// Gets the region ready to be taken over by its neighbour `target`, as far as that is `known` on this store.
    Merge {
        /// Who takes it over.
        target: RegionId,
        /// Filled in by the store.
        known: Option<RegionMeta>,
    },
    /// Truncates the log but for so many of the entries that are applied.
    Truncate {
        /// How many.
        keep: u64,
    },
}

/// An applied proposal.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// The regions as they are now.
    pub(crate) regions: Vec<Region>,
}

/// A confirmed leadership; everything committed before the question is applied and observed.
#[derive(Clone, Debug)]
pub(crate) struct ReadReady {
    /// The region as applied.
    pub(crate) region: Region,
    /// The term in which this store leads it.
    pub(crate) term: Term,
    /// The last index that is applied and observed.
    pub(crate) told_index: u64,
}
