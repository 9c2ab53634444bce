//! Up to which raft index everything of a region is durable, region by region: where a catch-up from the log begins.

use std::collections::BTreeMap;

use logtide_model::{RegionFact, RegionId, Ts};

/// The best that facts said of each region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogIndexes(BTreeMap<RegionId, LogIndex>);

/// What was said of a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogIndex {
    /// The version of its epoch then.
    pub(crate) version: u64,
    /// What all entries up to here did is durable.
    pub(crate) index: u64,
    /// The checkpoint that it was said with: old ones are forgotten by it.
    pub(crate) checkpoint: Ts,
}

impl LogIndexes {
    /// The index of a region in that version.
    pub(crate) fn get(&self, region_id: RegionId, version: u64) -> Option<u64> {
        self.0.get(&region_id).filter(|known| known.version == version).map(|known| known.index)
    }

    /// Takes a fact in. The newest version counts, and the largest index in it.
    pub(crate) fn add_fact(&mut self, fact: &RegionFact) {
        if let Some(index) = fact.log_index() {
            let (version, checkpoint) = (fact.version, fact.checkpoint);
            self.add(fact.region_id, LogIndex { version, index, checkpoint });
        }
    }

    pub(crate) fn add(&mut self, region_id: RegionId, said: LogIndex) {
        let known = self.0.entry(region_id).or_default();
        *known = said.max(*known);
    }

    /// Forgets regions that have not stated anything for so long that all others have gone beyond: they are gone, or
    /// have another version.
    pub(crate) fn prune(&mut self, checkpoint: Ts) {
        self.0.retain(|_, known| known.checkpoint >= checkpoint);
    }

    /// Those of the regions from `first` on, in order.
    pub(crate) fn iter_from(&self, first: RegionId) -> impl Iterator<Item = (RegionId, LogIndex)> + '_ {
        self.0.range(first..).map(|(id, known)| (*id, *known))
    }
}
