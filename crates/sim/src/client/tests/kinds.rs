//! Every kind of transaction with every ending.

use logtide_model::Ts;

use super::*;

const KEYS: [&str; 5] = ["p", "a", "b", "n", "z"];

fn world() -> World {
    World::new(1, &["m"])
}

fn values(world: &mut World) -> Vec<Option<Bytes>> {
    KEYS.iter().map(|key| world.get(key)).collect()
}

fn all(value: &'static str) -> Vec<Option<Bytes>> {
    vec![Some(Bytes::from_static(value.as_bytes())); KEYS.len()]
}

#[test]
fn each_kind_commits_over_two_regions() {
    for kind in KINDS {
        let mut world = world();
        let before = world.cluster.pd().tso().unwrap();
        let commit_ts = committed(&world.txn(plan(kind, Ending::Commit, &KEYS, "v")));
        assert!(commit_ts > before);
        assert_eq!(world.client.unfinished(), [], "{kind:?} left locks");
        for key in KEYS {
            assert_eq!(world.get_at(key, commit_ts), Some(Bytes::from("v")), "{kind:?}");
            assert_eq!(world.get_at(key, commit_ts.prev()), None, "{kind:?}");
        }
    }
}

#[test]
fn each_kind_deletes_and_locks() {
    for kind in KINDS {
        let mut world = world();
        world.txn(plan(TxnKind::OnePc, Ending::Commit, &["a", "b"], "v"));
        let mut wanted = plan(kind, Ending::Commit, &["p"], "w");
        wanted.writes.push((b"a".to_vec(), None));
        wanted.locks_only = vec![b"b".to_vec(), b"p".to_vec()];
        let commit_ts = committed(&world.txn(wanted));
        let seen: Vec<_> = ["p", "a", "b"].iter().map(|key| world.get_at(key, commit_ts)).collect();
        assert_eq!(seen, [Some("w".into()), None, Some("v".into())], "{kind:?}");
        // Who began before conflicts with the lock, too.
        assert_eq!(world.resolve_all(), 0);
    }
}

#[test]
fn what_is_committed_at_its_primary_is_committed() {
    for kind in KINDS {
        let mut world = world();
        let commit_ts = committed(&world.txn(plan(kind, Ending::CommitPrimaryOnly, &KEYS, "v")));
        assert_eq!(world.client.unfinished().len(), 1, "{kind:?}: the secondaries of two regions have locks");
        assert!(world.resolve_all() >= 2);
        for key in KEYS {
            assert_eq!(world.get_at(key, commit_ts), Some(Bytes::from("v")), "{kind:?}");
            assert_eq!(world.get_at(key, commit_ts.prev()), None, "{kind:?}");
        }
    }
}

#[test]
fn what_is_abandoned_is_rolled_back_unless_its_prewrite_commits_it() {
    for kind in KINDS {
        let mut world = world();
        let outcome = world.txn(plan(kind, Ending::Abandon, &KEYS, "v"));
        let expected = match (kind, &outcome) {
            (TxnKind::AsyncCommit, Outcome::Committed { .. }) => all("v"),
            (TxnKind::AsyncCommit, _) => panic!("{outcome:?}"),
            (_, Outcome::Left { .. }) => vec![None; KEYS.len()],
            _ => panic!("{kind:?}: {outcome:?}"),
        };
        assert_eq!(world.resolve_all(), KEYS.len(), "{kind:?}");
        assert_eq!(values(&mut world), expected, "{kind:?}");
    }
}

#[test]
fn small_batches_make_several_raft_entries() {
    let entries = |batch| {
        let mut world = World::new(1, &[]);
        let (_, leader) = world.leader_of("a");
        let applied = |world: &World| world.cluster.stats().stores[&leader].applied_entries;
        let before = applied(&world);
        world.txn(TxnPlan { batch, ..plan(TxnKind::Optimistic2pc, Ending::Abandon, &KEYS, "v") });
        applied(&world) - before
    };
    assert_eq!([1, 2, 4, 5, 0].map(entries), [5, 3, 2, 1, 5]);
}

#[test]
fn one_pc_in_one_region_is_over_at_once_however_it_ends() {
    for ending in [Ending::Commit, Ending::CommitPrimaryOnly, Ending::Abandon] {
        let mut world = world();
        let commit_ts = committed(&world.txn(plan(TxnKind::OnePc, ending, &["a", "b", "c", "d"], "v")));
        assert_eq!(world.client.unfinished(), []);
        assert_eq!(world.get_at("d", commit_ts), Some("v".into()));
    }
}

#[test]
fn half_a_prewrite_never_commits_with_and_without_its_primary() {
    for kind in KINDS {
        for keys in [["a", "b", "n", "z"], ["z", "a", "b", "n"]] {
            let mut world = world();
            let outcome = world.txn(plan(kind, Ending::AbandonHalf, &keys, "v"));
            assert!(matches!(outcome, Outcome::Left { .. }), "{kind:?}: {outcome:?}");
            assert!(world.resolve_all() > 0);
            for key in keys {
                assert_eq!(world.get(key), None, "{kind:?} {keys:?}");
            }
        }
    }
}

#[test]
fn a_rollback_leaves_neither_locks_nor_writes() {
    for kind in KINDS {
        for keys in [&KEYS[..], &["a"]] {
            let mut world = world();
            let outcome = world.txn(plan(kind, Ending::Rollback, keys, "v"));
            assert!(matches!(outcome, Outcome::RolledBack { .. }), "{kind:?}: {outcome:?}");
            assert_eq!(world.client.unfinished(), []);
            // Nobody has to wait for it.
            let next = world.txn(plan(TxnKind::Optimistic2pc, Ending::Commit, keys, "w"));
            let Outcome::Committed { start_ts, commit_ts } = next else { panic!("{kind:?}: {next:?}") };
            assert!(commit_ts.physical_ms() < start_ts.physical_ms() + 3000);
            assert_eq!(world.get(keys[0]), Some("w".into()));
        }
    }
}

#[test]
fn who_commits_too_late_was_rolled_back_by_whoever_met_its_locks() {
    for kind in [TxnKind::Optimistic2pc, TxnKind::Pessimistic] {
        let mut world = world();
        let late = world.start(plan(kind, Ending::CommitLater(5000), &KEYS, "late"));
        for _ in 0..200 {
            assert_eq!(world.scripts.poll_all(), []);
            world.turn();
        }
        let found = world.client.unfinished();
        world.clock.advance(3001);
        let next = committed(&world.txn(plan(TxnKind::Optimistic2pc, Ending::Commit, &KEYS, "next")));
        world.run_until(|w| w.over.contains_key(&late));
        assert_eq!(world.over[&late], Outcome::RolledBack { start_ts: found[0] }, "{kind:?}");
        assert_eq!(values(&mut world), all("next"));
        assert_eq!(world.get_at("a", next.prev()), None);
        world.resolve_all();
    }
}

#[test]
fn a_reader_pushes_a_commit_above_itself() {
    let mut world = world();
    let id = world.start(plan(TxnKind::Optimistic2pc, Ending::CommitLater(220), &KEYS, "v"));
    for _ in 0..200 {
        assert_eq!(world.scripts.poll_all(), []);
        world.turn();
    }
    // So far ahead that the first commit ts that it gets is too old; yet it will be reached while it tries.
    let ahead = Ts::compose(world.cluster.pd().now_ms() + 100, 0);
    assert_eq!(world.get_at("p", ahead), None);
    for _ in 0..60 {
        world.over.extend(world.scripts.poll_all());
        world.turn();
    }
    assert!(world.cluster.pd().now_ms() < ahead.physical_ms() && world.over.is_empty(), "it has tried in vain");
    world.run_until(|w| w.over.contains_key(&id));
    assert!(committed(&world.over[&id]) > ahead);
    assert_eq!(world.get_at("p", ahead), None);
    assert_eq!(values(&mut world), all("v"));
}

#[test]
fn a_write_in_between_ends_an_optimistic_transaction_and_moves_a_pessimistic_one() {
    for kind in KINDS {
        let mut world = world();
        let id = world.start(plan(kind, Ending::Commit, &["a", "z"], "first"));
        // It has its start ts now, and has sent its first command.
        assert_eq!(world.scripts.poll_all(), []);
        let other = txn::run(world.client.clone(), plan(TxnKind::OnePc, Ending::Commit, &["n", "z"], "second"));
        committed(&world.run(other));
        world.run_until(|w| w.over.contains_key(&id));
        let seen = (world.get("a"), world.get("z"));
        if kind == TxnKind::Pessimistic {
            committed(&world.over[&id]);
            assert_eq!(seen, (Some("first".into()), Some("first".into())));
        } else {
            assert!(matches!(world.over[&id], Outcome::RolledBack { .. }), "{kind:?}: {:?}", world.over[&id]);
            assert_eq!(seen, (None, Some("second".into())), "{kind:?}");
        }
        assert_eq!(world.client.unfinished(), []);
    }
}
