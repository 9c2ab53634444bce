//! The placement driver of the cluster, in process: timestamps, ids, the directory of regions, GC safepoints.
//!
//! Owns nothing that raft decides: the directory is what stores told it last, and may be outdated.

mod clock;
mod directory;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide_model::{HostError, Region, RegionEpoch, RegionId, StoreId, Term, Ts, encode_raw_key};
use parking_lot::{Condvar, Mutex};

pub use clock::{Clock, ManualClock, SystemClock};

use crate::raftstore::{Merged, RegionMeta};
use directory::Directory;

/// See the module. Cloning shares it.
#[derive(Clone)]
pub struct Pd(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Notified when the directory changes.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    last_ts: u64,
    tso_away: bool,
    last_id: u64,
    directory: Directory,
    gc_safepoint: Ts,
    /// Owner → what it holds, and until when (ms).
    holds: BTreeMap<String, (Ts, u64)>,
}

impl Pd {
    /// A placement driver that knows nothing yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Pd(Arc::new(Inner { clock, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// A fresh timestamp, greater than all before.
    ///
    /// # Errors
    /// [`HostError::Unavailable`] while [`Pd::set_tso_available`] says so.
    pub fn tso(&self) -> Result<Ts, HostError> {
        let mut state = self.0.state.lock();
        if state.tso_away {
            return Err(HostError::Unavailable("the timestamp service is away".to_owned()));
        }
        state.last_ts = Ts::compose(self.0.clock.now_ms(), 0).get().max(state.last_ts + 1);
        Ok(Ts::new(state.last_ts))
    }

    /// The last timestamp that was given to anybody.
    pub fn last_ts(&self) -> Ts {
        Ts::new(self.0.state.lock().last_ts)
    }

    /// Takes the timestamp service away, or brings it back.
    pub fn set_tso_available(&self, available: bool) {
        self.0.state.lock().tso_away = !available;
    }

    /// Now, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.0.clock.now_ms()
    }

    /// An id that no region and no peer of the cluster ever had.
    pub fn alloc_id(&self) -> u64 {
        let mut state = self.0.state.lock();
        state.last_id += 1;
        state.last_id
    }

    /// Keeps ids up to `id` from being handed out.
    pub(crate) fn reserve_ids(&self, id: u64) {
        let mut state = self.0.state.lock();
        state.last_id = state.last_id.max(id);
    }

    /// Takes in what a store says about a region's shape. Older versions are ignored.
    pub(crate) fn report_region(&self, meta: &RegionMeta, likely_leader: StoreId) {
        self.0.state.lock().directory.learn(meta, likely_leader);
        self.0.changed.notify_all();
    }

    /// Takes in that a region took another one over, both at once: who sees the one sees the other.
    pub(crate) fn report_merge(
        &self,
        target: &RegionMeta,
        source: &RegionMeta,
        merged: Merged,
        likely_leader: StoreId,
    ) {
        let directory = &mut self.0.state.lock().directory;
        directory.end(source, merged);
        directory.learn(target, likely_leader);
        self.0.changed.notify_all();
    }

    /// Takes in that a region was taken over by another one.
    pub(crate) fn report_merged(&self, region_id: RegionId, merged: Merged) {
        self.0.state.lock().directory.forget_merged(region_id, merged);
    }

    /// How a region ended that was taken over by another one. Its id is never used again.
    pub(crate) fn merged(&self, region_id: RegionId) -> Option<Merged> {
        self.0.state.lock().directory.merged(region_id)
    }

    /// The regions that a region took over.
    pub(crate) fn merged_into(&self, target: RegionId) -> Vec<(RegionId, Merged)> {
        self.0.state.lock().directory.merged_into(target)
    }

    /// True if `source` was not taken over by `target` as long as that had `epoch`, and never will be: the log of the
    /// target went on to another epoch without it.
    pub(crate) fn is_merge_hopeless(&self, source: RegionId, target: RegionId, epoch: RegionEpoch) -> bool {
        self.0.state.lock().directory.is_merge_hopeless(source, target, epoch)
    }

    /// Takes in that a store leads a region.
    pub(crate) fn report_leader(&self, meta: &RegionMeta, term: Term, leader: StoreId) {
        self.report_region(meta, leader);
        if self.0.state.lock().directory.learn_leader(meta.region.id, term, leader) {
            self.0.changed.notify_all();
        }
    }

    /// The region of an encoded key, and who seems to lead it; both may be outdated.
    pub fn locate(&self, encoded: &[u8]) -> (Region, StoreId) {
        self.0.state.lock().directory.locate(encoded)
    }

    /// As [`Pd::locate`], for a raw key.
    pub fn locate_raw(&self, raw_key: &[u8]) -> (Region, StoreId) {
        if raw_key.is_empty() { self.locate(&[]) } else { self.locate(&encode_raw_key(raw_key)) }
    }

    /// A region by its id, and who seems to lead it; both may be outdated.
    pub fn region(&self, region_id: RegionId) -> Option<(Region, StoreId)> {
        self.0.state.lock().directory.region(region_id)
    }

    /// The stores that have a peer of a region, ascending; it may be outdated.
    pub fn peer_stores(&self, region_id: RegionId) -> Vec<StoreId> {
        self.0.state.lock().directory.peer_stores(region_id)
    }

    /// True if a region, as it is now, has lost a peer that it had in the given shape.
    pub(crate) fn has_removed(&self, region: &Region, peer_id: u64) -> bool {
        self.0.state.lock().directory.has_removed(region, peer_id)
    }

    /// All regions in the order of their ranges, with who seems to lead them, and in which term (0: never told).
    pub fn regions(&self) -> Vec<(Region, StoreId, Term)> {
        self.0.state.lock().directory.list()
    }

    /// Waits until the directory (as [`Pd::regions`] has it) is as wished; false if that takes longer than `deadline`.
    /// `wish` is called with the directory locked: it must not ask for it again.
    pub fn wait(&self, deadline: Instant, wish: impl Fn(&[(Region, StoreId, Term)]) -> bool) -> bool {
        let mut state = self.0.state.lock();
        while !wish(&state.directory.list()) {
            if self.0.changed.wait_until(&mut state, deadline).timed_out() {
                return wish(&state.directory.list());
            }
        }
        true
    }

    /// Keeps GC from passing `ts` for `owner`; see [`logtide_model::Host::hold_gc`].
    ///
    /// # Errors
    /// [`HostError::GcPassed`].
    pub fn hold_gc(&self, owner: &str, ts: Option<Ts>, ttl: Duration) -> Result<(), HostError> {
        let until = self.0.clock.now_ms().saturating_add(ttl.as_millis() as u64);
        let mut state = self.0.state.lock();
        let Some(ts) = ts else {
            state.holds.remove(owner);
            return Ok(());
        };
        if ts < state.gc_safepoint {
            return Err(HostError::GcPassed { ts, safepoint: state.gc_safepoint });
        }
        state.holds.insert(owner.to_owned(), (ts, until));
        Ok(())
    }

    /// Moves the GC safepoint towards `ts` as far as nobody holds it; never back. Returns where it is.
    pub fn advance_gc(&self, ts: Ts) -> Ts {
        let now = self.0.clock.now_ms();
        let mut state = self.0.state.lock();
        state.holds.retain(|_, (_, until)| *until > now);
        let held = state.holds.values().map(|(ts, _)| *ts).min().unwrap_or(Ts::MAX);
        state.gc_safepoint = state.gc_safepoint.max(ts.min(held));
        state.gc_safepoint
    }

    /// The holds that are out: owner and ts.
    pub fn gc_holds(&self) -> Vec<(String, Ts)> {
        self.0.state.lock().holds.iter().map(|(owner, (ts, _))| (owner.clone(), *ts)).collect()
    }
}

#[cfg(test)]
mod tests {
    use logtide_model::KeyRange;

    use super::*;
    use crate::raftstore::PeerMeta;

    fn region(id: u64, version: u64, start: &'static str, end: &'static str) -> Region {
        Region { id, epoch: RegionEpoch { conf_ver: 1, version }, range: KeyRange::new(start, end) }
    }

    fn meta(region: Region) -> RegionMeta {
        let peers = vec![PeerMeta { id: 100 + region.id, store_id: 2 }, PeerMeta { id: 200 + region.id, store_id: 1 }];
        RegionMeta { region, peers, range_deleted: None }
    }

    #[test]
    fn timestamps_go_up_though_the_clock_goes_back() {
        let clock = ManualClock::new(1000);
        let pd = Pd::new(Arc::new(clock.clone()));
        let a = pd.tso().unwrap();
        assert_eq!((a.physical_ms(), a.logical()), (1000, 0));
        clock.set(500);
        let b = pd.tso().unwrap();
        assert!(b > a && b.physical_ms() == 1000);
        pd.set_tso_available(false);
        assert!(matches!(pd.tso(), Err(HostError::Unavailable(_))));
        pd.set_tso_available(true);
        assert!(pd.tso().unwrap() > b);
    }

    #[test]
    fn the_directory_follows_the_newest_shape() {
        let pd = Pd::new(Arc::new(ManualClock::new(1)));
        pd.report_region(&meta(region(1, 1, "", "")), 1);
        pd.report_leader(&meta(region(1, 2, "", "m")), 7, 2);
        pd.report_region(&meta(region(2, 2, "m", "")), 2);
        pd.report_region(&meta(region(1, 1, "", "")), 3);
        assert_eq!(pd.locate(b"a"), (region(1, 2, "", "m"), 2));
        assert_eq!(pd.locate(b"m"), (region(2, 2, "m", ""), 2));
        pd.report_leader(&meta(region(1, 2, "", "m")), 6, 3);
        assert_eq!(pd.locate(b"a").1, 2, "an older term must not win");
    }

    #[test]
    fn a_peer_is_removed_when_a_later_shape_does_not_have_it() {
        let pd = Pd::new(Arc::new(ManualClock::new(1)));
        let first = meta(region(1, 1, "", ""));
        assert!(!pd.has_removed(&first.region, 101), "nothing is known");
        pd.report_region(&first, 1);
        assert_eq!(pd.peer_stores(1), [1, 2]);
        assert!(!pd.has_removed(&first.region, 300), "a peer that is yet to come");
        let mut later = first.clone();
        later.region.epoch.conf_ver += 1;
        later.peers.remove(0);
        pd.report_region(&later, 1);
        assert!(pd.has_removed(&first.region, 101) && !pd.has_removed(&first.region, 201));
    }

    #[test]
    fn gc_stops_at_what_is_held() {
        let clock = ManualClock::new(1000);
        let pd = Pd::new(Arc::new(clock.clone()));
        pd.hold_gc("task", Some(Ts::new(50)), Duration::from_millis(10)).unwrap();
        assert_eq!(pd.advance_gc(Ts::new(90)), Ts::new(50));
        clock.advance(10);
        assert_eq!(pd.advance_gc(Ts::new(90)), Ts::new(90));
        assert!(matches!(pd.hold_gc("task", Some(Ts::new(89)), Duration::ZERO), Err(HostError::GcPassed { .. })));
    }
}
