//! I1: a generation is published only after it and all earlier ones are committed.

use std::collections::BTreeSet;

use logtide_checkpoint::{Commit, Discarded, Generations, Publish, SealRefused, Uploading};
use proptest::prelude::*;

#[test]
fn an_upload_that_ends_first_waits_for_the_earlier_ones() {
    let mut generations = Generations::new();
    let first = generations.sealed(1).unwrap();
    let second = generations.sealed(2).unwrap();
    generations.uploaded(second, "two").unwrap();
    assert!(generations.next_commit().is_none(), "generation 1 is not even uploaded");
    generations.uploaded(first, "one").unwrap();
    let commit = generations.next_commit().unwrap();
    assert_eq!((commit.generation(), commit.value), (1, "one"));
    assert!(generations.next_commit().is_none(), "one at a time");
    assert!(generations.next_publish().is_none(), "generation 1 is not committed");
    generations.committed(commit).unwrap();
    let publish = generations.next_publish().unwrap();
    let commit = generations.next_commit().unwrap();
    assert_eq!((publish.generation(), commit.generation()), (1, 2));
    generations.committed(commit).unwrap();
    assert!(generations.next_publish().is_none(), "generation 1 is being published");
    assert_eq!(generations.published(publish), "one");
    assert_eq!(generations.next_publish().unwrap().generation(), 2);
}

#[test]
fn a_lost_generation_takes_all_later_ones_with_it() {
    let mut generations = Generations::new();
    let uploads: Vec<Uploading> = (1..=4).map(|n| generations.sealed(n).unwrap()).collect();
    let mut uploads = uploads.into_iter();
    generations.uploaded(uploads.next().unwrap(), 1).unwrap();
    let lost = uploads.next().unwrap();
    generations.uploaded(uploads.next().unwrap(), 3).unwrap();
    let discarded = generations.poison(2);
    let discarded: Vec<_> = discarded.into_iter().map(|d| (d.generation, d.value)).collect();
    assert_eq!(discarded, [(2, None), (3, Some(3)), (4, None)]);
    assert_eq!(generations.uploaded(lost, 2), Err(2));
    assert_eq!(generations.sealed(5).unwrap_err(), SealRefused::Poisoned { generation: 5, poisoned: 2 });
    let commit = generations.next_commit().unwrap();
    generations.committed(commit).unwrap();
    assert_eq!(generations.next_publish().map(|p| p.generation()), Some(1));
    assert!(generations.next_commit().is_none());
}

#[test]
fn what_was_committed_when_an_earlier_publish_was_given_up_is_still_durable() {
    let mut generations = Generations::new();
    for n in 1..=2 {
        let uploading = generations.sealed(n).unwrap();
        generations.uploaded(uploading, n).unwrap();
    }
    let first = generations.next_commit().unwrap();
    generations.committed(first).unwrap();
    let second = generations.next_commit().unwrap();
    assert_eq!(generations.poison(1), [Discarded { generation: 2, value: None }]);
    assert_eq!(generations.committed(second), Err(2), "its facts must not be published");
    assert_eq!(generations.next_publish().map(|p| p.generation()), Some(1));
}

#[test]
fn a_generation_that_nobody_handed_over_is_not_passed() {
    let mut generations = Generations::<()>::new();
    assert_eq!(generations.sealed(2).unwrap_err(), SealRefused::Missing { generation: 2, last: 0 });
    let _one = generations.sealed(1).unwrap();
    assert_eq!(generations.sealed(3).unwrap_err(), SealRefused::Missing { generation: 3, last: 1 });
    assert_eq!(generations.sealed(1).unwrap_err(), SealRefused::Missing { generation: 1, last: 1 });
}

/// What any schedule of uploads, commits and publications may do.
#[derive(Default)]
struct Schedule {
    generations: Generations<u64>,
    uploading: Vec<Uploading>,
    committing: Vec<Commit<u64>>,
    publishing: Vec<Publish<u64>>,
    sealed: u64,
    committed: BTreeSet<u64>,
    published: Vec<u64>,
    poisoned: Option<u64>,
}

impl Schedule {
    fn step(&mut self, action: u8, pick: usize) {
        match action % 16 {
            0..=3 => match self.generations.sealed(self.sealed + 1) {
                Ok(uploading) => {
                    self.sealed += 1;
                    self.uploading.push(uploading);
                }
                Err(refused) => assert!(self.poisoned.is_some(), "{refused}"),
            },
            4..=7 if !self.uploading.is_empty() => {
                let uploading = self.uploading.swap_remove(pick % self.uploading.len());
                let n = uploading.generation();
                let taken = self.generations.uploaded(uploading, n).is_ok();
                assert_eq!(taken, self.poisoned.is_none_or(|poisoned| n < poisoned), "generation {n}");
            }
            8 | 9 => self.committing.extend(self.generations.next_commit()),
            10 | 11 if !self.committing.is_empty() => {
                let commit = self.committing.swap_remove(pick % self.committing.len());
                let n = commit.generation();
                assert!((1..n).all(|earlier| self.committed.contains(&earlier)), "{n} before an earlier one");
                if self.generations.committed(commit).is_ok() {
                    self.committed.insert(n);
                }
            }
            12 | 13 => self.publishing.extend(self.generations.next_publish()),
            14 if !self.publishing.is_empty() => {
                let publish = self.publishing.swap_remove(pick % self.publishing.len());
                let n = publish.generation();
                assert!((1..=n).all(|earlier| self.committed.contains(&earlier)), "{n} is not durable");
                assert_eq!(self.generations.published(publish), n);
                self.published.push(n);
            }
            15 if pick.is_multiple_of(8) && self.sealed > 0 => {
                let n = 1 + pick as u64 % self.sealed;
                if !self.committed.contains(&n) {
                    self.generations.poison(n);
                    self.poisoned = Some(self.poisoned.map_or(n, |before| before.min(n)));
                }
            }
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn no_schedule_publishes_ahead_of_its_data(steps in prop::collection::vec((any::<u8>(), 0usize..64), 0..300)) {
        let mut schedule = Schedule::default();
        for (action, pick) in steps {
            schedule.step(action, pick);
        }
        prop_assert!(schedule.published.iter().copied().eq(1..=schedule.published.len() as u64), "in order, none twice");
        if let Some(poisoned) = schedule.poisoned {
            prop_assert!(schedule.published.iter().all(|n| *n < poisoned));
        }
    }
}
