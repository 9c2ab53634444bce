//! The order of scans: each rule on its own, then random histories against a plain list.

use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide_model::message::{GapFlag, ScanId, ScanRequest};
use logtide_model::{KeyRange, Region, RegionEpoch, RegionId, TaskName, Ts};
use proptest::prelude::*;

use super::store::task;
use crate::{Cancel, ScanSchedule, ScheduleCounts, Waiter};

fn request(region_id: RegionId, attempt: u64) -> ScanRequest {
    let task = task(vec![KeyRange::ALL]);
    ScanRequest {
        id: ScanId { task: task.name.clone(), region_id, attempt },
        region: Region { id: region_id, epoch: RegionEpoch::default(), range: KeyRange::ALL },
        term: 1,
        gap: GapFlag::default(),
        task: Arc::new(task),
        failures: 0,
        reason: logtide_model::message::ScanReason::default(),
    }
}

/// Pushes a first attempt for each region, due now, with a checkpoint.
fn pushed(limit: usize, now: Instant, regions: &[(RegionId, u64)]) -> ScanSchedule {
    let mut schedule = ScanSchedule::new(limit);
    for (region_id, checkpoint) in regions {
        assert!(schedule.push(request(*region_id, 1), now, Ts::new(*checkpoint)));
    }
    schedule
}

fn take(schedule: &mut ScanSchedule, now: Instant) -> Option<RegionId> {
    schedule.take(now).map(|(request, _)| request.id.region_id)
}

fn counts(later: usize, ready: usize, running: usize) -> ScheduleCounts {
    ScheduleCounts { later, ready, running }
}

#[test]
fn who_holds_the_checkpoint_back_goes_first_then_who_came_first() {
    let now = Instant::now();
    let mut schedule = pushed(9, now, &[(1, 500), (2, 300), (3, 500), (4, 400)]);
    schedule.hasten(&TaskName::new("t").unwrap(), 3, Ts::new(450));
    let order: Vec<_> = std::iter::from_fn(|| take(&mut schedule, now)).collect();
    assert_eq!(order, [2, 4, 3, 1]);
    // While it waits for its turn too; and never backwards.
    let mut schedule = pushed(1, now, &[(1, 500), (2, 300), (3, 400)]);
    assert_eq!(take(&mut schedule, now), Some(2));
    schedule.hasten(&TaskName::new("t").unwrap(), 1, Ts::new(100));
    schedule.hasten(&TaskName::new("t").unwrap(), 1, Ts::new(900));
    schedule.done(&request(2, 1).id);
    assert_eq!(take(&mut schedule, now), Some(1));
}

#[test]
fn one_that_backs_off_is_not_in_the_way() {
    let now = Instant::now();
    let later = now + Duration::from_secs(9);
    let mut schedule = pushed(9, now, &[(1, 500)]);
    schedule.push(request(2, 1), later, Ts::new(1));
    assert_eq!(schedule.next_turn(now), Some(now));
    assert_eq!((take(&mut schedule, now), take(&mut schedule, now)), (Some(1), None));
    assert_eq!((schedule.next_turn(now), schedule.counts()), (Some(later), counts(1, 0, 1)));
    assert_eq!((take(&mut schedule, later), schedule.next_turn(later)), (Some(2), None));
}

#[test]
fn the_limit_is_kept_and_can_be_changed() {
    let now = Instant::now();
    let mut schedule = pushed(1, now, &[(1, 1), (2, 2), (3, 3), (4, 4)]);
    assert_eq!((take(&mut schedule, now), take(&mut schedule, now)), (Some(1), None));
    assert_eq!(schedule.next_turn(now), None, "no turn is free");
    schedule.set_limit(3);
    assert_eq!(
        (take(&mut schedule, now), take(&mut schedule, now), take(&mut schedule, now)),
        (Some(2), Some(3), None)
    );
    schedule.set_limit(1);
    schedule.done(&request(1, 1).id);
    schedule.done(&request(2, 1).id);
    assert_eq!((take(&mut schedule, now), schedule.limit()), (None, 1));
    schedule.done(&request(3, 1).id);
    assert_eq!(take(&mut schedule, now), Some(4));
    schedule.set_limit(0);
    assert_eq!(schedule.next_turn(now), None);
}

#[test]
fn a_newer_attempt_cancels_the_older_one_and_an_older_one_is_stale() {
    let now = Instant::now();
    let mut schedule = pushed(9, now, &[(1, 5)]);
    let (_, running) = schedule.take(now).unwrap();
    assert!(schedule.push(request(1, 3), now, Ts::new(5)) && running.is_cancelled());
    assert!(!schedule.push(request(1, 2), now, Ts::new(5)), "it was overtaken");
    assert!(!schedule.cancel(&request(1, 2).id), "nor can it cancel the newer one");
    let (taken, newer) = schedule.take(now).unwrap();
    schedule.done(&request(1, 1).id);
    assert_eq!((taken.id.attempt, newer.is_cancelled(), schedule.counts()), (3, false, counts(0, 0, 1)));
    assert!(schedule.cancel(&request(1, 3).id) && newer.is_cancelled());
    assert_eq!(schedule.counts(), counts(0, 0, 1), "its turn is given back when it has ended");
    schedule.done(&request(1, 3).id);
    assert!(schedule.push(request(1, 4), now, Ts::new(5)));
    assert!(schedule.cancel(&request(1, 4).id));
    assert_eq!(schedule.counts(), counts(0, 0, 0), "one that waits is gone at once");
}

#[test]
fn the_end_cancels_everything() {
    let now = Instant::now();
    let mut schedule = pushed(1, now, &[(1, 1), (2, 2)]);
    let (_, running) = schedule.take(now).unwrap();
    schedule.close();
    assert!(running.is_cancelled() && !schedule.push(request(3, 1), now, Ts::ZERO));
    assert_eq!((schedule.counts(), schedule.next_turn(now)), (counts(0, 0, 1), None));
    schedule.done(&request(1, 1).id);
    assert_eq!(take(&mut schedule, now), None);
}

/// A request, as a plain list has it.
struct Plain {
    region: RegionId,
    attempt: u64,
    due: Instant,
    checkpoint: u64,
    arrival: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Push { region: RegionId, delay_ms: u64, checkpoint: u64 },
    Hasten { region: RegionId, checkpoint: u64 },
    Cancel { region: RegionId },
    Take,
    Done { pick: usize },
    Wait { ms: u64 },
    Limit { limit: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..6u64, 0..30u64, 0..5u64)
            .prop_map(|(region, delay_ms, checkpoint)| Step::Push { region, delay_ms, checkpoint }),
        1 => (0..6u64, 0..5u64).prop_map(|(region, checkpoint)| Step::Hasten { region, checkpoint }),
        1 => (0..6u64).prop_map(|region| Step::Cancel { region }),
        4 => Just(Step::Take),
        2 => any::<usize>().prop_map(|pick| Step::Done { pick }),
        2 => (0..20u64).prop_map(|ms| Step::Wait { ms }),
        1 => (0..4usize).prop_map(|limit| Step::Limit { limit }),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn it_is_a_list_that_is_searched_from_end_to_end(steps in steps()) {
        let mut now = Instant::now();
        let (mut schedule, mut limit, mut attempts) = (ScanSchedule::new(2), 2, 0);
        let mut waiting: Vec<Plain> = Vec::new();
        let mut running: Vec<(RegionId, u64, Cancel, bool)> = Vec::new();
        let name = TaskName::new("t").unwrap();
        for (arrival, step) in steps.into_iter().enumerate() {
            let supersede = |region: RegionId, waiting: &mut Vec<Plain>, running: &mut Vec<(_, _, _, bool)>| {
                waiting.retain(|plain| plain.region != region);
                running.iter_mut().filter(|r| r.0 == region).for_each(|r| r.3 = true);
            };
            match step {
                Step::Push { region, delay_ms, checkpoint } => {
                    attempts += 1;
                    supersede(region, &mut waiting, &mut running);
                    let due = now + Duration::from_millis(delay_ms);
                    prop_assert!(schedule.push(request(region, attempts), due, Ts::new(checkpoint)));
                    waiting.push(Plain { region, attempt: attempts, due, checkpoint, arrival });
                }
                Step::Hasten { region, checkpoint } => {
                    schedule.hasten(&name, region, Ts::new(checkpoint));
                    let of = waiting.iter_mut().filter(|plain| plain.region == region);
                    of.for_each(|plain| plain.checkpoint = plain.checkpoint.min(checkpoint));
                }
                Step::Cancel { region } => {
                    schedule.cancel(&request(region, attempts).id);
                    supersede(region, &mut waiting, &mut running);
                }
                Step::Take => {
                    let due = waiting.iter().filter(|plain| plain.due <= now);
                    let first = due.min_by_key(|plain| (plain.checkpoint, plain.arrival));
                    let expected = first.filter(|_| running.len() < limit).map(|plain| (plain.region, plain.attempt));
                    prop_assert_eq!(schedule.next_turn(now).is_some_and(|at| at <= now), expected.is_some());
                    let taken = schedule.take(now);
                    prop_assert_eq!(taken.as_ref().map(|(r, _)| (r.id.region_id, r.id.attempt)), expected);
                    if let Some((request, cancel)) = taken {
                        let (region, attempt) = (request.id.region_id, request.id.attempt);
                        waiting.retain(|plain| plain.region != region);
                        running.push((region, attempt, cancel, false));
                    }
                }
                Step::Done { pick } if !running.is_empty() => {
                    let (region, attempt, ..) = running.swap_remove(pick % running.len());
                    schedule.done(&request(region, attempt).id);
                }
                Step::Done { .. } => {}
                Step::Wait { ms } => now += Duration::from_millis(ms),
                Step::Limit { limit: new } => {
                    limit = new;
                    schedule.set_limit(limit);
                }
            }
            let counts = schedule.counts();
            prop_assert_eq!((counts.later + counts.ready, counts.running), (waiting.len(), running.len()));
            prop_assert!(running.iter().all(|(_, _, cancel, over)| cancel.is_cancelled() == *over));
        }
    }
}
