//! Which regions are observed, and the leadership that each observation stands for.
//!
//! Two threads may speak about one region at once: the apply thread (leadership, region changes, batches), and the
//! façade's audit with a listing that is already old. What decides is the term: a leadership counts only if its term
//! is above every term known to be over, so an audit cannot bring back what the apply thread has just ended.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use logtide_model::message::GapFlag;
use logtide_model::{KeyRange, MemoryBudget, RegionId, Term};

/// The regions of one bucket, behind one lock.
pub(crate) type Bucket = HashMap<RegionId, Slot, BuildHasherDefault<IdHasher>>;

/// What is known about a region.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Leaderships up to this term are over.
    left: Option<Term>,
    on: Option<Box<Observation>>,
}

/// A region that is observed.
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) term: Term,
    pub(crate) gap: GapFlag,
    pub(crate) range: KeyRange,
    /// What of the region is in flight: a part of the memory of all.
    pub(crate) backlog: MemoryBudget,
}

/// What a leadership means for a slot.
#[derive(Debug)]
pub(crate) enum Led {
    /// Old news.
    Stale,
    /// Known already; the shard is asked to look again, with the same flag.
    Again(GapFlag),
    /// A new term of a region that is observed: the flag is new, so that a scan of the old term cannot clear it.
    NewTerm(GapFlag),
    /// Observation begins.
    Begun(GapFlag),
}

impl Slot {
    /// The observation, if there is one.
    pub(crate) fn observation(&self) -> Option<&Observation> {
        self.on.as_deref()
    }

    /// True if a leadership is known to be over.
    pub(crate) fn has_left(&self) -> bool {
        self.left.is_some()
    }

    pub(crate) fn observation_mut(&mut self) -> Option<&mut Observation> {
        self.on.as_deref_mut()
    }

    /// This store leads the region in `term`.
    pub(crate) fn lead(&mut self, term: Term, range: &KeyRange, memory: &MemoryBudget) -> Led {
        if self.left.is_some_and(|left| term <= left) || self.on.as_ref().is_some_and(|on| term < on.term) {
            return Led::Stale;
        }
        match &mut self.on {
            Some(on) if on.term == term => Led::Again(on.gap.clone()),
            on => {
                let gap = GapFlag::default();
                let backlog = memory.within(usize::MAX);
                let new = Observation { term, gap: gap.clone(), range: range.clone(), backlog };
                if on.replace(Box::new(new)).is_some() { Led::NewTerm(gap) } else { Led::Begun(gap) }
            }
        }
    }

    /// Leadership up to `term` is over; true if that ended the observation.
    pub(crate) fn leave(&mut self, term: Term) -> bool {
        self.left = self.left.max(Some(term));
        self.on.take_if(|on| on.term <= term).is_some()
    }

    /// Ends the observation, for another reason than leadership: the same term may come back.
    pub(crate) fn off(&mut self) -> Option<Box<Observation>> {
        self.on.take()
    }
}

/// Region ids are unique numbers: one multiplication spreads them.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u64(u64::from(b)));
    }

    fn write_u64(&mut self, id: u64) {
        // An odd constant other than the one that chose the bucket, folded so that both ends of the word are mixed.
        let wide = u128::from(self.0 ^ id) * 0xd6e8_feb8_6659_fd93;
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: KeyRange = KeyRange::ALL;

    #[test]
    fn an_old_listing_cannot_bring_back_a_leadership_that_ended() {
        let mut slot = Slot::default();
        assert!(!slot.leave(6));
        assert!(matches!(slot.lead(5, &RANGE, &MemoryBudget::new(1)), Led::Stale));
        assert!(matches!(slot.lead(6, &RANGE, &MemoryBudget::new(1)), Led::Stale), "stepped down within the term");
        assert!(matches!(slot.lead(7, &RANGE, &MemoryBudget::new(1)), Led::Begun(_)));
    }

    #[test]
    fn the_end_of_an_older_term_does_not_end_a_newer_one() {
        let mut slot = Slot::default();
        assert!(matches!(slot.lead(8, &RANGE, &MemoryBudget::new(1)), Led::Begun(_)));
        assert!(!slot.leave(7) && slot.observation().is_some());
        assert!(matches!(slot.lead(7, &RANGE, &MemoryBudget::new(1)), Led::Stale));
        assert!(slot.leave(8) && slot.observation().is_none());
    }

    #[test]
    fn one_term_has_one_flag_and_the_next_a_new_one() {
        let mut slot = Slot::default();
        let Led::Begun(first) = slot.lead(1, &RANGE, &MemoryBudget::new(1)) else { panic!() };
        let Led::Again(again) = slot.lead(1, &RANGE, &MemoryBudget::new(1)) else { panic!() };
        let Led::NewTerm(second) = slot.lead(2, &RANGE, &MemoryBudget::new(1)) else { panic!() };
        first.raise();
        assert!(again.is_raised() && !second.is_raised());
        slot.off();
        assert!(
            matches!(slot.lead(2, &RANGE, &MemoryBudget::new(1)), Led::Begun(_)),
            "no task wanted it: the same term may come back"
        );
    }
}
