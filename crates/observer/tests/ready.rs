//! The adapter on a real raft node.
#![cfg(feature = "raft")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use logtide_model::{ApplyBatch, Cf, KeyRange, Op, RaftObserver, Region, RegionChange, RegionEpoch, Role, Term};
use logtide_observer::ready::ReadyAdapter;
use raft::eraftpb::{ConfChange, ConfState, Entry, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode};

#[derive(Debug, PartialEq)]
enum Seen {
    Apply { term: Term, version: u64, indexes: (u64, u64), ops: Vec<Op> },
    Lead(Term),
    Follow(Term),
    Changed,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    fn push(&self, seen: Seen) {
        self.0.lock().unwrap().push(seen);
    }

    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl RaftObserver for Log {
    fn on_apply(&self, batch: &ApplyBatch<'_>) {
        let (indexes, ops) = ((batch.first_index, batch.last_index), batch.ops.to_vec());
        self.push(Seen::Apply { term: batch.term, version: batch.epoch.version, indexes, ops });
    }

    fn on_leadership(&self, _: &Region, term: Term, role: Role) {
        self.push(if role == Role::Leader { Seen::Lead(term) } else { Seen::Follow(term) });
    }

    fn on_region_changed(&self, _: &RegionChange) {
        self.push(Seen::Changed);
    }
}

fn put(value: &[u8]) -> Op {
    Op::Put { cf: Cf::Default, key: Bytes::from_static(b"key"), value: Bytes::copy_from_slice(value) }
}

fn decode(entry: &Entry, ops: &mut Vec<Op>) {
    ops.push(put(&entry.data));
}

struct Node<D: FnMut(&Entry, &mut Vec<Op>)> {
    raft: RawNode<MemStorage>,
    adapter: ReadyAdapter<Log, D>,
}

impl<D: FnMut(&Entry, &mut Vec<Op>)> Node<D> {
    /// What a node does with a Ready; `adapter` gets its two lines.
    fn on_ready(&mut self) {
        while self.raft.has_ready() {
            let mut ready = self.raft.ready();
            self.adapter.on_soft_state(ready.ss(), self.raft.raft.term);
            let storage = self.raft.store().clone();
            self.adapter.before_ack(&ready.take_committed_entries());
            storage.wl().append(ready.entries()).unwrap();
            if let Some(hard_state) = ready.hs() {
                storage.wl().set_hardstate(hard_state.clone());
            }
            let mut light = self.raft.advance(ready);
            self.adapter.before_ack(&light.take_committed_entries());
            self.raft.advance_apply();
        }
    }
}

fn region() -> Region {
    Region { id: 7, epoch: RegionEpoch { conf_ver: 1, version: 3 }, range: KeyRange::ALL }
}

fn node(log: &Log) -> Node<impl FnMut(&Entry, &mut Vec<Op>) + use<>> {
    let storage = MemStorage::new_with_conf_state(ConfState::from((vec![1], vec![])));
    let config = Config { id: 1, election_tick: 10, heartbeat_tick: 3, ..Config::default() };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let raft = RawNode::new(&config, storage, &logger).unwrap();
    Node { raft, adapter: ReadyAdapter::new(log.clone(), region(), decode) }
}

#[test]
fn a_single_node_leads_writes_changes_members_and_is_deposed() {
    let log = Log::default();
    let mut node = node(&log);
    node.raft.campaign().unwrap();
    node.on_ready();
    let term = node.raft.raft.term;
    let empty = Seen::Apply { term, version: 3, indexes: (1, 1), ops: vec![] };
    assert_eq!(log.take(), [empty, Seen::Lead(term)], "leadership is told after an entry of the term was applied");

    for value in [b"a", b"b"] {
        node.raft.propose(vec![], value.to_vec()).unwrap();
    }
    node.raft.propose_conf_change(vec![], ConfChange::default()).unwrap();
    node.on_ready();
    let mut next = 2;
    let mut all = Vec::new();
    for seen in log.take() {
        let Seen::Apply { indexes: (first, last), ops, .. } = seen else { panic!("{seen:?}") };
        assert_eq!(first, next, "indexes are contiguous");
        next = last + 1;
        all.extend(ops);
    }
    assert_eq!((next, all), (5, vec![put(b"a"), put(b"b"), Op::Admin]));

    let split = Region { epoch: RegionEpoch { conf_ver: 1, version: 4 }, ..region() };
    node.adapter.region_changed(&RegionChange::Split { parent: split.clone(), children: vec![], leader: true, term });
    node.raft.propose(vec![], b"c".to_vec()).unwrap();
    node.on_ready();
    let after = Seen::Apply { term, version: 4, indexes: (5, 5), ops: vec![put(b"c")] };
    assert_eq!(log.take(), [Seen::Changed, after]);
    assert_eq!(*node.adapter.region(), split);

    let mut newer = Message { to: 1, from: 2, term: term + 5, ..Message::default() };
    newer.set_msg_type(MessageType::MsgHeartbeat);
    node.raft.step(newer).unwrap();
    node.on_ready();
    assert_eq!(log.take(), [Seen::Follow(term + 5)]);

    // Elected again: it is a new term, told after its own entry.
    node.raft.campaign().unwrap();
    node.on_ready();
    let seen = log.take();
    assert!(
        matches!(seen[..], [Seen::Apply { indexes: (6, 6), .. }, Seen::Lead(again)] if again == term + 6),
        "{seen:?}"
    );
}

#[test]
fn a_new_term_without_a_new_soft_state_is_a_new_leadership() {
    let log = Log::default();
    let mut node = node(&log);
    node.raft.campaign().unwrap();
    node.on_ready();
    log.take();
    // Deposed and elected again before the next Ready: the soft state is what it was.
    let term = node.raft.raft.term;
    let mut newer = Message { to: 1, from: 2, term: term + 1, ..Message::default() };
    newer.set_msg_type(MessageType::MsgHeartbeat);
    node.raft.step(newer).unwrap();
    node.raft.campaign().unwrap();
    node.on_ready();
    let seen = log.take();
    assert!(matches!(seen[..], [Seen::Apply { .. }, Seen::Lead(again)] if again == term + 2), "{seen:?}");
}
