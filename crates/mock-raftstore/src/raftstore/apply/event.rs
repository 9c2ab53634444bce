//! What observers are told of applied entries.

use std::sync::Arc;

use logtide_model::{ApplyBatch, Op, RaftObserver, Region, RegionChange, RegionEpoch, RegionId, Role, Term};

use crate::raftstore::command::PeerChange;
use crate::raftstore::records::RegionMeta;

/// What observers are told once the batch is written, in order.
pub(crate) enum Event {
    /// Entries of one epoch.
    Applied { epoch: RegionEpoch, first: u64, last: u64, ops: Vec<Op> },
    /// The region was split.
    Split {
        parent: RegionMeta,
        children: Vec<RegionMeta>,
        /// Children whose peer on this store is gone already, or comes in another way.
        gone: Vec<RegionMeta>,
        leader: bool,
    },
    /// Its members changed.
    Members { meta: RegionMeta, change: PeerChange },
    /// The peer here is no member any more.
    Gone { region: Region, led: bool },
    /// Only the epoch of the region changed.
    EpochChange(RegionMeta),
    /// The region took `source` over.
    Merge {
        target: RegionMeta,
        source: RegionMeta,
        /// The term in which the source led here until then.
        led: Option<Term>,
    },
}

impl Event {
    /// Tells observers, of a region in the term in which its peer applied the entries.
    pub(super) fn tell(&self, region_id: RegionId, term: Term, observers: &[Arc<dyn RaftObserver>]) {
        let changed = |change: &RegionChange| observers.iter().for_each(|o| o.on_region_changed(change));
        let led_until = |region: &Region, term| {
            observers.iter().for_each(|o| o.on_leadership(region, term, Role::Follower));
        };
        match self {
            Event::Applied { epoch, first, last, ops } => {
                let batch = ApplyBatch { region_id, epoch: *epoch, term, first_index: *first, last_index: *last, ops };
                observers.iter().for_each(|o| o.on_apply(&batch));
            }
            Event::Members { meta, .. } | Event::EpochChange(meta) => {
                changed(&RegionChange::EpochChange { region: meta.region.clone() });
            }
            Event::Gone { region, led } => {
                if *led {
                    led_until(region, term);
                }
                changed(&RegionChange::Destroy { region: region.clone() });
            }
            Event::Merge { target, source, led } => {
                if let Some(term) = led {
                    led_until(&source.region, *term);
                }
                changed(&RegionChange::Merge { target: target.region.clone(), source: source.region.clone() });
            }
            Event::Split { parent, children, gone, leader } => {
                let mut all: Vec<_> = children.iter().chain(gone).map(|c| c.region.clone()).collect();
                all.sort_by(|a, b| a.range.start.cmp(&b.range.start));
                let (parent, leader) = (parent.region.clone(), *leader);
                changed(&RegionChange::Split { parent, children: all, leader, term });
                gone.iter().for_each(|c| changed(&RegionChange::Destroy { region: c.region.clone() }));
            }
        }
    }
}
