//! Regions live on stores with threads and RocksDB: leaders move, ranges split and merge, members come and go, logs are cut
//! short, stores are cut off and die, log backup starts anew; under a load of transactions of every kind. What the storage
//! gives back afterwards is what the cluster held, at the end and at moments on the way.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests, also in what tests share")]

#[path = "lives/figures.rs"]
mod figures;
#[path = "lives/load.rs"]
mod load;
#[path = "lives/proof.rs"]
mod proof;
#[path = "lives/side.rs"]
mod side;
#[path = "lives/world.rs"]
mod world;

use std::sync::Arc;
use std::thread;

use logtide_mock_raftstore::client::Client;
use logtide_model::{RegionId, StoreId, Task, Ts, encode_raw_key};

use figures::Figures;
use load::{Load, patient, shared_key};
use side::{Cut, Side};
use world::{World, wait};

/// Commits between two acts.
const A_WHILE: u64 = 50;

/// Runs a story under load, and holds the storage to the truth: what it promised on the way, at the moments that the story
/// tells, and at its end.
fn live(world: &mut World, clients: &[Client], story: impl FnOnce(&mut World, &Task, &Load) -> Vec<Ts>) -> (Task, Ts) {
    let (load, task, stored) = (Load::default(), world.begin_task(), world.stored());
    let (moments, followed) = thread::scope(|scope| {
        let until = load.until();
        for (writer, client) in clients.iter().enumerate() {
            let load = &load;
            scope.spawn(move || load.write(client, writer as u64));
        }
        let follower = scope.spawn(|| stored.follow(&load));
        world.wait_for_commits(&load, A_WHILE);
        let moments = story(world, &task, &load);
        world.wait_for_commits(&load, A_WHILE);
        drop(until);
        (moments, follower.join().unwrap())
    });
    load.assert_mixed();
    let client = world.client();
    Load::end_what_is_left(&client);
    assert!(followed.len() > 1, "{} restores while the load went on", followed.len());
    followed.iter().for_each(|restored| restored.prove(&client, &load));
    let end = world.moment();
    world.wait_for_checkpoint(&task, end);
    moments.iter().for_each(|at| stored.restore(Some(*at)).prove(&client, &load));
    stored.restore(None).prove(&client, &load);
    (task, end)
}

fn led(world: &World) -> Vec<(RegionId, StoreId)> {
    world.cluster.pd().regions().into_iter().map(|(region, leader, _)| (region.id, leader)).collect()
}

/// The region of a raw key begins there.
fn split(world: &World, key: &[u8]) {
    let begins = || world.cluster.rpc().locate(key).0.range.start == encode_raw_key(key)[..];
    wait("a split", || begins() || world.cluster.split_region(key).is_ok());
}

/// A region and the one to its right become one, which the left or the right one goes on as.
fn merge(world: &World, key: &[u8], into_left: bool) {
    let begins = encode_raw_key(key);
    wait("a merge", || {
        let regions = world.cluster.pd().regions();
        let at = |wanted: &dyn Fn(&logtide_model::KeyRange) -> bool| {
            regions.iter().find(|(region, ..)| wanted(&region.range)).map(|(region, ..)| region.id)
        };
        let (left, right) = (at(&|range| range.end == begins[..]), at(&|range| range.start == begins[..]));
        match (left, right) {
            (Some(left), Some(right)) if into_left => world.cluster.merge_regions(right, left).is_ok(),
            (Some(left), Some(right)) => world.cluster.merge_regions(left, right).is_ok(),
            // An attempt whose answer came too late.
            _ => true,
        }
    });
}

#[test]
fn leaders_move_and_regions_split_and_merge() {
    let mut world = World::new(|_| {});
    let clients = [world.client(), world.client(), world.client()];
    let (task, end) = live(&mut world, &clients, |world, task, load| {
        let mut moments = Vec::new();
        for act in 0..4_u64 {
            let boundary = shared_key(20 + 60 * act);
            split(world, &boundary);
            for (region, leader) in led(world) {
                world.move_leader(region, (leader + act) % 3 + 1);
            }
            world.wait_for_commits(load, A_WHILE);
            moments.push(world.moment());
            merge(world, &boundary, act % 2 == 0);
            split(world, &shared_key(40 + 60 * act));
        }
        // What is known of a region as it is now lets the next leader go on from the log.
        world.wait_for_checkpoint(task, world.moment());
        for (region, leader) in led(world) {
            world.move_leader(region, leader % 3 + 1);
        }
        moments.split_off(1)
    });
    let regions = world.cluster.stats().regions;
    assert_eq!(regions, 7, "4 of 8 splits were undone");
    let figures = Figures::settled(&world, &task, end, regions);
    figures.assert_live(&task);
    assert!(figures.of("tikv_log_backup_initial_scan_reason", "leader-changed") > 0.0);
    assert!(figures.of("logtide_catch_up_source", "log") > 0.0, "some catch-ups need no scan: {figures:?}");
    world.shutdown();
}

#[test]
fn a_store_is_cut_off_with_its_clients() {
    let mut world = World::new(|_| {});
    let sides: Vec<_> = (0..3).map(|_| Side::new(&world.cluster)).collect();
    let clients: Vec<_> = sides.iter().map(|side| patient(Arc::new(side.clone()))).collect();
    let (task, end) = live(&mut world, &clients, |world, task, load| {
        for (region, _) in led(world) {
            world.move_leader(region, 1);
        }
        let believed = world.cluster.pd().regions().into_iter().map(|(region, leader, _)| (region, leader)).collect();
        let before = world.moment();
        sides[0].set(Some(Cut { reach: [1].into(), believed: Some(believed) }));
        sides[1..].iter().for_each(|side| side.set(Some(Cut { reach: [2, 3].into(), believed: None })));
        world.cluster.partition(&[[1].into(), [2, 3].into()]);
        wait("leaders on the other side", || led(world).iter().all(|(_, leader)| *leader != 1));
        world.wait_for_commits(load, A_WHILE);
        let during = world.moment();
        // The old leader cannot hold the checkpoint back, nor speak for what it lost.
        world.wait_for_checkpoint(task, during);
        world.cluster.heal();
        sides.iter().for_each(|side| side.set(None));
        world.wait_for_commits(load, A_WHILE);
        for (region, _) in led(world) {
            world.move_leader(region, 1);
        }
        world.wait_for_commits(load, A_WHILE);
        vec![before, during, world.moment()]
    });
    Figures::settled(&world, &task, end, 3).assert_live(&task);
    world.shutdown();
}

#[test]
fn log_backup_and_stores_start_anew_under_load() {
    let mut world = World::new(|_| {});
    let clients = [world.client(), world.client(), world.client()];
    let (task, end) = live(&mut world, &clients, |world, task, load| {
        world.restart_backup(2, true);
        world.wait_for_commits(load, A_WHILE);
        let first = world.moment();
        world.restart_backup(3, false);
        world.wait_for_commits(load, A_WHILE);
        let second = world.moment();
        world.crash(1);
        wait("leaders on other stores", || led(world).iter().all(|(_, leader)| *leader != 1));
        world.wait_for_commits(load, A_WHILE);
        let third = world.moment();
        world.wait_for_checkpoint(task, third);
        world.start_again(1);
        for (region, _) in led(world) {
            world.move_leader(region, 1);
        }
        world.wait_for_commits(load, A_WHILE);
        vec![first, second, third]
    });
    let figures = Figures::settled(&world, &task, end, 3);
    figures.assert_live(&task);
    assert_eq!(figures.sum("tikv_log_backup_enabled"), 6.0, "three stores, three of them twice");
    world.shutdown();
}

#[test]
fn members_move_and_snapshots_replace_logs_that_were_cut_short() {
    let mut world = World::new(|config| {
        (config.stores, config.replicas, config.log_keep) = (4, Some(3), 40);
    });
    let clients = [world.client(), world.client(), world.client()];
    let (task, end) = live(&mut world, &clients, |world, _, load| {
        let mut moments = Vec::new();
        for _ in 0..2 {
            for (region, _) in led(world) {
                move_member(world, region);
            }
            world.wait_for_commits(load, A_WHILE);
            moments.push(world.moment());
        }
        // Who is away while the log is cut short needs a snapshot, and may lead afterwards.
        world.cluster.partition(&[[4].into(), [1, 2, 3].into()]);
        wait("leaders on the other side", || led(world).iter().all(|(_, leader)| *leader != 4));
        world.wait_for_commits(load, A_WHILE);
        led(world)
            .iter()
            .for_each(|(region, _)| wait("the end of a log", || world.cluster.truncate_log(*region, 0).is_ok()));
        world.cluster.heal();
        for (region, _) in led(world) {
            if world.cluster.pd().peer_stores(region).contains(&4) {
                world.move_leader(region, 4);
            }
        }
        world.wait_for_commits(load, A_WHILE);
        moments
    });
    let snapshots: u64 = world.cluster.stats().stores.values().map(|stats| stats.snapshots).sum();
    assert!(snapshots >= 6, "{snapshots} snapshots were sent");
    let figures = Figures::settled(&world, &task, end, 3);
    figures.assert_live(&task);
    assert!(figures.of("logtide_catch_up_source", "snapshot") > 0.0, "{figures:?}");
    world.shutdown();
}

/// A region leaves one store for the one that had no peer of it, which then leads it.
fn move_member(world: &World, region: RegionId) {
    let members = || world.cluster.pd().peer_stores(region);
    let new = world.cluster.stores().into_iter().find(|store| !members().contains(store)).unwrap();
    wait("a new member", || members().contains(&new) || world.cluster.add_peer(region, new).is_ok());
    world.move_leader(region, new);
    let old = members().into_iter().find(|store| *store != new).unwrap();
    wait("the end of a member", || {
        // Refused as long as it leads, which it may again after an election.
        let gone = !members().contains(&old) || world.cluster.remove_peer(region, old).is_ok();
        if !gone {
            drop(world.cluster.transfer_leader(region, new));
        }
        gone
    });
}
