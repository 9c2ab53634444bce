//! Elections, partitions, crashes and a missing timestamp service in the middle of transactions.

use std::collections::BTreeSet;

use super::*;
use crate::client::Patience;

const KEYS: [&str; 4] = ["a", "b", "n", "z"];

fn cut_off(world: &World, store: StoreId) {
    let others: BTreeSet<_> = (1..=3).filter(|s| *s != store).collect();
    world.cluster.partition(&[[store].into(), others]);
}

/// What is committed can be read, and what is rolled back never.
fn check(world: &mut World, outcome: &Outcome, what: &str) {
    world.cluster.heal();
    world.resolve_all();
    let seen: BTreeSet<_> = KEYS.iter().map(|key| world.get(key)).collect();
    assert_eq!(seen.len(), 1, "{what}: torn: {seen:?}");
    let written = seen.first().is_some_and(Option::is_some);
    match outcome {
        Outcome::Committed { commit_ts, .. } => {
            assert!(written, "{what}: lost");
            assert_eq!(world.get_at("z", commit_ts.prev()), None, "{what}");
            assert!(world.get_at("z", *commit_ts).is_some(), "{what}");
        }
        Outcome::Undetermined { .. } => {}
        other => assert!(!written, "{what}: visible, though {other:?}"),
    }
}

/// Lets a transaction run into `fault` after so many turns; 240 are more than any needs.
fn disturbed(kind: TxnKind, after: usize, fault: impl Fn(&World)) -> (World, Outcome) {
    let mut world = World::new(3, &["m"]);
    let id = world.start(TxnPlan { batch: 1, ..plan(kind, Ending::Commit, &KEYS, "v") });
    for _ in 0..after {
        world.over.extend(world.scripts.poll_all());
        world.turn();
    }
    fault(&world);
    world.run_until(|w| w.over.contains_key(&id));
    let outcome = world.over[&id].clone();
    (world, outcome)
}

#[test]
fn leaders_may_change_at_any_moment() {
    for kind in KINDS {
        let mut commits = 0;
        for after in (0..60).step_by(3) {
            let (mut world, outcome) = disturbed(kind, after, |world| {
                for key in ["a", "z"] {
                    let (region, leader) = world.leader_of(key);
                    world.cluster.transfer_leader(region, leader % 3 + 1).unwrap();
                }
            });
            commits += usize::from(matches!(outcome, Outcome::Committed { .. }));
            check(&mut world, &outcome, &format!("{kind:?} after {after}"));
        }
        assert_eq!(commits, 20, "{kind:?}: a new leader is no reason to give up");
    }
}

#[test]
fn a_leader_may_be_cut_off_or_crash_at_any_moment() {
    for kind in KINDS {
        for (after, crash) in (0..60).step_by(5).flat_map(|after| [(after, false), (after, true)]) {
            let (mut world, outcome) = disturbed(kind, after, |world| {
                let (_, leader) = world.leader_of("z");
                if crash { world.cluster.stop_store(leader) } else { cut_off(world, leader) }
            });
            let what = format!("{kind:?} after {after}, crash: {crash}");
            // The others elect a leader within the client's patience; an answer may be lost for ever all the same.
            let fine = matches!(outcome, Outcome::Committed { .. } | Outcome::Undetermined { .. });
            assert!(fine || matches!(outcome, Outcome::RolledBack { .. }), "{what}: {outcome:?}");
            check(&mut world, &outcome, &what);
        }
    }
}

#[test]
fn splits_may_happen_at_any_moment() {
    for kind in KINDS {
        for after in (0..60).step_by(4) {
            let (mut world, outcome) = disturbed(kind, after, |world| {
                drop(world.cluster.submit_split(b"b").unwrap());
                drop(world.cluster.submit_split(b"x").unwrap());
            });
            committed(&outcome);
            check(&mut world, &outcome, &format!("{kind:?} after {after}"));
        }
    }
}

#[test]
fn a_commit_whose_answer_never_comes_is_undetermined_and_a_prewrite_is_not() {
    for kind in KINDS {
        let mut world = World::new(1, &["m"]);
        world.client.set_patience(Patience { answer: 30, pause: 2, attempts: 3 });
        let id = world.start(plan(kind, Ending::CommitLater(60), &["a", "b"], "v"));
        let first = world.scripts.poll_all();
        assert_eq!(first, []);
        // Nothing moves: the prewrite (or lock) stays unanswered.
        for _ in 0..400 {
            world.over.extend(world.scripts.poll_all());
        }
        let outcome = world.over[&id].clone();
        let maybe = matches!(kind, TxnKind::AsyncCommit | TxnKind::OnePc);
        assert_eq!(matches!(outcome, Outcome::Undetermined { .. }), maybe, "{kind:?}: {outcome:?}");
        assert_eq!(matches!(outcome, Outcome::GaveUp { .. }), !maybe, "{kind:?}: {outcome:?}");
        // What was sent takes effect now, and can be resolved.
        world.client.set_patience(Patience::default());
        world.steps().settle();
        world.resolve_all();
        let expected = maybe.then(|| Bytes::from("v"));
        assert_eq!((world.get("a"), world.get("b")), (expected.clone(), expected), "{kind:?}");
    }
    for kind in [TxnKind::Optimistic2pc, TxnKind::Pessimistic] {
        let mut world = World::new(1, &["m"]);
        world.client.set_patience(Patience { answer: 60, pause: 2, attempts: 3 });
        let id = world.start(plan(kind, Ending::CommitLater(60), &["a", "b"], "v"));
        for _ in 0..50 {
            world.over.extend(world.scripts.poll_all());
            world.turn();
        }
        // It is prewritten; from now on it gets no answer.
        for _ in 0..400 {
            world.over.extend(world.scripts.poll_all());
        }
        assert!(matches!(world.over[&id], Outcome::Undetermined { .. }), "{kind:?}: {:?}", world.over[&id]);
        world.client.set_patience(Patience::default());
        world.steps().settle();
        world.resolve_all();
        assert_eq!(world.get("b"), Some("v".into()), "the commit was on its way");
    }
}

#[test]
fn a_client_cut_off_with_its_leader_finds_its_way_back() {
    for kind in KINDS {
        let mut world = World::new(2, &["m"]);
        let (_, leader) = world.leader_of("z");
        cut_off(&world, leader);
        world.client.set_reach(Some([leader].into()));
        let id = world.start(plan(kind, Ending::Commit, &KEYS, "v"));
        for _ in 0..150 {
            world.over.extend(world.scripts.poll_all());
            world.turn();
        }
        assert!(world.over.is_empty(), "{kind:?}: {:?}", world.over);
        world.client.set_reach(None);
        world.run_until(|w| w.over.contains_key(&id));
        let outcome = world.over[&id].clone();
        check(&mut world, &outcome, &format!("{kind:?}"));
    }
}

#[test]
fn a_leader_that_was_hinted_at_and_is_none_is_forgotten() {
    let mut world = World::new(1, &[]);
    let (region, leader) = world.leader_of("a");
    let others: Vec<StoreId> = (1..=3).filter(|s| *s != leader).collect();
    world.cluster.stop_store(others[1]);
    for hint in others {
        world.client.0.leaders.borrow_mut().insert(region, hint);
        committed(&world.txn(plan(TxnKind::Optimistic2pc, Ending::Commit, &["a"], "v")));
        assert_ne!(world.client.target(b"a").store, hint);
    }
}

#[test]
fn a_missing_timestamp_service_is_waited_for_but_not_for_ever() {
    let mut world = World::new(1, &[]);
    world.cluster.pd().set_tso_available(false);
    let id = world.start(plan(TxnKind::Optimistic2pc, Ending::Commit, &["a"], "v"));
    for _ in 0..50 {
        assert_eq!(world.scripts.poll_all(), []);
    }
    world.cluster.pd().set_tso_available(true);
    world.run_until(|w| w.over.contains_key(&id));
    committed(&world.over[&id]);
    world.cluster.pd().set_tso_available(false);
    let outcome = world.txn(plan(TxnKind::Optimistic2pc, Ending::Commit, &["a"], "v"));
    assert!(matches!(outcome, Outcome::GaveUp { .. }), "{outcome:?}");
}

#[test]
fn the_locks_of_killed_clients_stay_until_they_are_resolved() {
    for kind in KINDS {
        let mut world = World::new(1, &["m"]);
        world.start(TxnPlan { batch: 1, ..plan(kind, Ending::Commit, &KEYS, "v") });
        for _ in 0..6 {
            assert_eq!(world.scripts.poll_all(), []);
            world.turn();
        }
        world.scripts.kill_all();
        assert!(world.scripts.is_empty());
        assert_eq!(world.client.unfinished().len(), 1);
        world.steps().settle();
        assert!(world.resolve_all() > 0);
        let seen: BTreeSet<_> = KEYS.iter().map(|key| world.get(key)).collect();
        assert_eq!(seen, [None].into(), "{kind:?}: it cannot have prewritten all keys yet");
    }
}
