//! A store by itself, with one peer that is its own quorum.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use logtide_model::{Cf, KeyRange, Op, Region, RegionEpoch};
use parking_lot::RwLock;

use super::{
    Action, Done, PeerConfig, PeerMeta, Proposal, RaftTiming, RegionMeta, StoreCore, StoreMessage, StoreShared,
    bootstrap_region,
};
use crate::engine::{EngineCf, KvEngine, MemoryEngine, WriteBatch};
use crate::pd::{ManualClock, Pd};
use crate::rpc::RegionError;

fn store(engine: &MemoryEngine) -> StoreCore {
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
    let mut core = StoreCore::load(Arc::new(shared), PeerConfig { timing, log_keep: 1000 }, false).unwrap();
    core.handle(StoreMessage::Campaign(7));
    poll(&mut core);
    core
}

fn poll(core: &mut StoreCore) {
    while core.poll(&mut Vec::new()).unwrap() {}
}

fn bootstrapped() -> MemoryEngine {
    let engine = MemoryEngine::new();
    let region = Region { id: 7, epoch: RegionEpoch { conf_ver: 1, version: 1 }, range: KeyRange::ALL };
    let mut batch = WriteBatch::default();
    bootstrap_region(&mut batch, &RegionMeta { region, peers: vec![PeerMeta { id: 8, store_id: 1 }] });
    engine.write(&batch, false).unwrap();
    engine
}

fn propose(core: &mut StoreCore, key: &'static str, term: Option<u64>) -> Receiver<Result<Done, RegionError>> {
    let (tx, rx) = crossbeam_channel::bounded(1);
    core.handle(StoreMessage::Propose(Proposal {
        region_id: 7,
        epoch: RegionEpoch { conf_ver: 1, version: 1 },
        term,
        action: Action::Write(vec![Op::Put { cf: Cf::Default, key: key.into(), value: "v".into() }]),
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
