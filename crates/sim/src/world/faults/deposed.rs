//! Leaders that are deposed and do not hear of it, while clients write to their successors.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use logtide_mock_raftstore::transport::MessageType;
use logtide_model::{Region, StoreId, encode_raw_key};

use super::Deaf;
use crate::workload;
use crate::world::World;

/// A leader that has a successor and does not hear of it.
pub(crate) struct Deposed {
    region: Region,
    leader: StoreId,
    /// False once it hears again.
    deaf: Arc<AtomicBool>,
    /// In ticks, once there is a successor to write to.
    flush_at: Option<u64>,
    /// In ticks.
    until: u64,
}

impl World {
    /// Goes on until the leader has said so to its successor; from then on it hears nothing of the region.
    pub(super) fn depose(&mut self, region: u8, to: u8) {
        let Some(region) = self.region(region) else { return };
        let (_, leader) = self.cluster.pd().locate(&region.range.start);
        let successor = if self.store(to) == leader { self.store(to.wrapping_add(1)) } else { self.store(to) };
        let _ = self.cluster.transfer_leader(region.id, successor);
        let Some(steps) = self.cluster.steps() else { return };
        let is_said =
            || steps.flying().iter().any(|m| m.region_id == region.id && m.kind == MessageType::MsgTimeoutNow);
        for _ in 0..6 {
            steps.step(leader);
            if is_said() {
                break;
            }
            steps.deliver_all();
            self.cluster.stores().into_iter().filter(|store| *store != leader).for_each(|store| {
                steps.step(store);
            });
        }
        let deaf = Arc::new(AtomicBool::new(true));
        self.cluster.network().add_filter(Box::new(Deaf(leader, Some(region.id), deaf.clone())));
        // Its clients do not hear of the successor either, now and then.
        if to.is_multiple_of(4) {
            self.client.set_reach(Some(BTreeSet::from([leader])));
        }
        // What is written there is not read so soon.
        if !to.is_multiple_of(3) {
            self.host_faults.set_snapshots(0.9);
        }
        let until = self.ticks + 10 + u64::from(to / 8);
        self.deposed.push(Deposed { region, leader, deaf, flush_at: None, until });
    }

    /// Clients write to the successors of leaders that do not know of them, these flush in their belief, as all do, and hear of
    /// it after a while.
    pub(crate) fn tell_deposed(&mut self) {
        let now = self.ticks;
        let mut deposed = std::mem::take(&mut self.deposed);
        for Deposed { region, leader, flush_at, .. } in &mut deposed {
            let Some((region, successor)) = self.cluster.pd().region(region.id).filter(|(_, by)| by != leader) else {
                continue;
            };
            let flush_at = *flush_at.get_or_insert_with(|| {
                let is_there = |key: &[u8]| region.range.contains(&encode_raw_key(key));
                self.scripts.start(&self.client, workload::plan_in(now << 20 | region.id, is_there));
                now + 2 + now % 7
            });
            if now < flush_at {
                self.ingest_into(&region, successor, now << 20 | region.id);
            } else if now == flush_at {
                // The others do too: it is to be the fact of the deposed one that the checkpoint rests on.
                self.nodes.values_mut().for_each(|node| drop(node.stepped.flush(&self.task.name)));
            }
        }
        for Deposed { deaf, .. } in deposed.extract_if(.., |deposed| deposed.until <= now) {
            deaf.store(false, Ordering::SeqCst);
            self.host_faults.set_snapshots(0.0);
            self.client.set_reach(None);
        }
        self.deposed = deposed;
    }
}
