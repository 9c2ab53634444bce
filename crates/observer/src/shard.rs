//! What the observer keeps for each shard: the queue's sending end, the map of its regions, counters.

use std::sync::atomic::{AtomicU64, AtomicUsize};

use crossbeam_channel::{Receiver, Sender};
use logtide_model::Op;
use logtide_model::message::ShardMessage;
use parking_lot::RwLock;

use crate::filter::RegionHash;
use crate::observations::Bucket;

/// Buckets of a shard's map; a power of two. Apply threads meet on a lock word only if their regions share a bucket.
const BUCKETS: usize = 64;

/// What belongs to one shard; nothing in it is shared with another one.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Shard {
    queue: Sender<ShardMessage>,
    pub(crate) buckets: Box<[PaddedBucket]>,
    pub(crate) observed: AtomicUsize,
    pub(crate) dropped_batches: AtomicU64,
    pub(crate) skipped_ops: AtomicU64,
}

/// Two cache lines (adjacent-line prefetch), so that neighbours' lock words do not share one.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct PaddedBucket(pub(crate) RwLock<Bucket>);

impl Shard {
    pub(crate) fn new() -> (Self, Receiver<ShardMessage>) {
        let (queue, receiver) = crossbeam_channel::unbounded();
        let buckets = (0..BUCKETS).map(|_| PaddedBucket::default()).collect();
        let (observed, dropped_batches, skipped_ops) = Default::default();
        (Shard { queue, buckets, observed, dropped_batches, skipped_ops }, receiver)
    }

    pub(crate) fn bucket(&self, hash: RegionHash) -> &RwLock<Bucket> {
        &self.buckets[hash.middle(BUCKETS)].0
    }

    pub(crate) fn send(&self, message: ShardMessage) -> bool {
        self.queue.send(message).is_ok()
    }
}

pub(crate) struct Size {
    pub(crate) bytes: usize,
    /// Changes past MVCC.
    pub(crate) past_mvcc: u64,
}

/// What the ops will hold in memory.
pub(crate) fn measure(ops: &[Op]) -> Size {
    let mut size = Size { bytes: size_of_val(ops), past_mvcc: 0 };
    for op in ops {
        size.bytes += match op {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete { key, .. } => key.len(),
            Op::DeleteRange { start, end, .. } => {
                size.past_mvcc += 1;
                start.len() + end.len()
            }
            Op::IngestSst { path, .. } => {
                size.past_mvcc += 1;
                path.len()
            }
            Op::Admin => 0,
        };
    }
    size
}
