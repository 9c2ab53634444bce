//! What no record can tell, from the moment it is seen until a generation that says so is sealed.
//!
//! # From when on a restore may differ
//! A mark's `after` is a ts up to which everything of the region is in earlier generations of this boot, or was durable
//! before its scan began: the last that the region stated at a seal, or the start ts of its scan. What a range delete
//! removed below it cannot be missing, whatever becomes of the open generation. (For that to be so, marks may become
//! durable only when all earlier generations are.) A region that is yet to be scanned for the first time has no such ts:
//! its marks wait for the scan's start, and so does every statement about it.
//!
//! An ingested file is different: its versions came into being with their timestamps, below `after` too if the host was
//! careless. Then a restore differs from the smallest of them on; if all are above, a scan finds them, and there is nothing to
//! mark.

use logtide_format::{Mark, MarkKind};
use logtide_model::{Cf, KeyRange, RegionId, Ts};

use crate::region::hull;

/// So many marks of one region, kind and column family are told apart; more are drawn together (I6).
const APART: usize = 16;

/// The marks of a task that no sealed generation has.
#[derive(Debug, Default)]
pub(crate) struct Marks(Vec<Pending>);

/// A mark whose interval is not known yet.
#[derive(Clone, Debug)]
struct Pending {
    at: Place,
    kind: MarkKind,
    cf: Cf,
    range: KeyRange,
    /// What it brought is no older; `None` if it brought nothing.
    since: Option<Ts>,
}

/// Where something was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) region_id: RegionId,
    /// The version of its epoch.
    pub(crate) version: u64,
    /// See the module; `None` until it is known.
    pub(crate) after: Option<Ts>,
}

impl Marks {
    /// Something was seen. If it brought versions, the smallest ts that one may have is `since`: it is marked only if that
    /// is not above what is durable. False if it is not marked, or that is not known yet.
    pub(crate) fn add(&mut self, kind: MarkKind, cf: Cf, range: KeyRange, at: Place, since: Option<Ts>) -> bool {
        let mut new = Pending { at, kind, cf, range, since };
        if at.after.is_some_and(|after| !new.place(after)) {
            return false;
        }
        let is_marked = since.is_none() || new.at.after.is_some();
        if self.0.iter().any(|known| known.is_like(&new) && known.covers(&new)) {
            return is_marked;
        }
        let mut alike = self.0.iter_mut().filter(|known| known.is_like(&new));
        match alike.nth(APART - 1) {
            Some(last) => last.swallow(new),
            None => self.0.push(new),
        }
        is_marked
    }

    /// Everything of a region is durable up to `after`: its marks need not wait any more.
    pub(crate) fn place(&mut self, region_id: RegionId, after: Ts) {
        let waits = |mark: &Pending| mark.at.region_id == region_id && mark.at.after.is_none();
        self.0.retain_mut(|mark| !waits(mark) || mark.place(after));
    }

    /// The marks for a generation that is sealed at that barrier.
    pub(crate) fn take(&mut self, barrier: Ts) -> Vec<Mark> {
        let ready = self.0.extract_if(.., |mark| mark.at.after.is_some());
        ready.map(|mark| mark.into_mark(barrier)).collect()
    }
}

impl Pending {
    /// Everything is durable up to `after`; false if there is nothing to mark.
    fn place(&mut self, after: Ts) -> bool {
        self.at.after = Some(self.since.map_or(after, Ts::prev));
        self.since.is_none_or(|since| since <= after)
    }

    fn is_like(&self, other: &Pending) -> bool {
        let of = |mark: &Pending| (mark.kind, mark.cf, mark.at.region_id, mark.at.version, mark.at.after.is_some());
        of(self) == of(other)
    }

    fn covers(&self, other: &Pending) -> bool {
        self.at.after <= other.at.after && self.since <= other.since && self.range.covers(&other.range)
    }

    fn swallow(&mut self, other: Pending) {
        self.range = hull(&self.range, &other.range);
        self.at.after = self.at.after.min(other.at.after);
        self.since = self.since.min(other.since);
    }

    fn into_mark(self, barrier: Ts) -> Mark {
        let Place { region_id, version, after } = self.at;
        let after = after.unwrap_or(Ts::ZERO);
        Mark { kind: self.kind, region_id, version, cf: self.cf, range: self.range, after, before: barrier }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(after: Option<u64>) -> Place {
        Place { region_id: 1, version: 2, after: after.map(Ts::new) }
    }

    fn key(n: u8) -> KeyRange {
        KeyRange::new(vec![n], vec![n, 0])
    }

    #[test]
    fn many_marks_are_drawn_together_and_none_is_lost() {
        let mut marks = Marks::default();
        for n in (0..200).chain(0..200) {
            marks.add(MarkKind::BadRecord, Cf::Write, key(n), at(Some(1000 - u64::from(n))), None);
        }
        marks.add(MarkKind::RangeDelete, Cf::Write, key(9), at(Some(5)), None);
        let taken = marks.take(Ts::new(2000));
        assert_eq!(taken.len(), APART + 1);
        for n in 0..200 {
            let holds = |mark: &Mark| mark.range.covers(&key(n)) && mark.after <= Ts::new(1000 - u64::from(n));
            assert!(taken.iter().any(|mark| mark.kind == MarkKind::BadRecord && holds(mark)), "{n}");
        }
        assert!(taken.iter().all(|mark| mark.before == Ts::new(2000)));
        assert_eq!(marks.take(Ts::new(3000)), []);
    }

    #[test]
    fn what_has_no_place_waits_for_it() {
        let mut marks = Marks::default();
        marks.add(MarkKind::RangeDelete, Cf::Write, key(1), at(None), None);
        marks.add(MarkKind::RangeDelete, Cf::Write, key(1), at(Some(70)), None);
        assert_eq!(marks.take(Ts::new(100)).iter().map(|mark| mark.after).collect::<Vec<_>>(), [Ts::new(70)]);
        marks.place(2, Ts::new(3));
        assert_eq!(marks.take(Ts::new(110)), []);
        marks.place(1, Ts::new(80));
        marks.place(1, Ts::new(90));
        let taken = marks.take(Ts::new(120));
        assert_eq!((taken.len(), taken[0].after, taken[0].before), (1, Ts::new(80), Ts::new(120)));
    }
}
