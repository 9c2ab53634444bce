//! A store in memory, without raft: plans are applied when the test says so.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use logtide_model::{Cf, HostError, KeyRange, KvIter, KvSnapshot, Op, Region, RegionEpoch, Ts};

use crate::concurrency::ConcurrencyManager;
use crate::rpc::{Command, KvResponse, Mutation, MutationKind, Plan, Prewrite, TxnExecutor};
use crate::txn::Percolator;

type Map = Arc<BTreeMap<Vec<u8>, Bytes>>;

/// The column families of a store; cloning is a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    region: Region,
    default: Map,
    lock: Map,
    write: Map,
}

impl Data {
    pub(crate) fn cf(&self, cf: Cf) -> &BTreeMap<Vec<u8>, Bytes> {
        match cf {
            Cf::Default => &self.default,
            Cf::Lock => &self.lock,
            Cf::Write => &self.write,
        }
    }

    /// The part of it that lies in a region.
    pub(crate) fn in_region(&self, region: Region) -> Data {
        Data { region, ..self.clone() }
    }
}

impl KvSnapshot for Data {
    fn region(&self) -> &Region {
        &self.region
    }

    fn applied_index(&self) -> u64 {
        1
    }

    fn last_range_delete(&self) -> Option<Ts> {
        None
    }

    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, HostError> {
        Ok(self.cf(cf).get(key).cloned())
    }

    fn iter<'a>(&'a self, cf: Cf, range: &KeyRange) -> Result<Box<dyn KvIter + 'a>, HostError> {
        let range = range.intersect(&self.region.range);
        Ok(Box::new(Iter { map: self.cf(cf), range, at: None, begun: false }))
    }
}

struct Iter<'a> {
    map: &'a BTreeMap<Vec<u8>, Bytes>,
    range: Option<KeyRange>,
    at: Option<(&'a Vec<u8>, &'a Bytes)>,
    begun: bool,
}

impl<'a> Iter<'a> {
    fn to(&mut self, from: Bound<&[u8]>) -> bool {
        self.begun = true;
        let range = &self.range;
        let inside = |(key, _): &(&Vec<u8>, &Bytes)| range.as_ref().is_some_and(|r| r.contains(key));
        self.at = self.map.range::<[u8], _>((from, Bound::Unbounded)).next().filter(inside);
        self.at.is_some()
    }
}

impl KvIter for Iter<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<bool, HostError> {
        let start = self.range.as_ref().map(|r| r.start.clone()).unwrap_or_default();
        Ok(self.to(Bound::Included(key.max(&start))))
    }

    fn next(&mut self) -> Result<bool, HostError> {
        match self.at {
            Some((key, _)) => Ok(self.to(Bound::Excluded(key))),
            None => {
                assert!(!self.begun, "moved behind the end");
                self.seek(b"")
            }
        }
    }

    fn key(&self) -> &[u8] {
        self.at.unwrap().0
    }

    fn value(&self) -> &[u8] {
        self.at.unwrap().1
    }
}

/// A store with one region and its concurrency manager.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) data: Data,
    pub(crate) concurrency: ConcurrencyManager,
}

impl Store {
    pub(crate) fn new() -> Self {
        let region = Region { id: 1, epoch: RegionEpoch::default(), range: KeyRange::ALL };
        let data = Data { region, default: Map::default(), lock: Map::default(), write: Map::default() };
        Store { data, concurrency: ConcurrencyManager::default() }
    }

    /// What the store would do; the plan is to be applied, or dropped.
    pub(crate) fn plan(&self, command: &Command) -> Plan {
        if let Err(response) = Percolator.prepare(command, &self.concurrency) {
            return Plan { ops: Vec::new(), files: Vec::new(), response, range_deleted: None, guards: Vec::new() };
        }
        Percolator.execute(command, &self.data, &self.concurrency).unwrap()
    }

    pub(crate) fn apply(&mut self, plan: Plan) -> KvResponse {
        for op in &plan.ops {
            let (cf, key, value) = match op {
                Op::Put { cf, key, value } => (cf, key, Some(value)),
                Op::Delete { cf, key } => (cf, key, None),
                other => panic!("a transaction made {other:?}"),
            };
            let map = match cf {
                Cf::Default => &mut self.data.default,
                Cf::Lock => &mut self.data.lock,
                Cf::Write => &mut self.data.write,
            };
            match value {
                Some(value) => Arc::make_mut(map).insert(key.to_vec(), value.clone()),
                None => Arc::make_mut(map).remove(&key[..]),
            };
        }
        plan.response
    }

    pub(crate) fn run(&mut self, command: Command) -> KvResponse {
        let plan = self.plan(&command);
        self.apply(plan)
    }

    /// Prewrites and commits, without fail.
    pub(crate) fn put(&mut self, key: &str, value: &str, start_ts: u64, commit_ts: u64) {
        self.run(prewrite(key, &[(key, Some(value))], start_ts)).ok();
        self.run(commit(&[key], start_ts, commit_ts)).ok();
    }

    pub(crate) fn get(&mut self, key: &str, ts: u64) -> KvResponse {
        self.run(Command::Get { key: key.into(), ts: Ts::new(ts), bypass: Vec::new() })
    }
}

impl KvResponse {
    /// The response, which must not be an error.
    pub(crate) fn ok(self) -> KvResponse {
        assert!(!matches!(self, KvResponse::Errors(_)), "{self:?}");
        self
    }

    /// The only error.
    pub(crate) fn error(self) -> crate::rpc::KeyError {
        match self {
            KvResponse::Errors(mut errors) if errors.len() == 1 => errors.remove(0),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn request(primary: &str, writes: &[(&str, Option<&str>)], start_ts: u64) -> Prewrite {
    let mutation = |(key, value): &(&str, Option<&str>)| Mutation {
        key: (*key).into(),
        kind: value.map_or(MutationKind::Delete, |v| MutationKind::Put(Bytes::copy_from_slice(v.as_bytes()))),
        pessimistic: false,
    };
    Prewrite {
        mutations: writes.iter().map(mutation).collect(),
        primary: primary.into(),
        start_ts: Ts::new(start_ts),
        ttl: 1,
        txn_size: writes.len() as u64,
        ..Prewrite::default()
    }
}

pub(crate) fn prewrite(primary: &str, writes: &[(&str, Option<&str>)], start_ts: u64) -> Command {
    Command::Prewrite(request(primary, writes, start_ts))
}

pub(crate) fn keys(keys: &[&str]) -> Vec<Vec<u8>> {
    keys.iter().map(|key| key.as_bytes().to_vec()).collect()
}

pub(crate) fn commit(names: &[&str], start_ts: u64, commit_ts: u64) -> Command {
    Command::Commit { keys: keys(names), start_ts: Ts::new(start_ts), commit_ts: Ts::new(commit_ts) }
}

pub(crate) fn rollback(names: &[&str], start_ts: u64) -> Command {
    Command::Rollback { keys: keys(names), start_ts: Ts::new(start_ts) }
}

pub(crate) fn value(value: Option<&str>) -> KvResponse {
    KvResponse::Get { value: value.map(|v| Bytes::copy_from_slice(v.as_bytes())) }
}
