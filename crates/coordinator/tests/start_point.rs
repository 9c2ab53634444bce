//! From where a region is caught up: the timestamp over its range, and the index behind which its log has the rest.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod cluster;

use cluster::{Cluster, START};
use logtide_coordinator::TaskPublisher;
use logtide_model::message::StartPoint;
use logtide_model::{KeyRange, Publication, Publisher, Region, RegionEpoch, RegionFact, Task, Ts};

/// Region 7 over the raw keys `start..end`.
fn region(version: u64, start: &str, end: &str) -> Region {
    let range = KeyRange::from_raw(start.as_bytes(), end.as_bytes());
    Region { id: 7, epoch: RegionEpoch { conf_ver: 1, version }, range }
}

/// What region 7 states.
fn fact(version: u64, (start, end): (&str, &str), checkpoint: u64, index: u64) -> RegionFact {
    let range = KeyRange::from_raw(start.as_bytes(), end.as_bytes());
    RegionFact { region_id: 7, version, range, checkpoint: Ts::new(checkpoint), index, term: 6 }
}

struct Setup {
    cluster: Cluster,
    task: Task,
    generation: u64,
}

impl Setup {
    fn new() -> Self {
        let cluster = Cluster::new();
        let task = cluster.create("t");
        cluster.tasks.boot_epoch(1).unwrap();
        Setup { cluster, task, generation: 0 }
    }

    /// Publishes, and lets a new advancer fold.
    fn publish(&mut self, facts: &[RegionFact]) {
        self.generation += 1;
        let publication = Publication {
            task: self.task.name.clone(),
            incarnation: self.task.incarnation,
            store_id: 1,
            boot: 1,
            generation: self.generation,
            facts: facts.to_vec(),
        };
        TaskPublisher::new(self.cluster.store.clone()).publish(&publication).unwrap();
    }

    fn fold(&self) {
        let mut advancer = self.cluster.advancer(1);
        self.cluster.tick(&mut advancer);
        advancer.resign().unwrap();
    }

    fn start(&self, region: &Region) -> StartPoint {
        self.cluster.tasks.start_point(&self.task, region).unwrap()
    }
}

fn point(ts: u64, log_from: Option<u64>) -> StartPoint {
    StartPoint { ts: Ts::new(ts), log_from }
}

#[test]
fn the_index_counts_for_the_same_version_only() {
    let mut setup = Setup::new();
    let now = region(3, "b", "p");
    assert_eq!(setup.start(&now), StartPoint { ts: START, log_from: None });
    // Two ranges of the task, one region.
    setup.publish(&[fact(3, ("b", "m"), 400, 50), fact(3, ("n", "p"), 400, 50)]);
    assert_eq!(setup.start(&now).log_from, None, "not folded yet: an older start is as true");
    setup.fold();
    assert_eq!(setup.start(&now), point(400, Some(51)));
    assert_eq!(setup.start(&region(4, "b", "f")), point(400, None), "split: another range, maybe another history");
    assert_eq!(setup.start(&region(2, "b", "z")).log_from, None);
    let other = Region { id: 8, ..now.clone() };
    assert_eq!(setup.start(&other), point(400, None), "another region has other indexes");
}

#[test]
fn a_region_under_scan_keeps_the_index_of_its_last_complete_fact() {
    let mut setup = Setup::new();
    let now = region(3, "b", "m");
    setup.publish(&[fact(3, ("b", "m"), 400, 50)]);
    setup.publish(&[fact(3, ("b", "m"), 400, 0)]);
    setup.fold();
    assert_eq!(setup.start(&now), point(400, Some(51)));
    // Another region spoke of the range since: the timestamp is further, the index stays true.
    setup.publish(&[RegionFact { region_id: 9, version: 2, ..fact(2, ("a", "m"), 500, 900) }]);
    setup.fold();
    assert_eq!(setup.start(&now), point(500, Some(51)));
    // A region that never stated more than a scan has none.
    setup.publish(&[fact(4, ("b", "m"), 500, 0)]);
    setup.fold();
    assert_eq!(setup.start(&region(4, "b", "m")), point(500, None));
}

#[test]
fn the_largest_index_of_the_newest_version_counts_in_any_order() {
    let mut setup = Setup::new();
    let facts = [fact(3, ("b", "m"), 500, 60), fact(2, ("b", "p"), 600, 90), fact(3, ("b", "m"), 450, 55)];
    for fact in facts {
        setup.publish(&[fact]);
        setup.fold();
    }
    assert_eq!(setup.start(&region(3, "b", "m")).log_from, Some(61));
    assert_eq!(setup.start(&region(2, "b", "p")).log_from, None, "nobody asks for an older version any more");
}

#[test]
fn regions_that_are_gone_are_forgotten_when_the_checkpoint_has_passed_them() {
    let mut setup = Setup::new();
    setup.publish(&[fact(3, ("b", "m"), 400, 50)]);
    setup.fold();
    let before = setup.cluster.contents("/logtide/").iter().map(|(_, value)| value.len()).sum::<usize>();
    let all = |ts| [RegionFact { region_id: 9, ..fact(5, ("", ""), ts, 0) }];
    setup.publish(&all(400));
    setup.fold();
    assert_eq!(setup.start(&region(3, "b", "m")).log_from, Some(51), "it may hold the checkpoint back itself");
    setup.publish(&all(401));
    setup.fold();
    assert_eq!(setup.start(&region(3, "b", "m")), point(401, None));
    let after = setup.cluster.contents("/logtide/").iter().map(|(_, value)| value.len()).sum::<usize>();
    assert!(after < before, "{after} bytes, {before} with the region");
}

#[test]
fn a_checkpoint_alone_does_not_ask_for_the_cover_again() {
    let mut setup = Setup::new();
    let now = region(3, "b", "m");
    assert_eq!(setup.cluster.tasks.known_start_ts(&setup.task, &now.range), START);
    setup.publish(&[fact(3, ("b", "m"), 400, 50)]);
    setup.fold();
    assert_eq!(setup.cluster.tasks.known_start_ts(&setup.task, &now.range), START, "nobody has asked yet");
    setup.start(&now);
    assert_eq!(setup.cluster.tasks.known_start_ts(&setup.task, &now.range), Ts::new(400));
    // A second life of the name has none of it.
    setup.cluster.tasks.remove(&setup.task.name).unwrap();
    let again = setup.cluster.create("t");
    assert_eq!(setup.cluster.tasks.start_point(&again, &now).unwrap(), StartPoint { ts: START, log_from: None });
    assert!(setup.cluster.tasks.start_point(&setup.task, &now).is_err(), "that life is over");
}
