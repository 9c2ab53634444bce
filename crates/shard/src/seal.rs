//! Seal markers: close a task's generation and say what it proves.

use std::collections::BTreeMap;

use logtide_checkpoint::Statement;
use logtide_format::Mark;
use logtide_model::message::SealMarker;
use logtide_model::{RegionFact, RegionId, Ts};
use logtide_temp_file::SealedSpool;

use crate::region::{Follower, LedRegion};
use crate::{SealedRegion, SealedShard, Shard, ShardEvent};

/// What a part of a generation says besides its data.
#[derive(Default)]
struct Statements {
    facts: Vec<RegionFact>,
    regions: BTreeMap<RegionId, SealedRegion>,
    marks: Vec<Mark>,
}

impl Shard {
    pub(crate) fn seal(&mut self, marker: &SealMarker, out: &mut Vec<ShardEvent>) {
        // What is said here stands on what was handled before the marker, and all of that is in what is sealed here or
        // was sealed earlier.
        let (facts, regions) = self.statements(marker);
        let sealed = match self.tasks.get_mut(&marker.task).map(|work| (work.seal(), work)) {
            Some((Some(Ok(spool)), work)) => {
                let marks = work.marks.take(marker.barrier);
                for (id, region) in &regions {
                    let follower = self.regions.get_mut(id).and_then(|led| led.follower(&marker.task));
                    follower.into_iter().for_each(|follower| follower.stated(region.resolved_ts));
                }
                self.sealed(marker, spool, Statements { facts, regions, marks })
            }
            Some((Some(Err(error)), _)) => {
                self.lose(&marker.task, error, out);
                self.lost(marker)
            }
            Some((None, _)) => self.lost(marker),
            // A task that this shard never had: it kept nothing back, and says nothing.
            None => self.sealed(marker, SealedSpool::default(), Statements::default()),
        };
        out.push(ShardEvent::Sealed(sealed));
        // The next generation is open (again) before scans for it are asked for.
        if let Some(Err(error)) = self.tasks.get_mut(&marker.task).map(|work| work.reopen()) {
            self.lose(&marker.task, error, out);
        }
        for id in self.region_ids() {
            self.settle(id, out);
        }
    }

    fn statements(&mut self, marker: &SealMarker) -> (Vec<RegionFact>, BTreeMap<RegionId, SealedRegion>) {
        let (mut facts, mut regions) = (Vec::new(), BTreeMap::new());
        let Some(work) = self.tasks.get(&marker.task).filter(|work| !work.is_lost()) else { return (facts, regions) };
        for (&id, region) in &mut self.regions {
            let LedRegion { term, .. } = *region;
            let Some(follower) = region.follower(&marker.task) else { continue };
            let note = follower.take_note();
            let Some((checkpoint, index)) = state(follower, marker) else { continue };
            let of = follower.subscription.region();
            for range in work.task.ranges.iter().filter_map(|range| range.intersect(&of.range)) {
                facts.push(RegionFact { region_id: id, version: of.epoch.version, range, checkpoint, index, term });
            }
            regions.insert(id, SealedRegion { note, resolved_ts: checkpoint });
        }
        facts.sort_unstable_by(|a, b| (&a.range, a.region_id).cmp(&(&b.range, b.region_id)));
        (facts, regions)
    }

    fn sealed(&self, marker: &SealMarker, spool: SealedSpool, statements: Statements) -> SealedShard {
        let (task, generation) = (marker.task.clone(), marker.generation);
        let Statements { facts, regions, marks } = statements;
        SealedShard { shard: self.config.shard, task, generation, spool, facts, regions, marks, lost: false }
    }

    fn lost(&self, marker: &SealMarker) -> SealedShard {
        let sealed = self.sealed(marker, SealedSpool::default(), Statements::default());
        SealedShard { lost: true, ..sealed }
    }
}

/// The checkpoint and the index of a region at a marker. A region under scan states the scan's start ts with index 0:
/// what was applied since is here, but not what the scan has still to read, so no catch-up may begin from an index.
fn state(follower: &mut Follower, marker: &SealMarker) -> Option<(Ts, u64)> {
    let region_id = follower.subscription.region().id;
    match follower.subscription.state_at(marker.barrier, marker.confirmed.get(&region_id)) {
        Statement::Resolved { checkpoint, index } => Some((checkpoint, index)),
        Statement::Scanning(start_ts) => Some((start_ts, 0)),
        Statement::Nothing(why) => {
            tracing::debug!(region = region_id, why = why.as_str(), "left out of the checkpoint");
            None
        }
    }
}
