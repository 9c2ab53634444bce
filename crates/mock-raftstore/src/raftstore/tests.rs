//! A store by itself, with one peer that is its own quorum.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use logtide_model::{Cf, KeyRange, Op, Region, RegionEpoch};
use parking_lot::RwLock;
use raft::eraftpb::{Message, MessageType};

use super::command::SplitChild;
use super::records::{read_hard_state, read_region, read_tombstones};
use super::snapshot;
use super::{
    Action, Done, PeerConfig, PeerMeta, Proposal, RaftTiming, RegionMeta, StoreCore, StoreMessage, StoreShared,
    bootstrap_region,
};
use crate::engine::{EngineCf, KvEngine, MemoryEngine, WriteBatch};
use crate::pd::{ManualClock, Pd};
use crate::rpc::RegionError;
use crate::transport::Envelope;

fn store(engine: &MemoryEngine) -> StoreCore {
    let mut core = idle_store(engine);
    core.handle(StoreMessage::Campaign(7));
    poll(&mut core);
    core
}

fn idle_store(engine: &MemoryEngine) -> StoreCore {
    let shared = StoreShared {
        id: 1,
        engine: Arc::new(engine.clone()),
        pd: Pd::new(Arc::new(ManualClock::new(1))),
        concurrency: Default::default(),
        observers: RwLock::default(),
        peers: RwLock::default(),
        applied_bytes: Default::default(),
        applied_entries: Default::default(),
        snapshots: Default::default(),
    };
    let timing = RaftTiming { heartbeat: 2, election: 10, fixed: Some(0) };
    StoreCore::load(Arc::new(shared), PeerConfig { timing, log_keep: 1000 }, false).unwrap()
}

fn poll(core: &mut StoreCore) {
    while core.poll(&mut Vec::new()).unwrap() {}
}

fn region() -> Region {
    Region { id: 7, epoch: RegionEpoch { conf_ver: 1, version: 1 }, range: KeyRange::ALL }
}

fn bootstrapped() -> MemoryEngine {
    let engine = MemoryEngine::new();
    let mut batch = WriteBatch::default();
    bootstrap_region(
        &mut batch,
        &RegionMeta { region: region(), peers: vec![PeerMeta { id: 8, store_id: 1 }], range_deleted: None },
    );
    engine.write(&batch, false).unwrap();
    engine
}

fn propose(core: &mut StoreCore, key: &'static str, term: Option<u64>) -> Receiver<Result<Done, RegionError>> {
    let (tx, rx) = crossbeam_channel::bounded(1);
    core.handle(StoreMessage::Propose(Proposal {
        region_id: 7,
        epoch: RegionEpoch { conf_ver: 1, version: 1 },
        term,
        action: Action::Write(vec![Op::Put { cf: Cf::Default, key: key.into(), value: "v".into() }], None),
        reply: Box::new(move |outcome| drop(tx.send(outcome))),
    }));
    rx
}

/// A command is computed from what the leader of a term sees: in another term something may have come in between.
#[test]
fn a_proposal_of_another_term_is_refused() {
    let engine = bootstrapped();
    let mut core = store(&engine);
    // The first leader is that of the term after the bootstrapped one.
    let (old, now) = (propose(&mut core, "old", Some(5)), propose(&mut core, "now", Some(6)));
    poll(&mut core);
    assert!(matches!(old.try_recv(), Ok(Err(RegionError::NotLeader { .. }))));
    assert!(matches!(now.try_recv(), Ok(Ok(_))));
    assert!(engine.get(EngineCf::Default, b"zold").unwrap().is_none());
    assert!(engine.get(EngineCf::Default, b"znow").unwrap().is_some());
}

#[test]
fn what_was_applied_is_not_applied_again_after_a_restart() {
    let engine = bootstrapped();
    let mut core = store(&engine);
    let done = propose(&mut core, "a", None);
    poll(&mut core);
    assert!(matches!(done.try_recv(), Ok(Ok(_))));
    drop(core);
    let mut batch = WriteBatch::default();
    batch.delete(EngineCf::Default, "za");
    engine.write(&batch, false).unwrap();
    let mut core = store(&engine);
    assert!(matches!(propose(&mut core, "b", Some(6)).try_recv(), Ok(Err(_))), "a leader of term 7");
    let done = propose(&mut core, "b", Some(7));
    poll(&mut core);
    assert!(matches!(done.try_recv(), Ok(Ok(_))));
    assert!(engine.get(EngineCf::Default, b"za").unwrap().is_none());
}

/// A message of the region's peer on store 2 to the one here.
fn message(region_id: u64, version: u64, range: KeyRange, to: u64, message: Message) -> StoreMessage {
    let region = Region { id: region_id, epoch: RegionEpoch { conf_ver: 1, version }, range };
    let message = Box::new(Message { to, from: 99, ..message });
    StoreMessage::Raft(Envelope { from: 2, to: 1, region_id, region: Some(region), message })
}

fn vote_request(term: u64) -> Message {
    Message { term, index: 9, log_term: 6, ..kind(MessageType::MsgRequestVote) }
}

fn kind(kind: MessageType) -> Message {
    Message { msg_type: kind as i32, ..Message::default() }
}

/// A snapshot of a region with peers on stores 1 and 2.
fn snapshot_of(region: Region, peer_here: u64) -> Message {
    let sender = MemoryEngine::new();
    let peers = vec![PeerMeta { id: peer_here, store_id: 1 }, PeerMeta { id: 99, store_id: 2 }];
    let (mut batch, id) = (WriteBatch::default(), region.id);
    bootstrap_region(&mut batch, &RegionMeta { region, peers, range_deleted: None });
    batch.put(EngineCf::Default, "zx", "sent");
    sender.write(&batch, false).unwrap();
    let snapshot = snapshot::take(&*sender.snapshot(), id).unwrap();
    Message { term: 9, snapshot: Some(snapshot), ..kind(MessageType::MsgSnapshot) }
}

/// Two peers of a store never own one key: whoever comes later waits.
#[test]
fn a_snapshot_waits_for_room() {
    let engine = bootstrapped();
    let mut core = store(&engine);
    let range = KeyRange::new("m", "");
    let region = Region { id: 20, epoch: RegionEpoch { conf_ver: 1, version: 1 }, range: range.clone() };
    core.handle(message(20, 1, range.clone(), 21, kind(MessageType::MsgHeartbeat)));
    core.handle(message(20, 1, range.clone(), 21, snapshot_of(region.clone(), 21)));
    poll(&mut core);
    assert!(read_region(&*engine.snapshot(), 20).unwrap().is_none(), "region 7 owns these keys");
    let split = SplitChild { region_id: 30, start: "m".into(), peer_ids: vec![31] };
    core.handle(StoreMessage::Propose(Proposal {
        region_id: 7,
        epoch: RegionEpoch { conf_ver: 1, version: 1 },
        term: None,
        action: Action::Split(vec![split]),
        reply: Box::new(|outcome| assert!(outcome.is_ok())),
    }));
    poll(&mut core);
    core.handle(message(20, 1, range, 21, snapshot_of(region, 21)));
    poll(&mut core);
    assert!(read_region(&*engine.snapshot(), 20).unwrap().is_none(), "now region 30 owns them");
    let free = Region { id: 40, epoch: RegionEpoch { conf_ver: 1, version: 1 }, range: KeyRange::new("\0", "\0\0") };
    let empty = MemoryEngine::new();
    let mut core = idle_store(&empty);
    for region in [free.clone(), Region { id: 41, ..free.clone() }] {
        let (id, range) = (region.id, region.range.clone());
        core.handle(message(id, 1, range, 21, snapshot_of(region, 21)));
    }
    poll(&mut core);
    assert!(read_region(&*empty.snapshot(), 40).unwrap().is_some());
    assert!(read_region(&*empty.snapshot(), 41).unwrap().is_none(), "region 40 was on its way");
}

/// It may have decided an election: another vote in that term could make a second leader.
#[test]
fn the_child_of_a_split_stands_by_the_vote_that_it_gave_before() {
    let engine = bootstrapped();
    let mut core = store(&engine);
    core.handle(message(30, 1, KeyRange::new("m", ""), 31, vote_request(8)));
    poll(&mut core);
    let split = SplitChild { region_id: 30, start: "m".into(), peer_ids: vec![31] };
    core.handle(StoreMessage::Propose(Proposal {
        region_id: 7,
        epoch: RegionEpoch { conf_ver: 1, version: 1 },
        term: None,
        action: Action::Split(vec![split]),
        reply: Box::new(|outcome| assert!(outcome.is_ok())),
    }));
    while read_region(&*engine.snapshot(), 30).unwrap().is_none() {
        core.poll(&mut Vec::new()).unwrap();
    }
    let hard = read_hard_state(&engine, 30).unwrap().unwrap();
    assert_eq!((hard.term, hard.vote), (8, 99));
}

#[test]
fn a_message_for_its_successor_ends_a_peer_for_good() {
    let engine = bootstrapped();
    let mut core = store(&engine);
    let done = propose(&mut core, "a", None);
    poll(&mut core);
    assert!(matches!(done.try_recv(), Ok(Ok(_))));
    core.handle(message(7, 1, KeyRange::ALL, 9, vote_request(8)));
    poll(&mut core);
    assert!(engine.get(EngineCf::Default, b"za").unwrap().is_none());
    assert_eq!(read_tombstones(&engine).unwrap(), [(7, 8)].into());
    assert_eq!(read_hard_state(&engine, 7).unwrap().map(|hard| hard.term), Some(8), "the successor has voted");
    let mut core = idle_store(&engine);
    core.handle(message(7, 1, KeyRange::ALL, 8, snapshot_of(region(), 8)));
    poll(&mut core);
    assert!(read_region(&*engine.snapshot(), 7).unwrap().is_none(), "nothing calls it back");
    core.handle(message(7, 1, KeyRange::ALL, 9, snapshot_of(region(), 9)));
    poll(&mut core);
    assert_eq!(engine.get(EngineCf::Default, b"zx").unwrap().as_deref(), Some(&b"sent"[..]));
}
