//! I2 and I3: each condition on its own, then random histories against the true log (`world`).

use logtide_checkpoint::{LockOp, Phase, Rescan, Silence, Statement, Subscription};
use logtide_model::message::GapFlag;
use logtide_model::{Confirmed, KeyRange, Region, RegionEpoch, Ts};
use proptest::prelude::*;

use crate::world;

const BARRIER: Ts = Ts::new(1000);
const START: Ts = Ts::new(100);
const SNAPSHOT: u64 = 10;

fn region(version: u64, start: &str, end: &str) -> Region {
    let epoch = RegionEpoch { conf_ver: 1, version };
    Region { id: 1, epoch, range: KeyRange::new(start.to_owned(), end.to_owned()) }
}

fn confirmed() -> Confirmed {
    Confirmed { region_id: 1, term: 5, version: 2, applied_index: SNAPSHOT }
}

fn pending(gap: &GapFlag) -> Subscription {
    Subscription::new(region(2, "a", "z"), 5, gap.clone())
}

/// After a scan without locks at index 10.
fn observing(gap: &GapFlag) -> Subscription {
    let mut subscription = pending(gap);
    subscription.request_scan(1);
    assert!(subscription.scan_started(1, START, SNAPSHOT));
    assert!(subscription.scan_locks_done(1) && subscription.wants_data(1) && subscription.scan_finished(1));
    assert_eq!(subscription.phase(), Phase::Observing);
    subscription
}

fn put(key: &'static str, start_ts: u64) -> LockOp<'static> {
    LockOp { key: key.as_bytes(), held: Some(Ts::new(start_ts)) }
}

fn gone(key: &'static str) -> LockOp<'static> {
    LockOp::delete(key.as_bytes())
}

fn resolved(checkpoint: Ts, index: u64) -> Statement {
    Statement::Resolved { checkpoint, index }
}

#[test]
fn states_the_barrier_when_everything_holds() {
    let mut subscription = observing(&GapFlag::default());
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), resolved(BARRIER, SNAPSHOT));
    subscription.applied(11, 13, &[]);
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), resolved(BARRIER, 13));
}

#[test]
fn leadership_must_be_confirmed_in_its_term_and_with_its_version() {
    let mut subscription = observing(&GapFlag::default());
    let mut at = |confirmed: Option<Confirmed>| subscription.state_at(BARRIER, confirmed.as_ref());
    assert_eq!(at(None), Statement::Nothing(Silence::NotConfirmed));
    assert_eq!(at(Some(Confirmed { term: 6, ..confirmed() })), Statement::Nothing(Silence::OtherTerm));
    assert_eq!(at(Some(Confirmed { term: 4, ..confirmed() })), Statement::Nothing(Silence::OtherTerm));
    assert_eq!(at(Some(Confirmed { version: 3, ..confirmed() })), Statement::Nothing(Silence::OtherVersion));
    assert_eq!(at(Some(Confirmed { version: 1, ..confirmed() })), Statement::Nothing(Silence::OtherVersion));
    assert_eq!(at(Some(confirmed())), resolved(BARRIER, SNAPSHOT));
}

#[test]
fn entries_told_before_the_barrier_must_have_been_seen() {
    let mut subscription = observing(&GapFlag::default());
    let told = Confirmed { applied_index: 11, ..confirmed() };
    assert_eq!(subscription.state_at(BARRIER, Some(&told)), Statement::Nothing(Silence::Behind));
    assert_eq!(subscription.phase(), Phase::Observing, "it may be on the way");
    subscription.applied(11, 11, &[]);
    assert_eq!(subscription.state_at(BARRIER, Some(&told)), resolved(BARRIER, 11));
}

#[test]
fn entries_that_are_missing_at_a_second_marker_were_dropped() {
    let mut subscription = observing(&GapFlag::default());
    let told = Confirmed { applied_index: 11, ..confirmed() };
    for _ in 0..2 {
        assert_eq!(subscription.state_at(BARRIER, Some(&told)), Statement::Nothing(Silence::Behind));
    }
    assert!(subscription.wants_scan());
}

#[test]
fn a_lock_holds_the_checkpoint_at_its_start_ts() {
    let mut subscription = observing(&GapFlag::default());
    subscription.applied(11, 11, &[put("k", 700), put("l", 600)]);
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), resolved(Ts::new(600), 11));
    subscription.applied(12, 12, &[gone("l")]);
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), resolved(Ts::new(700), 12));
    subscription.applied(13, 13, &[gone("k"), put("k", 2000)]);
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), resolved(BARRIER, 13));
}

#[test]
fn a_lock_that_cannot_be_read_silences_the_region() {
    let mut subscription = observing(&GapFlag::default());
    subscription.applied(11, 11, &[LockOp::put(b"k", b"?")]);
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), Statement::Nothing(Silence::UnreadableLock));
}

#[test]
fn before_a_scan_ends_it_states_only_the_start() {
    let mut subscription = pending(&GapFlag::default());
    let at = |s: &mut Subscription| s.state_at(BARRIER, Some(&confirmed()));
    assert_eq!(at(&mut subscription), Statement::Nothing(Silence::Pending));
    subscription.request_scan(1);
    assert_eq!(at(&mut subscription), Statement::Nothing(Silence::Pending));
    subscription.scan_started(1, START, SNAPSHOT);
    assert_eq!(at(&mut subscription), Statement::Scanning(START));
    subscription.scan_locks_done(1);
    assert_eq!(at(&mut subscription), Statement::Scanning(START));
    subscription.scan_finished(1);
    assert_eq!(at(&mut subscription), resolved(BARRIER, SNAPSHOT));
}

#[test]
fn locks_of_the_snapshot_and_changes_after_it_are_put_together_by_index() {
    let mut subscription = pending(&GapFlag::default());
    subscription.request_scan(1);
    subscription.applied(8, 8, &[put("k", 300)]);
    subscription.applied(9, 10, &[gone("k"), put("l", 400)]);
    subscription.applied(11, 11, &[gone("m")]);
    // At index 10 the locks are l and m; what came up to then says nothing new, what came after removes m.
    subscription.scan_started(1, START, SNAPSHOT);
    subscription.scan_lock(1, b"l", Ts::new(400));
    subscription.scan_lock(1, b"m", Ts::new(200));
    subscription.applied(12, 12, &[put("n", 500)]);
    subscription.scan_locks_done(1);
    subscription.scan_finished(1);
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), resolved(Ts::new(400), 12));
    subscription.applied(13, 13, &[gone("l")]);
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), resolved(Ts::new(500), 13));
}

#[test]
fn a_batch_that_the_snapshot_cuts_leaves_the_locks_at_its_end() {
    let mut subscription = pending(&GapFlag::default());
    subscription.request_scan(1);
    subscription.applied(9, 12, &[put("k", 300), gone("k"), put("l", 400), gone("m")]);
    subscription.scan_started(1, START, SNAPSHOT);
    subscription.scan_lock(1, b"m", Ts::new(200));
    subscription.scan_locks_done(1);
    subscription.scan_finished(1);
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), resolved(Ts::new(400), 12));
}

#[test]
fn a_jump_of_the_index_is_a_gap() {
    let mut subscription = observing(&GapFlag::default());
    assert!(subscription.applied(11, 12, &[]));
    assert!(subscription.applied(11, 12, &[]), "the same again is none");
    assert!(subscription.applied(12, 13, &[]), "nor is an overlap");
    assert!(!subscription.applied(15, 15, &[]));
    assert!(subscription.wants_scan());
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), Statement::Nothing(Silence::Pending));
    assert_eq!(subscription.request_scan(2), 1, "counts as a failure");
}

#[test]
fn a_jump_right_after_the_snapshot_is_a_gap() {
    let mut subscription = pending(&GapFlag::default());
    subscription.request_scan(1);
    subscription.scan_started(1, START, SNAPSHOT);
    assert!(!subscription.applied(12, 12, &[]));
    assert!(subscription.wants_scan());

    let mut subscription = pending(&GapFlag::default());
    subscription.request_scan(1);
    subscription.applied(12, 12, &[]);
    subscription.scan_started(1, START, SNAPSHOT);
    assert!(subscription.wants_scan(), "entry 11 is neither in the snapshot nor was it seen");
}

#[test]
fn what_the_snapshot_has_need_not_be_seen() {
    let mut subscription = pending(&GapFlag::default());
    subscription.request_scan(1);
    subscription.applied(5, 5, &[]);
    // Entries 6 to 10 were dropped before the snapshot was taken, and nothing comes after them.
    subscription.scan_started(1, START, SNAPSHOT);
    subscription.scan_locks_done(1);
    subscription.scan_finished(1);
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), resolved(BARRIER, SNAPSHOT));
    assert!(subscription.applied(11, 11, &[]));
}

#[test]
fn a_batch_that_comes_again_late_changes_nothing() {
    let mut subscription = observing(&GapFlag::default());
    subscription.applied(11, 11, &[put("k", 300)]);
    subscription.applied(12, 12, &[gone("k")]);
    assert!(subscription.applied(11, 11, &[put("k", 300)]));
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), resolved(BARRIER, 12));
}

#[test]
fn a_jump_while_it_waits_must_be_within_the_snapshot() {
    for (index, covered) in [(6, false), (7, true)] {
        let mut subscription = pending(&GapFlag::default());
        subscription.request_scan(1);
        subscription.applied(5, 5, &[]);
        assert!(subscription.applied(8, 8, &[]), "nothing is lost yet: the snapshot may have it");
        subscription.scan_started(1, START, index);
        assert_eq!(subscription.phase() == Phase::Scanning, covered, "entries 6 and 7, snapshot at {index}");
    }
}

#[test]
fn a_dropped_batch_at_the_end_shows_at_the_marker() {
    let gap = GapFlag::default();
    let mut subscription = observing(&gap);
    gap.raise();
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), Statement::Nothing(Silence::Gap));
    assert!(subscription.wants_scan());
    gap.clear();
    assert_eq!(
        subscription.state_at(BARRIER, Some(&confirmed())),
        Statement::Nothing(Silence::Pending),
        "a flag that is down again proves nothing"
    );
}

#[test]
fn steps_of_another_attempt_are_stale() {
    let mut subscription = pending(&GapFlag::default());
    subscription.request_scan(1);
    subscription.scan_started(1, START, SNAPSHOT);
    subscription.rescan(Rescan::Lost);
    assert_eq!(subscription.take_given_up(), Some(1));
    subscription.request_scan(2);
    assert!(!subscription.scan_started(1, START, SNAPSHOT) && !subscription.scan_locks_done(1));
    assert!(!subscription.wants_data(1) && !subscription.scan_finished(1) && !subscription.scan_failed(1));
    subscription.scan_started(2, START, SNAPSHOT);
    assert!(!subscription.scan_lock(1, b"k", Ts::new(1)) && !subscription.scan_finished(1));
    assert_eq!(subscription.phase(), Phase::Scanning);
}

#[test]
fn a_scan_that_skips_a_step_proves_nothing() {
    let steps: [fn(&mut Subscription) -> bool; 3] = [
        |s| s.scan_finished(1),
        |s| s.scan_started(1, START, SNAPSHOT) && s.scan_finished(1),
        |s| s.scan_started(1, START, SNAPSHOT) && s.scan_locks_done(1) && s.scan_lock(1, b"k", Ts::new(1)),
    ];
    for step in steps {
        let mut subscription = pending(&GapFlag::default());
        subscription.request_scan(1);
        step(&mut subscription);
        assert!(subscription.wants_scan());
    }
}

#[test]
fn failures_count_until_something_is_stated() {
    let mut subscription = pending(&GapFlag::default());
    for attempt in 1..=3 {
        assert_eq!(u64::from(subscription.request_scan(attempt)), attempt - 1);
        assert!(subscription.scan_failed(attempt));
    }
    subscription.request_scan(4);
    subscription.scan_started(4, START, SNAPSHOT);
    subscription.scan_locks_done(4);
    subscription.scan_finished(4);
    subscription.applied(20, 20, &[]);
    assert_eq!(subscription.request_scan(5), 4, "a scan that did not help is a failure, too");
    subscription.scan_started(5, START, 20);
    subscription.scan_locks_done(5);
    subscription.scan_finished(5);
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), resolved(BARRIER, 20));
    subscription.rescan(Rescan::Range);
    assert_eq!(subscription.request_scan(6), 0);
}

#[test]
fn a_split_keeps_the_parent_and_drops_the_childs_locks() {
    let mut subscription = observing(&GapFlag::default());
    subscription.applied(11, 11, &[put("c", 700), put("x", 600)]);
    subscription.shrink(region(3, "a", "m"));
    assert_eq!(subscription.phase(), Phase::Observing);
    assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), Statement::Nothing(Silence::OtherVersion));
    let now = Confirmed { version: 3, ..confirmed() };
    assert_eq!(subscription.state_at(BARRIER, Some(&now)), resolved(Ts::new(700), 11));
    // A lock of the child that comes late (in a batch from before the split) is not ours.
    subscription.applied(12, 12, &[put("y", 500)]);
    assert_eq!(subscription.state_at(BARRIER, Some(&now)), resolved(Ts::new(700), 12));
}

#[test]
fn a_split_while_it_waits_asks_anew_and_any_other_range_is_caught_up() {
    let mut subscription = pending(&GapFlag::default());
    subscription.request_scan(1);
    subscription.shrink(region(3, "a", "m"));
    assert!(subscription.wants_scan(), "the snapshot was asked for with the old version");

    let mut subscription = observing(&GapFlag::default());
    subscription.shrink(region(3, "a", "zz"));
    assert!(subscription.wants_scan(), "it grew");
    let mut subscription = observing(&GapFlag::default());
    subscription.replace(region(3, "a", "m"));
    assert!(subscription.wants_scan());
}

#[test]
fn another_term_begins_anew_and_membership_does_not() {
    let mut subscription = observing(&GapFlag::default());
    subscription.lead(5, GapFlag::default());
    subscription.set_conf_ver(RegionEpoch { conf_ver: 9, version: 2 });
    assert_eq!((subscription.phase(), subscription.region().epoch.conf_ver), (Phase::Observing, 9));
    subscription.lead(6, GapFlag::default());
    assert!(subscription.wants_scan());
    assert_eq!(subscription.term(), 6);
}

#[test]
fn a_flag_that_is_exchanged_while_it_is_up_is_not_forgotten() {
    let gap = GapFlag::default();
    let mut subscription = observing(&gap);
    gap.raise();
    subscription.lead(5, GapFlag::default());
    assert!(subscription.wants_scan());
}

/// The rest of attempt 1, whose snapshot at `index` has these locks.
fn scan(subscription: &mut Subscription, attempt: u64, index: u64, locks: &[(&'static str, u64)]) {
    assert!(subscription.scan_started(attempt, START, index));
    locks.iter().for_each(|(key, ts)| assert!(subscription.scan_lock(attempt, key.as_bytes(), Ts::new(*ts))));
    assert!(subscription.scan_locks_done(attempt) && subscription.scan_finished(attempt));
}

#[test]
fn what_is_forgotten_while_it_waits_is_in_the_snapshot_or_bounds_it() {
    for (index, checkpoint) in [(3, 250), (10, 400)] {
        let mut subscription = pending(&GapFlag::default());
        subscription.request_scan(1);
        for n in 1..=5 {
            subscription.applied(n, n, &[put("k", 250 + n), put("l", 400)]);
        }
        subscription.applied(6, 10, &[gone("k"), put("l", 400)]);
        let before = subscription.memory();
        assert!(subscription.relieve() && subscription.relieve());
        assert!(subscription.memory() <= before / 2);
        scan(&mut subscription, 1, index, &[("l", 400)]);
        let at_least = resolved(Ts::new(checkpoint), 10);
        let Statement::Resolved { checkpoint: stated, .. } = subscription.state_at(BARRIER, Some(&confirmed())) else {
            panic!("the attempt goes on")
        };
        assert!(stated >= Ts::new(checkpoint) && stated <= Ts::new(400), "{stated}, {at_least:?}");
        assert_eq!(subscription.wants_scan(), index == 3, "a bound is looked at again");
    }
}

#[test]
fn locks_that_are_loaded_collapse_and_the_attempt_goes_on() {
    // In the queue, while nothing is kept any more, in the snapshot: the oldest counts, wherever it is.
    for (before, after, loaded) in [(250, 300, 350), (300, 250, 350), (300, 350, 250)] {
        let mut subscription = pending(&GapFlag::default());
        subscription.request_scan(1);
        subscription.scan_started(1, START, SNAPSHOT);
        subscription.applied(11, 11, &[put("k", before)]);
        assert!(subscription.relieve() && subscription.memory() == 0);
        subscription.applied(12, 12, &[put("l", after)]);
        subscription.scan_lock(1, b"m", Ts::new(loaded));
        assert_eq!((subscription.memory(), subscription.relieve()), (0, false), "nothing is kept any more");
        assert!(subscription.scan_locks_done(1) && subscription.scan_finished(1));
        assert_eq!(subscription.state_at(BARRIER, Some(&confirmed())), resolved(Ts::new(250), 12));
        // Nothing was removed: the bound is the minimum, and reading the locks would not change it.
        assert!(!subscription.wants_scan());
    }
}

#[test]
fn collapsed_locks_are_read_anew_when_that_can_help() {
    let mut subscription = observing(&GapFlag::default());
    subscription.applied(11, 11, &[put("k", 300), put("l", 400)]);
    assert!(subscription.relieve());
    let told = Confirmed { applied_index: 11, ..confirmed() };
    for _ in 0..50 {
        assert_eq!(subscription.state_at(BARRIER, Some(&told)), resolved(Ts::new(300), 11));
    }
    assert!(!subscription.wants_scan(), "no lock was removed");
    subscription.applied(12, 12, &[gone("k")]);
    assert_eq!(subscription.state_at(BARRIER, Some(&told)), resolved(Ts::new(300), 12));
    assert!(subscription.wants_scan());
    assert!(!subscription.relieve(), "nothing is left to give");
}

#[test]
fn a_large_transaction_among_small_ones_costs_few_looks() {
    let big: Vec<[u8; 2]> = (0..100u8).map(|n| [b'b', n]).collect();
    let mut subscription = pending(&GapFlag::default());
    let (mut index, mut looks, mut barrier) = (SNAPSHOT, Vec::new(), 1000);
    let mut oldest = Some(150);
    for marker in 0..200u64 {
        if subscription.wants_scan() {
            subscription.request_scan(marker + 1);
            looks.push(marker);
            subscription.scan_started(marker + 1, START, index);
            big.iter().for_each(|key| assert!(subscription.scan_lock(marker + 1, key, Ts::new(500))));
            subscription.relieve();
            if let Some(ts) = oldest {
                subscription.scan_lock(marker + 1, b"o", Ts::new(ts));
            }
            subscription.scan_locks_done(marker + 1);
            subscription.scan_finished(marker + 1);
        }
        // Small transactions come and go between any two markers.
        (index, barrier) = (index + 2, barrier + 10);
        subscription.applied(index - 1, index - 1, &[put("s", barrier), put("t", barrier)]);
        subscription.applied(index, index, &[gone("s"), gone("t")]);
        if marker == 20 {
            oldest = None;
            index += 1;
            subscription.applied(index, index, &[gone("o")]);
        }
        let confirmed = Confirmed { applied_index: index, ..confirmed() };
        let Statement::Resolved { checkpoint, .. } = subscription.state_at(Ts::new(barrier), Some(&confirmed)) else {
            continue;
        };
        assert!(checkpoint == Ts::new(150) && marker <= 40 || checkpoint == Ts::new(500) && marker > 20, "{marker}");
    }
    assert!(looks.len() < 25 && looks.iter().any(|marker| (21..=40).contains(marker)), "{looks:?}");
    assert!(looks.windows(2).all(|pair| pair[1] - pair[0] <= 17), "{looks:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_statement_lies_in_any_history(actions in prop::collection::vec(any::<u16>(), 0..500)) {
        let outcome = world::run(&actions);
        prop_assert!(outcome.lies.is_empty(), "{:#?}", outcome.lies);
        prop_assert!(outcome.caught_up, "it must come to rest in Observing, with the barrier as checkpoint");
    }
}

#[test]
fn long_histories_do_not_lie_and_do_state_something() {
    let mut seed = 1u64;
    let mut totals = world::Totals::default();
    for history in 0..300 {
        let actions: Vec<u16> = (0..3000).map(|_| world::next_random(&mut seed)).collect();
        let outcome = world::run(&actions);
        assert!(outcome.lies.is_empty() && outcome.caught_up, "history {history}: {:#?}", outcome.lies);
        totals += outcome.totals;
    }
    // The histories reach everything that can be said, or the test says nothing.
    assert!(totals.resolved > 2000 && totals.held_by_a_lock > 200, "{totals:?}");
    assert!(totals.scanning > 500 && totals.gaps > 200 && totals.shrunk > 50, "{totals:?}");
    assert_eq!(totals.silences.len(), 6, "{totals:?}");
}
