//! Going on: raft, the network, the stages of all stores and the clients, in a mixed order and by uneven amounts.

use std::time::Instant;

use logtide_model::message::ScanEvent;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::World;
use super::node::SimNode;
use crate::client::Outcome;

impl World {
    /// Everything goes on a little.
    pub(crate) fn run(&mut self, mix: u64) {
        let mut rng = SmallRng::seed_from_u64(mix);
        for _ in 0..rng.random_range(1..=3) {
            self.raft(&mut rng);
            self.stages(&mut rng);
            self.clients(&mut rng);
        }
    }

    fn raft(&mut self, rng: &mut SmallRng) {
        let Some(steps) = self.cluster.steps() else { return };
        for store in self.cluster.stores() {
            if rng.random_bool(0.85) {
                steps.step(store);
            }
        }
        if rng.random_bool(0.85) {
            steps.deliver_all();
        } else {
            let flying = steps.flying().len();
            for _ in 0..rng.random_range(0..4) {
                if flying > 0 {
                    steps.deliver(rng.random_range(0..flying));
                }
            }
        }
    }

    fn stages(&mut self, rng: &mut SmallRng) {
        let now = self.now();
        let window = self.elapsed_ms / 1500;
        for (n, node) in (0u64..).zip(self.nodes.values_mut().chain(&mut self.zombies)) {
            pump(node, now, (window + n).is_multiple_of(2), rng);
        }
    }

    fn clients(&mut self, rng: &mut SmallRng) {
        if rng.random_bool(0.8) {
            let ended = self.scripts.poll_all();
            ended.iter().for_each(|(id, outcome)| self.ended(*id, outcome));
        } else if !self.scripts.is_empty() {
            let n = rng.random_range(0..self.scripts.len());
            if let Some((id, outcome)) = self.scripts.poll(n) {
                self.ended(id, &outcome);
            }
        }
    }

    fn ended(&mut self, id: u64, outcome: &Outcome) {
        self.digest.add_number(id);
        if let Outcome::Committed { commit_ts, .. } = outcome {
            self.digest.add_number(commit_ts.get());
            self.counts.committed += 1;
        } else {
            self.counts.uncommitted += 1;
        }
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, ms: u64) {
        self.ticks += 1;
        self.elapsed_ms += ms;
        self.clock.advance(ms);
        self.coordinator_clock.advance(std::time::Duration::from_millis(ms));
        if let Some(steps) = self.cluster.steps() {
            steps.tick_all();
        }
        self.tell_deposed();
        let now = self.now();
        for (n, node) in (0u64..).zip(self.nodes.values_mut().chain(&mut self.zombies)) {
            node.pass(ms);
            if (self.ticks + n).is_multiple_of(4) {
                node.stepped.reconcile();
            }
            if (self.ticks + n).is_multiple_of(3) {
                // A coordinator that is away is away for the next tick too.
                let _ = node.stepped.advance(now);
            }
            if (self.ticks + n).is_multiple_of(61) {
                node.stepped.audit();
            }
            node.stepped.step_tasks(now);
        }
    }
}

/// With `stalled`, the oldest scan does not go on if it is about to tell of locks: its thread has something else to do.
fn pump(node: &mut SimNode, now: Instant, stalled: bool, rng: &mut SmallRng) {
    for shard in 0..node.stepped.shards() {
        let most = [0, 1, 2, 1000][rng.random_range(0..4)];
        for _ in 0..most {
            if !node.stepped.step_shard(shard, now) {
                break;
            }
        }
    }
    if rng.random_bool(0.4) {
        node.stepped.begin_scan(now);
    }
    for n in (0..node.stepped.scanning()).rev() {
        for _ in 0..rng.random_range(0..6) {
            let locks = matches!(node.stepped.next_of_scan(n), Some(ScanEvent::Locks { .. }));
            if !(stalled && locks && n == 0) {
                node.stepped.step_scan(n);
            }
        }
    }
    if rng.random_bool(0.7) {
        node.settle();
        node.stepped.step_tasks(now);
    }
}
