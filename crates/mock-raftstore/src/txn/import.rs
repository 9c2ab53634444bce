//! What goes past the usual ways of a transaction: files of records that are ingested, and ranges that are removed.

use bytes::Bytes;
use logtide_model::{Cf, KeyRange, KvSnapshot, Op, Ts};

use super::changes::Changes;
use super::prewrite::prewrite;
use super::reader::Fail;
use crate::concurrency::ConcurrencyManager;
use crate::engine::SortedRecords;
use crate::rpc::{KvResponse, Mutation, MutationKind, Prewrite};

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
    Ok((Changes { ops: Vec::new(), guards: changes.guards, files }, KvResponse::Commit { commit_ts }))
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

/// Removes the part of a range that lies in the region.
pub(crate) fn delete_range(cfs: &[Cf], start: &[u8], end: &[u8], snapshot: &dyn KvSnapshot, out: &mut Changes) {
    if let Some(range) = snapshot.region().range.intersect(&KeyRange::from_raw(start, end)) {
        let op = |cf: &Cf| Op::DeleteRange { cf: *cf, start: range.start.clone(), end: range.end.clone() };
        out.ops.extend(cfs.iter().map(op));
    }
}
