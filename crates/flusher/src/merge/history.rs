//! Which metadata objects are merged, and when. Pure.
//!
//! A store knows what it committed itself: objects come in the order of their commits, all of one boot. The newest one
//! stays as it is, for the head of the boot names it. Before it lie those that were not merged yet, and before those at
//! most one that was merged and has room for more. What is behind that is left alone.

use std::collections::VecDeque;

use logtide_format::{MetaLink, MetaName, Previous};

/// The most objects that are remembered, however long none can be merged; older ones stay as they are.
const REMEMBERED: usize = 4096;

/// A metadata object that is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its path.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    name: MetaName,
    link: MetaLink,
}

impl Committed {
    /// `None` for an object whose name does not say what comes before it.
    pub(crate) fn of(path: &str, bytes: u64) -> Option<Committed> {
        let (name, link) = (MetaName::parse(path).ok()?, MetaLink::parse(path).ok()??);
        name.tag?;
        Some(Committed { path: path.to_owned(), bytes, name, link })
    }

    /// How the one after it may name it: exactly.
    fn as_previous(&self) -> Option<Previous> {
        let MetaName { min_ts, max_ts, tag, .. } = self.name;
        tag.map(|tag| Previous { generation: tag.generation, min_ts, max_ts })
    }

    fn follows(&self, before: &Committed) -> bool {
        before.name.tag.is_some_and(|tag| tag.generation == self.link.above())
    }

    pub(crate) fn name(&self) -> &MetaName {
        &self.name
    }

    pub(crate) fn is_merged(&self) -> bool {
        self.link.is_merged()
    }
}

/// Objects that are to become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// In the order of their generations; two at least.
    pub objects: Vec<Committed>,
    /// What is before the first of them; `None` for what its name says.
    pub previous: Option<Previous>,
    /// A merged object before it whose head is not needed once the run is merged, for that names it exactly.
    pub(crate) named: Option<MetaName>,
}

impl Run {
    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.bytes).sum()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct History {
    /// The last one that is left alone, if it is directly before the others.
    closed: Option<Committed>,
    /// A merged one with room for more.
    open: Option<Committed>,
    /// Those that were not merged, the newest at the end.
    singles: VecDeque<Committed>,
}

impl History {
    /// An object was committed.
    pub fn add(&mut self, object: Committed) {
        if self.last().is_some_and(|last| !object.follows(last)) {
            *self = History::default();
        }
        self.singles.push_back(object);
        if self.singles.len() > REMEMBERED {
            self.close();
        }
    }

    fn last(&self) -> Option<&Committed> {
        self.singles.back().or(self.open.as_ref()).or(self.closed.as_ref())
    }

    /// The next objects that can be merged, `count` or more of them (fewer if more would be larger than `limit` bytes),
    /// into one of at most `limit` bytes. What can never be is left alone from now on.
    pub fn next_run(&mut self, count: usize, limit: u64) -> Option<Run> {
        while count >= 2 && self.singles.len() > count {
            let mut bytes = 0;
            let fits = |object: &&Committed| {
                bytes += object.bytes;
                bytes <= limit
            };
            let objects: Vec<_> = self.singles.iter().take(count).take_while(fits).cloned().collect();
            if objects.len() < 2 {
                self.close();
                continue;
            }
            let together: u64 = objects.iter().map(|object| object.bytes).sum();
            let open = self.open.take_if(|open| open.bytes + together > limit);
            self.closed = open.or(self.closed.take());
            return Some(self.run(objects));
        }
        None
    }

    fn run(&self, singles: Vec<Committed>) -> Run {
        let objects: Vec<_> = self.open.iter().cloned().chain(singles).collect();
        let before = self.closed.as_ref().filter(|closed| objects.first().is_some_and(|first| first.follows(closed)));
        let named = before.filter(|before| before.is_merged()).map(|before| before.name);
        Run { previous: before.and_then(Committed::as_previous), named, objects }
    }

    /// The oldest single one, and what is before it, is left alone.
    fn close(&mut self) {
        self.open = None;
        self.closed = self.singles.pop_front();
    }

    /// A run was merged into `object`.
    pub(crate) fn merged(&mut self, run: &Run, object: Committed) {
        self.forget(run);
        self.open = Some(object);
    }

    /// A run cannot be merged: it is left alone.
    pub(crate) fn give_up(&mut self, run: &Run) {
        self.forget(run);
        self.open = None;
        self.closed = run.objects.last().cloned();
    }

    fn forget(&mut self, run: &Run) {
        let singles = run.objects.iter().filter(|object| self.open.as_ref() != Some(*object)).count();
        self.singles.drain(..singles.min(self.singles.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_format::ObjectTag;
    use logtide_model::Ts;
    use proptest::prelude::*;

    fn object(generation: u64, above: u64, bytes: u64, merged: u64) -> Committed {
        let ts = Ts::new;
        let tag = Some(ObjectTag { boot: 2, generation });
        let (min_begin_ts, min_ts, max_ts) = (ts(above), ts(above + 1), ts(generation * 10));
        let name = MetaName { flush_ts: ts(9), store_id: 1, min_begin_ts, min_ts, max_ts, flags: 0, tag };
        let previous = Previous { generation: above, min_ts: ts(1), max_ts: ts(1) };
        let link = MetaLink { crc: generation, previous: (above > 0).then_some(previous), merged };
        Committed::of(&name.linked_path(&link), bytes).unwrap()
    }

    fn generations(run: &Run) -> Vec<u64> {
        run.objects.iter().map(|object| object.name.tag.unwrap().generation).collect()
    }

    /// Merges as long as something can be; the generations of each run.
    fn merge_all(history: &mut History, count: usize, limit: u64) -> Vec<Vec<u64>> {
        let mut runs = Vec::new();
        while let Some(run) = history.next_run(count, limit) {
            let (first, last) = (run.objects.first().unwrap(), run.objects.last().unwrap());
            let of = run.objects.iter().map(|object| object.link.merged.max(1)).sum();
            let merged = object(last.name.tag.unwrap().generation, first.link.above(), run.bytes(), of);
            runs.push(generations(&run));
            history.merged(&run, merged);
        }
        runs
    }

    #[test]
    fn as_many_as_are_asked_for_become_one_and_the_newest_stays() {
        let mut history = History::default();
        for generation in 1..=4 {
            history.add(object(generation, generation - 1, 10, 0));
            assert_eq!(history.next_run(4, 100), None);
        }
        history.add(object(6, 4, 10, 0));
        assert_eq!(merge_all(&mut history, 4, 100), [[1, 2, 3, 4]]);
        for generation in 7..=10 {
            history.add(object(generation, generation - 1, 10, 0));
        }
        assert_eq!(merge_all(&mut history, 4, 100), [[4, 6, 7, 8, 9]], "the merged one goes on");
        (11..=14).for_each(|generation| history.add(object(generation, generation - 1, 10, 0)));
        let run = history.next_run(4, 100).unwrap();
        assert_eq!(generations(&run), [10, 11, 12, 13], "it is full");
        assert_eq!(run.previous.map(|p| (p.generation, p.min_ts, p.max_ts)), Some((9, Ts::new(1), Ts::new(90))));
        assert_eq!(run.named.map(|name| name.tag.unwrap().generation), Some(9), "which names it exactly");
        assert_eq!(history.next_run(0, 100), None, "merging is off");
    }

    #[test]
    fn what_is_too_large_is_left_alone_and_what_is_behind_goes_on() {
        let mut history = History::default();
        for (generation, bytes) in [(1, 10), (2, 10), (3, 95), (4, 10), (5, 10), (6, 10)] {
            history.add(object(generation, generation - 1, bytes, 0));
        }
        assert_eq!(merge_all(&mut history, 3, 100), [vec![1, 2], vec![4, 5]][..1].to_vec());
        (7..=8).for_each(|generation| history.add(object(generation, generation - 1, 10, 0)));
        assert_eq!(merge_all(&mut history, 3, 100), [[4, 5, 6]]);
        let run = history.next_run(3, 100);
        assert_eq!(run, None);
    }

    #[test]
    fn what_cannot_be_merged_is_not_tried_again() {
        let mut history = History::default();
        (1..=7).for_each(|generation| history.add(object(generation, generation - 1, 10, 0)));
        let run = history.next_run(3, 100).unwrap();
        history.give_up(&run);
        let next = history.next_run(3, 100).unwrap();
        assert_eq!((generations(&run), generations(&next)), (vec![1, 2, 3], vec![4, 5, 6]));
        assert_eq!(next.previous.unwrap().generation, 3);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_a_gap_ends_it() {
        let mut history = History::default();
        (1..=REMEMBERED as u64 + 10).for_each(|g| history.add(object(g, g - 1, 10, 0)));
        assert_eq!(history.singles.len(), REMEMBERED);
        assert_eq!(generations(&history.next_run(2, 100).unwrap()), [11, 12]);
        let beyond = REMEMBERED as u64 + 12;
        history.add(object(beyond, beyond - 1, 10, 0));
        assert_eq!((history.singles.len(), history.next_run(2, 100)), (1, None));
    }

    proptest! {
        #[test]
        fn runs_are_consecutive_and_small_and_every_predecessor_is_exact(
            sizes in prop::collection::vec(1u64..120, 0..200), count in 2usize..9, give_up in 0usize..20,
        ) {
            let (mut history, limit) = (History::default(), 100);
            let mut layout: Vec<Committed> = Vec::new();
            for (generation, bytes) in (1..).zip(sizes) {
                let single = object(generation, generation - 1, bytes, 0);
                layout.push(single.clone());
                history.add(single);
                let mut tries = 0;
                while let Some(run) = history.next_run(count, limit) {
                    prop_assert!(run.bytes() <= limit && run.objects.len() >= 2);
                    let at = layout.iter().position(|object| *object == run.objects[0]).unwrap();
                    prop_assert_eq!(&layout[at..at + run.objects.len()], &run.objects[..]);
                    prop_assert!(at + run.objects.len() < layout.len(), "the newest stays");
                    if let Some(previous) = run.previous {
                        prop_assert_eq!(Some(previous), layout[at - 1].as_previous());
                    }
                    let before_is_merged = at > 0 && layout[at - 1].is_merged();
                    prop_assert_eq!(run.named, before_is_merged.then(|| *layout[at - 1].name()));
                    tries += 1;
                    if generation as usize % 20 == give_up && tries == 1 {
                        history.give_up(&run);
                        continue;
                    }
                    let (first, last) = (run.objects[0].clone(), run.objects.last().unwrap().clone());
                    let merged = object(last.name.tag.unwrap().generation, first.link.above(), run.bytes(), 2);
                    layout.splice(at..at + run.objects.len(), [merged.clone()]);
                    history.merged(&run, merged);
                }
                let singles = layout.iter().rev().take_while(|object| !object.is_merged() && object.bytes <= limit / 8);
                prop_assert!(singles.count() <= 2 * count + 1, "small ones do not pile up");
            }
        }
    }
}
