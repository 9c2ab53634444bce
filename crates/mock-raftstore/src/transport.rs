//! What happens to raft messages between stores: nothing, or faults by rule and by seed.
//!
//! Owns the partitions, the fault rates and the filters; decides the fate of one message at a time, in the order in
//! which messages are sent. It keeps no message: drivers do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use logtide_model::{Region, RegionId, StoreId};
use parking_lot::Mutex;
use raft::eraftpb::Message;
pub use raft::eraftpb::MessageType;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// A raft message on its way.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Who sends it.
    pub from: StoreId,
    /// Who gets it.
    pub to: StoreId,
    /// The raft group.
    pub region_id: RegionId,
    /// The region as the sender knows it; `None` if it does not know it yet.
    pub region: Option<Region>,
    /// What raft says.
    pub message: Box<Message>,
}

/// Looks at messages and decides about some of them.
pub trait Filter: Send {
    /// The ticks after which each copy arrives (none: it is lost), or `None` for no opinion.
    fn fate(&mut self, envelope: &Envelope, rng: &mut SmallRng) -> Option<Vec<u32>>;
}

/// A filter that loses messages of one type between two stores.
#[derive(Clone, Copy, Debug)]
pub struct DropType {
    /// Sender; `None` for all.
    pub from: Option<StoreId>,
    /// Receiver; `None` for all.
    pub to: Option<StoreId>,
    /// The type.
    pub kind: MessageType,
}

impl Filter for DropType {
    fn fate(&mut self, envelope: &Envelope, _rng: &mut SmallRng) -> Option<Vec<u32>> {
        let hit = self.from.is_none_or(|s| s == envelope.from)
            && self.to.is_none_or(|s| s == envelope.to)
            && envelope.message.msg_type == self.kind as i32;
        hit.then(Vec::new)
    }
}

/// How often what goes wrong; rates from 0 (never) to 1 (always).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// A message is lost.
    pub drop: f64,
    /// A message arrives twice.
    pub duplicate: f64,
    /// A copy comes late, and behind later ones.
    pub delay: f64,
    /// How late at most, in ticks of the receiver (threads) or of the network (steps).
    pub max_delay: u32,
}

/// See the module.
pub struct Network {
    /// True while there is no fault at all: then nothing is locked.
    calm: AtomicBool,
    rules: Mutex<Rules>,
}

struct Rules {
    rng: SmallRng,
    faults: Faults,
    /// Store → its side. Stores of different sides do not hear each other; those without one hear all.
    sides: BTreeMap<StoreId, usize>,
    filters: Vec<(u64, Box<dyn Filter>)>,
    last_filter: u64,
}

impl Network {
    /// A network without faults.
    pub fn new(seed: u64) -> Self {
        let rules = Rules {
            rng: SmallRng::seed_from_u64(seed),
            faults: Faults::default(),
            sides: BTreeMap::new(),
            filters: vec![],
            last_filter: 0,
        };
        Network { calm: AtomicBool::new(true), rules: Mutex::new(rules) }
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        let mut rules = self.rules.lock();
        change(&mut rules);
        let calm = rules.faults == Faults::default() && rules.sides.is_empty() && rules.filters.is_empty();
        self.calm.store(calm, Ordering::SeqCst);
    }

    /// Sets the rates of faults.
    pub fn set_faults(&self, faults: Faults) {
        self.change(|rules| rules.faults = faults);
    }

    /// Adds a filter, and returns its number. The first one with an opinion decides.
    pub fn add_filter(&self, filter: Box<dyn Filter>) -> u64 {
        let mut number = 0;
        self.change(|rules| {
            rules.last_filter += 1;
            number = rules.last_filter;
            rules.filters.push((number, filter));
        });
        number
    }

    /// Takes a filter out, if it is still there.
    pub fn remove_filter(&self, number: u64) {
        self.change(|rules| rules.filters.retain(|(known, _)| *known != number));
    }

    /// Cuts the stores into sides that do not hear each other; stores that are in none hear everybody.
    pub fn partition(&self, sides: &[BTreeSet<StoreId>]) {
        let map = sides.iter().enumerate().flat_map(|(side, stores)| stores.iter().map(move |s| (*s, side))).collect();
        self.change(|rules| rules.sides = map);
    }

    /// Ends partitions, faults and filters.
    pub fn heal(&self) {
        self.change(|rules| {
            rules.sides.clear();
            rules.filters.clear();
            rules.faults = Faults::default();
        });
    }

    /// Hands every copy of the message that will arrive to `deliver`, with its delay in ticks.
    pub fn route(&self, envelope: Envelope, mut deliver: impl FnMut(u32, Envelope)) {
        if self.calm.load(Ordering::SeqCst) {
            return deliver(0, envelope);
        }
        let delays = self.rules.lock().fate(&envelope);
        for delay in delays {
            deliver(delay, envelope.clone());
        }
    }
}

impl Rules {
    fn fate(&mut self, envelope: &Envelope) -> Vec<u32> {
        let sides = (self.sides.get(&envelope.from), self.sides.get(&envelope.to));
        if matches!(sides, (Some(a), Some(b)) if a != b) {
            return Vec::new();
        }
        for (_, filter) in &mut self.filters {
            if let Some(fate) = filter.fate(envelope, &mut self.rng) {
                return fate;
            }
        }
        let Faults { drop, duplicate, delay, max_delay } = self.faults;
        let copies = if self.rng.random_bool(drop.clamp(0.0, 1.0)) {
            0
        } else {
            1 + usize::from(self.rng.random_bool(duplicate.clamp(0.0, 1.0)))
        };
        let late = |rng: &mut SmallRng| rng.random_bool(delay.clamp(0.0, 1.0)).then(|| rng.random_range(0..=max_delay));
        (0..copies).map(|_| late(&mut self.rng).unwrap_or(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(network: &Network, from: StoreId, to: StoreId, n: usize) -> Vec<u32> {
        let mut all = Vec::new();
        for _ in 0..n {
            let envelope = Envelope { from, to, region_id: 1, region: None, message: Box::default() };
            network.route(envelope, |delay, _| all.push(delay));
        }
        all
    }

    #[test]
    fn partitions_cut_both_ways_and_heal() {
        let network = Network::new(1);
        network.partition(&[[1].into(), [2, 3].into()]);
        assert_eq!(arrivals(&network, 1, 2, 5), []);
        assert_eq!(arrivals(&network, 3, 1, 5), []);
        assert_eq!(arrivals(&network, 2, 3, 2), [0, 0]);
        network.heal();
        assert_eq!(arrivals(&network, 1, 2, 1), [0]);
    }

    #[test]
    fn faults_come_at_their_rate_and_by_seed() {
        let run = |seed| {
            let network = Network::new(seed);
            network.set_faults(Faults { drop: 0.5, duplicate: 0.5, delay: 0.5, max_delay: 4 });
            arrivals(&network, 1, 2, 1000)
        };
        let a = run(7);
        assert!((650..850).contains(&a.len()), "{}", a.len());
        assert!(a.contains(&4) && a.iter().all(|d| *d <= 4));
        assert_eq!(a, run(7));
        assert_ne!(a, run(8));
    }

    #[test]
    fn filters_decide_first() {
        let network = Network::new(1);
        network.add_filter(Box::new(DropType { from: None, to: Some(2), kind: MessageType::MsgHup }));
        assert_eq!(arrivals(&network, 1, 2, 1), []);
        assert_eq!(arrivals(&network, 1, 3, 1), [0]);
    }
}
