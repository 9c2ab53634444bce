//! Records on their way to the sink: bounded batches that hold their memory permit.

use bytes::{Bytes, BytesMut};
use logtide_model::message::{ScanEntry, ScanEvent};
use logtide_model::{Cf, MemoryBudget, Op, Permit, Ts};

/// Small keys and values share allocations of this size.
const CHUNK: usize = 64 << 10;
/// From this size on, a record has an allocation of its own.
const LARGE: usize = 8 << 10;
/// Memory is accounted for in steps of so many bytes: a budget is shared by threads, and asking it costs.
const STEP: usize = 8 << 10;

/// What is gathered into batches.
pub(crate) trait Item: Sized {
    /// The event that carries a batch.
    fn event(items: Vec<Self>, permit: Permit) -> ScanEvent;
}

impl Item for (Bytes, Ts) {
    fn event(locks: Vec<Self>, permit: Permit) -> ScanEvent {
        ScanEvent::Locks { locks, permit }
    }
}

impl Item for ScanEntry {
    fn event(entries: Vec<Self>, permit: Permit) -> ScanEvent {
        ScanEvent::Data { entries, permit }
    }
}

/// The batch that is being filled.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    items: Vec<T>,
    /// Covers `used`, and a little in advance.
    permit: Option<Permit>,
    used: usize,
    /// Items of the batch before.
    before: usize,
}

impl<T: Item> Batch<T> {
    pub(crate) fn new() -> Self {
        Batch { items: Vec::new(), permit: None, used: 0, before: 0 }
    }

    /// True if an item of `bytes` fits in a batch of `limit`; an empty batch takes any.
    pub(crate) fn takes(&self, bytes: usize, limit: usize) -> bool {
        self.used == 0 || self.used + bytes <= limit
    }

    /// Accounts for an item of `bytes`, and for what may come next within `limit`; false if there is no room now.
    pub(crate) fn account(&mut self, memory: &MemoryBudget, bytes: usize, limit: usize) -> bool {
        let held = self.permit.as_ref().map_or(0, Permit::bytes);
        let missing = (self.used + bytes).saturating_sub(held);
        if missing == 0 {
            return true;
        }
        let ahead = STEP.min(limit.saturating_sub(held)).max(missing);
        let Some(more) = memory.try_acquire(ahead).or_else(|| acquire(memory, missing)) else { return false };
        match &mut self.permit {
            Some(all) => all.merge(more),
            none => *none = Some(more),
        }
        true
    }

    /// Adds an item of `bytes` that is accounted for.
    pub(crate) fn push(&mut self, item: T, bytes: usize) {
        if self.items.is_empty() {
            self.items.reserve_exact(self.before);
        }
        self.items.push(item);
        self.used += bytes;
    }

    /// The event that carries what is in it, unless it is empty.
    pub(crate) fn take(&mut self) -> Option<ScanEvent> {
        self.used = 0;
        self.before = self.items.len();
        let permit = self.permit.take()?;
        let items = std::mem::take(&mut self.items);
        (!items.is_empty()).then(|| T::event(items, permit))
    }
}

/// Accounts for `bytes`; `None` if there is no room now.
///
/// Half of the budget is enough for a record that is larger than that: it could wait forever otherwise. So could scans
/// whose memory is a part of a whole that others use up: when scans have none at all, they may have this.
fn acquire(memory: &MemoryBudget, bytes: usize) -> Option<Permit> {
    let asked = bytes.min(memory.limit() / 2);
    let first = || (memory.used() == 0).then(|| memory.force_acquire(asked));
    let mut permit = memory.try_acquire(asked).or_else(first)?;
    if bytes > asked {
        permit.merge(memory.force_acquire(bytes - asked));
    }
    Some(permit)
}

/// Copies keys and values out of an iterator with few allocations.
#[derive(Debug, Default)]
pub(crate) struct Arena(BytesMut);

impl Arena {
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Bytes {
        self.make_room(bytes.len());
        self.0.extend_from_slice(bytes);
        self.0.split().freeze()
    }

    pub(crate) fn entry(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> ScanEntry {
        self.make_room(key.len() + value.len());
        self.0.extend_from_slice(key);
        self.0.extend_from_slice(value);
        let mut value = self.0.split().freeze();
        ScanEntry { cf, key: value.split_to(key.len()), value }
    }

    /// A copy that keeps nothing else alive: a change is a slice of a whole raft entry.
    pub(crate) fn op(&mut self, op: &Op) -> Op {
        match op {
            Op::Put { cf, key, value } => {
                let ScanEntry { cf, key, value } = self.entry(*cf, key, value);
                Op::Put { cf, key, value }
            }
            Op::Delete { cf, key } => Op::Delete { cf: *cf, key: self.copy(key) },
            Op::DeleteRange { cf, start, end } => {
                Op::DeleteRange { cf: *cf, start: self.copy(start), end: self.copy(end) }
            }
            Op::IngestSst { .. } | Op::Admin => op.clone(),
        }
    }

    /// A chunk is as large as it is needed for, so that what is left of the last one is all that is wasted.
    fn make_room(&mut self, bytes: usize) {
        if self.0.capacity() < bytes {
            self.0 = BytesMut::with_capacity(if bytes >= LARGE { bytes } else { CHUNK });
        }
    }
}
