//! Records on their way to the sink: bounded batches that hold their memory permit.

use bytes::{Bytes, BytesMut};
use logtide_model::message::{ScanEntry, ScanEvent};
use logtide_model::{Cf, MemoryBudget, Permit, Ts};

/// Small keys and values share allocations of this size.
const CHUNK: usize = 64 << 10;
/// From this size on, a value has an allocation of its own.
const LARGE: usize = 8 << 10;

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
    permit: Option<Permit>,
}

impl<T: Item> Batch<T> {
    pub(crate) fn new() -> Self {
        Batch { items: Vec::new(), permit: None }
    }

    /// Bytes of what is in it.
    pub(crate) fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, Permit::bytes)
    }

    /// Adds an item that `permit` accounts for.
    pub(crate) fn push(&mut self, item: T, permit: Permit) {
        self.items.push(item);
        match &mut self.permit {
            Some(all) => all.merge(permit),
            none => *none = Some(permit),
        }
    }

    /// The event that carries what is in it, unless it is empty.
    pub(crate) fn take(&mut self) -> Option<ScanEvent> {
        let permit = self.permit.take()?;
        Some(T::event(std::mem::take(&mut self.items), permit))
    }
}

/// Accounts for `bytes`; `None` if there is no room now.
///
/// Half of the budget is enough for a record that is larger than that: it could wait forever otherwise.
pub(crate) fn acquire(memory: &MemoryBudget, bytes: usize) -> Option<Permit> {
    let asked = bytes.min(memory.limit() / 2);
    let mut permit = memory.try_acquire(asked)?;
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
        if bytes.len() >= LARGE {
            return Bytes::copy_from_slice(bytes);
        }
        if self.0.capacity() < bytes.len() {
            self.0 = BytesMut::with_capacity(CHUNK);
        }
        self.0.extend_from_slice(bytes);
        self.0.split().freeze()
    }

    pub(crate) fn entry(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> ScanEntry {
        ScanEntry { cf, key: self.copy(key), value: self.copy(value) }
    }
}
