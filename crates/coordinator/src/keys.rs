//! The keys: TiDB's for what its tools read and write, ours for the rest.
//!
//! TiDB's, from its `br/pkg/streamhelper/models.go`: ids in decimal, no separator behind a name where only one key
//! can follow. Ours: ids in 16 hexadecimal digits, so that keys sort as the numbers do; everything about one life of
//! a task is under one prefix, which ends with it.

use bytes::Bytes;
use logtide_model::{Incarnation, StoreId, Task, TaskName};

const TIDB: &str = "/tidb/br-stream";
const OURS: &str = "/logtide/v1";

/// All that TiDB's tools know.
pub(crate) const TIDB_PREFIX: &str = "/tidb/br-stream/";
/// All tasks.
pub(crate) const INFO_PREFIX: &str = "/tidb/br-stream/info/";
/// All pauses.
pub(crate) const PAUSE_PREFIX: &str = "/tidb/br-stream/pause/";
/// Who holds GC for which life of which task.
pub(crate) const GC_PREFIX: &str = "/logtide/v1/gc/";
/// Who the advancer is.
pub(crate) const ADVANCER: &str = "/logtide/v1/advancer";

/// All storage nodes.
pub(crate) const NODE_PREFIX: &str = "/logtide/v1/node/";

/// A storage node: JSON.
pub(crate) fn node(store: StoreId) -> Bytes {
    format!("{NODE_PREFIX}{store:016x}").into()
}

/// `StreamBackupTaskInfo`.
pub(crate) fn info(task: &TaskName) -> Bytes {
    format!("{INFO_PREFIX}{task}").into()
}

/// Behind it comes a raw start key; the value is a raw end key.
pub(crate) fn ranges(task: &TaskName) -> Bytes {
    format!("{TIDB}/ranges/{task}/").into()
}

/// One range.
pub(crate) fn range(task: &TaskName, raw_start: &[u8]) -> Bytes {
    [&ranges(task)[..], raw_start].concat().into()
}

/// Nothing, or JSON.
pub(crate) fn pause(task: &TaskName) -> Bytes {
    format!("{PAUSE_PREFIX}{task}").into()
}

/// Behind it comes a store id.
pub(crate) fn last_errors(task: &TaskName) -> Bytes {
    format!("{TIDB}/last-error/{task}/").into()
}

/// `StreamBackupError`.
pub(crate) fn last_error(task: &TaskName, store: StoreId) -> Bytes {
    format!("{TIDB}/last-error/{task}/{store}").into()
}

/// Checkpoints of all kinds.
pub(crate) fn checkpoints(task: &TaskName) -> Bytes {
    format!("{TIDB}/checkpoint/{task}/").into()
}

/// The global checkpoint: u64, big endian.
pub(crate) fn central_global(task: &TaskName) -> Bytes {
    format!("{TIDB}/checkpoint/{task}/central_global").into()
}

/// Behind it comes a store id.
pub(crate) fn storage_checkpoints(task: &TaskName) -> Bytes {
    format!("{TIDB}/storage-checkpoint/{task}/").into()
}

/// The checkpoint that a store has put into the storage: u64, big endian.
pub(crate) fn storage_checkpoint(task: &TaskName, store: StoreId) -> Bytes {
    format!("{TIDB}/storage-checkpoint/{task}/{store}").into()
}

/// The newest boot epoch of a store: u64, big endian.
pub(crate) fn boot(store: StoreId) -> Bytes {
    format!("{OURS}/boot/{store:016x}").into()
}

/// All of ours about a task, whatever its incarnation.
pub(crate) fn ours(task: &TaskName) -> Bytes {
    format!("{OURS}/task/{task}/").into()
}

/// All of ours about one life of a task.
fn life(task: &Task) -> String {
    format!("{OURS}/task/{}/{:016x}", task.name, task.incarnation.0)
}

/// Publications, not folded yet.
pub(crate) fn facts(task: &Task) -> Bytes {
    format!("{}/fact/", life(task)).into()
}

/// A chunk of a publication.
pub(crate) fn fact(
    task: &TaskName,
    incarnation: Incarnation,
    store: StoreId,
    boot: u64,
    generation: u64,
    chunk: usize,
) -> Bytes {
    format!("{OURS}/task/{task}/{:016x}/fact/{store:016x}/{boot:016x}/{generation:016x}/{chunk:08x}", incarnation.0)
        .into()
}

/// The cover, in chunks.
pub(crate) fn covers(task: &Task) -> Bytes {
    format!("{}/cover/", life(task)).into()
}

/// A chunk of an edition of the cover.
pub(crate) fn cover(task: &Task, edition: u64, chunk: usize) -> Bytes {
    format!("{}/cover/{edition:016x}/{chunk:08x}", life(task)).into()
}

/// What holds the global checkpoint back: JSON.
pub(crate) fn holder(task: &Task) -> Bytes {
    format!("{}/holder", life(task)).into()
}

/// Behind it comes a store id.
pub(crate) fn statuses(task: &Task) -> Bytes {
    format!("{}/status/", life(task)).into()
}

/// How a store fares with a task: JSON.
pub(crate) fn status(task: &Task, store: StoreId) -> Bytes {
    format!("{}/status/{store:016x}", life(task)).into()
}

/// That somebody wants a flush.
pub(crate) fn flush_request(task: &Task) -> Bytes {
    format!("{}/flush-request", life(task)).into()
}

/// Behind it comes a store id.
pub(crate) fn flush_answers(task: &Task) -> Bytes {
    format!("{}/flush-answer/", life(task)).into()
}

/// What a store answered: JSON.
pub(crate) fn flush_answer(task: &Task, store: StoreId) -> Bytes {
    format!("{}/flush-answer/{store:016x}", life(task)).into()
}

/// That GC is held for one life of a task.
pub(crate) fn gc_hold(task: &Task) -> Bytes {
    format!("{GC_PREFIX}{}/{:016x}", task.name, task.incarnation.0).into()
}

/// The hexadecimal number in the last part of a key.
pub(crate) fn last_hex(key: &[u8]) -> Option<u64> {
    u64::from_str_radix(last_part(key)?, 16).ok()
}

/// The last part of a key.
pub(crate) fn last_part(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok()?.rsplit('/').next()
}
