//! Facts about key ranges, and the global checkpoint over them (I4).

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use logtide_model::{KeyRange, Ts};

/// For every key: up to when all commits to it are durable, as far as anyone stated.
///
/// Facts stay true whatever becomes of the regions that stated them, so they merge by maximum, whatever their epochs;
/// nothing here ever goes down. Neighbours with the same timestamp are one entry, so the size depends on how many
/// different things are known, not on how many regions said them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cover {
    /// A step function: what holds from a key (inclusive) up to the next one. It begins at the empty key;
    /// [`Ts::ZERO`] means that nothing is known; no two neighbours are equal.
    steps: BTreeMap<Box<[u8]>, Ts>,
}

impl Default for Cover {
    fn default() -> Self {
        Self::new()
    }
}

impl Cover {
    /// Nothing is known.
    pub fn new() -> Self {
        Cover { steps: BTreeMap::from([(Box::default(), Ts::ZERO)]) }
    }

    /// Everything committed at or below `ts` to a key in `range` is durable.
    pub fn insert(&mut self, range: &KeyRange, ts: Ts) {
        if range.is_empty() || self.raise_step(range, ts) || self.is_known(range, ts) {
            return;
        }
        self.cut(&range.start);
        if !range.end.is_empty() {
            self.cut(&range.end);
        }
        for (_, step) in self.steps.range_mut::<[u8], _>(bounds(range)) {
            *step = ts.max(*step);
        }
        self.join(range);
    }

    /// The smallest of what is known over `ranges`; a key of which nothing is known, or less than `default`, counts as
    /// `default` (the task's start ts). `default` for no ranges at all.
    pub fn min_over(&self, ranges: &[KeyRange], default: Ts) -> Ts {
        let known = ranges.iter().filter(|range| !range.is_empty()).map(|range| self.min_known(range));
        known.min().map_or(default, |ts| ts.max(default))
    }

    /// From when a region of that range has to be caught up: the smallest of what is known over `range`.
    pub fn start_ts(&self, range: &KeyRange, default: Ts) -> Ts {
        self.min_over(std::slice::from_ref(range), default)
    }

    /// Forgets what says no more than `default` says, to stay small: with a default at or above it, answers stay.
    pub fn prune(&mut self, default: Ts) {
        let mut before = None;
        self.steps.retain(|_, ts| {
            if *ts <= default {
                *ts = Ts::ZERO;
            }
            before.replace(*ts) != Some(*ts)
        });
    }

    /// What is known, in ascending order, without the ranges of which nothing is.
    pub fn iter(&self) -> impl Iterator<Item = (KeyRange, Ts)> + '_ {
        self.iter_from(&[])
    }

    /// What is known of keys from `key` on, likewise. So a cover can be gone through in steps while it changes.
    pub fn iter_from<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = (KeyRange, Ts)> + 'a {
        let later = || self.steps.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded));
        let starts = [(key, self.at(key))].into_iter().chain(later().map(|(key, ts)| (&**key, *ts)));
        let ends = later().map(|(key, _)| Bytes::copy_from_slice(key)).chain([Bytes::new()]);
        let known = starts.zip(ends).filter(|((_, ts), _)| !ts.is_zero());
        known.map(|((start, ts), end)| (KeyRange { start: Bytes::copy_from_slice(start), end }, ts))
    }

    /// The first part of `range` over which no more than `ts` is known.
    pub fn first_up_to(&self, range: &KeyRange, ts: Ts) -> Option<KeyRange> {
        let inside = self.steps.range::<[u8], _>((Bound::Excluded(&range.start[..]), bounds(range).1));
        let mut start = (self.at(&range.start) <= ts).then_some(&range.start[..]);
        for (key, known) in inside {
            match start {
                None if *known <= ts => start = Some(key),
                Some(start) if *known > ts => return Some(KeyRange::new(start.to_vec(), key.to_vec())),
                _ => {}
            }
        }
        start.map(|start| KeyRange { start: Bytes::copy_from_slice(start), end: range.end.clone() })
    }

    /// How many entries it takes.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// True if nothing is known.
    pub fn is_empty(&self) -> bool {
        self.steps.values().all(|ts| ts.is_zero())
    }

    fn at(&self, key: &[u8]) -> Ts {
        self.steps
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .map_or(Ts::ZERO, |(_, ts)| *ts)
    }

    fn min_known(&self, range: &KeyRange) -> Ts {
        let inside = (Bound::Excluded(&range.start[..]), bounds(range).1);
        self.steps.range::<[u8], _>(inside).map(|(_, ts)| *ts).fold(self.at(&range.start), Ts::min)
    }

    fn is_known(&self, range: &KeyRange, ts: Ts) -> bool {
        let inside = (Bound::Excluded(&range.start[..]), bounds(range).1);
        self.at(&range.start) >= ts && self.steps.range::<[u8], _>(inside).all(|(_, known)| *known >= ts)
    }

    /// Raises the step that is exactly `range`, if there is one and neither neighbour is joined by it: what a region
    /// states that has not changed, found by one search. False if nothing is done yet.
    fn raise_step(&mut self, range: &KeyRange, ts: Ts) -> bool {
        let upper = if range.end.is_empty() { Bound::Unbounded } else { Bound::Included(&range.end[..]) };
        let mut back = self.steps.range_mut::<[u8], _>((Bound::Unbounded, upper));
        let right = match range.end.is_empty() {
            true => None,
            false => match back.next_back() {
                Some((key, known)) if **key == range.end[..] => Some(*known),
                _ => return false,
            },
        };
        match back.next_back() {
            Some((key, step)) if **key == range.start[..] => {
                let left = back.next_back().map(|(_, known)| *known);
                let joins = left == Some(ts) || right == Some(ts);
                if *step < ts && !joins {
                    *step = ts;
                }
                *step >= ts
            }
            _ => false,
        }
    }

    /// Makes `key` the beginning of a step.
    fn cut(&mut self, key: &[u8]) {
        if !self.steps.contains_key(key) {
            let ts = self.at(key);
            self.steps.insert(key.into(), ts);
        }
    }

    /// Joins equal neighbours at the beginnings of steps in `range` and at its end.
    fn join(&mut self, range: &KeyRange) {
        let before = (Bound::Unbounded, Bound::Excluded(&range.start[..]));
        let mut left = self.steps.range::<[u8], _>(before).next_back().map(|(_, ts)| *ts);
        let end = if range.end.is_empty() { Bound::Unbounded } else { Bound::Included(&range.end[..]) };
        let mut same = Vec::new();
        for (key, ts) in self.steps.range::<[u8], _>((Bound::Included(&range.start[..]), end)) {
            if left.replace(*ts) == Some(*ts) {
                same.push(key.clone());
            }
        }
        for key in same {
            self.steps.remove(&key);
        }
    }
}

fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let end = if range.end.is_empty() { Bound::Unbounded } else { Bound::Excluded(&range.end[..]) };
    (Bound::Included(&range.start[..]), end)
}

impl Extend<(KeyRange, Ts)> for Cover {
    fn extend<I: IntoIterator<Item = (KeyRange, Ts)>>(&mut self, facts: I) {
        facts.into_iter().for_each(|(range, ts)| self.insert(&range, ts));
    }
}

impl FromIterator<(KeyRange, Ts)> for Cover {
    fn from_iter<I: IntoIterator<Item = (KeyRange, Ts)>>(facts: I) -> Self {
        let mut cover = Cover::new();
        cover.extend(facts);
        cover
    }
}
