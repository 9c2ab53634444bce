//! What goes past the usual ways of a transaction: files of records that are ingested, and ranges that are removed.

use bytes::Bytes;
use logtide_model::{Cf, HostError, KeyRange, KvSnapshot, Op, Ts};

use super::changes::Changes;
use super::prewrite::prewrite;
use super::reader::Fail;
use crate::concurrency::ConcurrencyManager;
use crate::engine::SortedRecords;
use crate::rpc::{KvResponse, LockInfo, Mutation, MutationKind, Prewrite};

/// Versions of keys as files: a 1PC whose records do not lie in the raft entry. So it conflicts as that does, and its
/// commit ts is above every read and every barrier until its guards are dropped.
pub(crate) fn ingest(
    pairs: &[(Vec<u8>, Bytes)],
    start_ts: Ts,
    min_commit_ts: Ts,
    snapshot: &dyn KvSnapshot,
    concurrency: &ConcurrencyManager,
) -> Result<(Changes, KvResponse), Fail> {
    let put = |(key, value): &(Vec<u8>, Bytes)| Mutation {
        key: key.clone(),
        kind: MutationKind::Put(value.clone()),
        pessimistic: false,
    };
    let request = Prewrite {
        mutations: pairs.iter().map(put).collect(),
        primary: pairs.first().map(|(key, _)| key.clone()).unwrap_or_default(),
        start_ts,
        txn_size: pairs.len() as u64,
        min_commit_ts,
        one_pc: true,
        ..Prewrite::default()
    };
    let (changes, response) = prewrite(&request, snapshot, concurrency)?;
    let KvResponse::Prewrite { one_pc_commit_ts: commit_ts, .. } = response else { return Ok((changes, response)) };
    let files = [Cf::Default, Cf::Write].into_iter().map(|cf| (cf, records(cf, &changes.ops)));
    let files = files.filter(|(_, records)| !records.is_empty()).collect();
    let changes = Changes { ops: Vec::new(), files, ..changes };
    Ok((changes, KvResponse::Commit { commit_ts }))
}

/// The records of a column family, ascending.
fn records(cf: Cf, ops: &[Op]) -> SortedRecords {
    let mut records: Vec<(Bytes, Bytes)> = Vec::new();
    for op in ops {
        if let Op::Put { cf: of, key, value } = op
            && *of == cf
        {
            records.push((key.clone(), value.clone()));
        }
    }
    records.sort_unstable();
    records.into()
}

/// Removes the part of a range that lies in the region, at a ts that is chosen as that of a 1PC is: no barrier reaches it
/// until the delete is applied and observed.
pub(crate) fn delete_range(
    cfs: &[Cf],
    start: &[u8],
    end: &[u8],
    snapshot: &dyn KvSnapshot,
    concurrency: &ConcurrencyManager,
    out: &mut Changes,
) -> Result<(), Fail> {
    if let Some(range) = snapshot.region().range.intersect(&KeyRange::from_raw(start, end)) {
        if !cfs.contains(&Cf::Lock) && snapshot.iter(Cf::Lock, &range)?.next()? {
            let why = "transactions are under way in the range that is to be removed";
            return Err(Fail::Host(HostError::Unavailable(why.to_owned())));
        }
        let guard = concurrency.register(in_flight(start), Ts::ZERO);
        // Locks are not what a backup would miss.
        out.range_deleted = cfs.iter().any(|cf| *cf != Cf::Lock).then_some(guard.min_commit_ts());
        out.guards.push(guard);
        let op = |cf: &Cf| Op::DeleteRange { cf: *cf, start: range.start.clone(), end: range.end.clone() };
        out.ops.extend(cfs.iter().map(op));
    }
    Ok(())
}

/// Stands for a range delete among the commits in flight. It blocks no reader; no user key has its name.
fn in_flight(start: &[u8]) -> LockInfo {
    let key = [b"\xff\xffrange delete ", start].concat();
    LockInfo {
        primary: key.clone(),
        key,
        start_ts: Ts::ZERO,
        ttl: 0,
        min_commit_ts: Ts::ZERO,
        async_commit: false,
        secondaries: Vec::new(),
        pessimistic: true,
    }
}
