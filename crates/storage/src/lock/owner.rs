//! Whose a lock is, by the UUID in it.

use logtide_format::{parse_uuid, uuid_of};
use serde::Deserialize;

/// Begins the 122 bits of our UUIDs here: "logt".
const MAGIC: u128 = 0x6c6f_6774;

/// Who holds a lock of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockOwner {
    /// The store, or zero for a command.
    pub store_id: u64,
    /// Its boot epoch; for a command anything that differs.
    pub boot: u64,
}

impl LockOwner {
    /// 40 bits of the store and 50 of the boot.
    pub(super) fn txn_id(&self) -> String {
        let low = |n: u64, bits: u32| u128::from(n & ((1 << bits) - 1));
        uuid_of(MAGIC << 90 | low(self.store_id, 40) << 50 | low(self.boot, 50))
    }

    /// Whose a lock is, by its UUID; `None` for a lock of others.
    pub(super) fn parse(uuid: &str) -> Option<LockOwner> {
        let free = parse_uuid(uuid)??;
        let owner = LockOwner { store_id: (free >> 50) as u64 & ((1 << 40) - 1), boot: free as u64 & ((1 << 50) - 1) };
        (free >> 90 == MAGIC).then_some(owner)
    }

    /// True for a lock, as [`LockOwner::parse`] reads it, of an earlier process of `now`, or of an earlier task of this one.
    /// Commands have no order.
    pub(super) fn is_former(&self, now: &LockOwner) -> bool {
        let now = LockOwner::parse(&now.txn_id());
        now.is_some_and(|now| now.store_id != 0 && self.store_id == now.store_id && self.boot <= now.boot)
    }
}

/// What stands in a lock.
#[derive(Deserialize)]
struct Content {
    txn_id: String,
}

/// The UUID in a lock.
pub(super) fn holder(content: &[u8]) -> Option<String> {
    serde_json::from_slice::<Content>(content).ok().map(|content| content.txn_id)
}

/// Whose an object of a lock is: `None` for those of others.
pub(super) fn owner_of(object: &str, content: &[u8]) -> Option<LockOwner> {
    match object.split_once(".INTENT.") {
        Some((_, uuid)) => LockOwner::parse(uuid),
        None => LockOwner::parse(&holder(content)?),
    }
}
