//! A cluster without raft: one store behind several regions, with faults.

use std::sync::Arc;

use bytes::Bytes;
use logtide_model::mvcc::Lock;
use logtide_model::{KeyRange, Region, RegionEpoch, StoreId, Ts, encode_raw_key};
use parking_lot::Mutex;

use crate::client::{Client, Retry};
use crate::rpc::{Command, KvRequest, KvResponse, KvRpc, RegionError};
use crate::txn::tests::store::Store;

/// What happens to a call.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The store refuses it.
    Busy,
    /// Another store leads by now.
    Moved,
    /// The region is split at this raw key before the call arrives.
    Split(Vec<u8>),
    /// The command is applied and its answer lost.
    AnswerLost,
    /// The command is proposed and lost.
    ProposalLost,
}

pub(crate) type Faults = Box<dyn FnMut(&Command) -> Option<Fault> + Send>;

struct State {
    store: Store,
    /// Ascending, each with the store that leads it.
    regions: Vec<(Region, StoreId)>,
    next_id: u64,
    clock: (u64, u64),
    faults: Faults,
    /// Every command that arrived.
    log: Vec<Command>,
}

#[derive(Clone)]
pub(crate) struct Cluster(Arc<Mutex<State>>);

impl Cluster {
    pub(crate) fn new(splits: &[&str]) -> Self {
        let region = Region { id: 1, epoch: RegionEpoch { conf_ver: 1, version: 1 }, range: KeyRange::ALL };
        let state = State {
            store: Store::new(),
            regions: vec![(region, 1)],
            next_id: 2,
            clock: (1000, 0),
            faults: Box::new(|_| None),
            log: Vec::new(),
        };
        let cluster = Cluster(Arc::new(Mutex::new(state)));
        for at in splits {
            cluster.0.lock().split(at.as_bytes());
        }
        cluster
    }

    /// A client that retries so often.
    pub(crate) fn client(&self, attempts: u32) -> Client {
        Client::with_retry(Arc::new(self.clone()), Arc::new(move |retry: &Retry<'_>| retry.attempts <= attempts))
    }

    pub(crate) fn set_faults(&self, faults: impl FnMut(&Command) -> Option<Fault> + Send + 'static) {
        self.0.lock().faults = Box::new(faults);
    }

    /// Lets so many milliseconds pass.
    pub(crate) fn advance(&self, ms: u64) {
        let mut state = self.0.lock();
        state.clock.0 += ms;
    }

    /// The commands that arrived since the last call.
    pub(crate) fn take_log(&self) -> Vec<Command> {
        std::mem::take(&mut self.0.lock().log)
    }

    /// How many locks there are.
    pub(crate) fn locks(&self) -> usize {
        self.0.lock().store.data.cf(logtide_model::Cf::Lock).len()
    }

    /// How many of them a reader has to resolve. (Pessimistic locks of the dead stay until a writer meets them.)
    pub(crate) fn data_locks(&self) -> usize {
        let state = self.0.lock();
        let locks = state.store.data.cf(logtide_model::Cf::Lock).values();
        locks.filter(|bytes| Lock::parse(bytes).unwrap().holds_resolved_ts()).count()
    }

    /// All pairs at a fresh ts, read by a client that is not disturbed (but has to find the leaders).
    pub(crate) fn pairs(&self) -> Vec<(Vec<u8>, Bytes)> {
        self.set_faults(|_| None);
        let client = self.client(2);
        client.snapshot(client.timestamp().unwrap()).scan(b"", b"", usize::MAX).unwrap()
    }
}

impl State {
    fn index(&self, raw_key: &[u8]) -> usize {
        let key = encode_raw_key(raw_key);
        self.regions.iter().position(|(region, _)| region.range.contains(&key)).unwrap()
    }

    fn split(&mut self, at: &[u8]) {
        let n = self.index(at);
        let key = Bytes::from(encode_raw_key(at));
        let (parent, leader) = &mut self.regions[n];
        if parent.range.start == key {
            return;
        }
        parent.epoch.version += 1;
        let right = KeyRange::new(key.clone(), parent.range.end.clone());
        parent.range.end = key;
        let child = Region { id: self.next_id, epoch: parent.epoch, range: right };
        let leader = *leader;
        self.regions.insert(n + 1, (child, leader));
        self.next_id += 1;
    }

    fn arrive(&mut self, store: StoreId, request: &KvRequest) -> Result<KvResponse, RegionError> {
        let Some((region, leader)) = self.regions.iter().find(|(r, _)| r.id == request.region_id).cloned() else {
            return Err(RegionError::RegionNotFound(request.region_id));
        };
        if leader != store {
            return Err(RegionError::NotLeader { region_id: region.id, leader: Some(leader) });
        }
        if region.epoch.version != request.epoch.version {
            return Err(RegionError::EpochNotMatch { current: vec![region] });
        }
        request.command.check_range(&region)?;
        self.log.push(request.command.clone());
        self.store.data = self.store.data.in_region(region);
        Ok(self.store.run(request.command.clone()))
    }
}

impl KvRpc for Cluster {
    fn call(&self, store: StoreId, request: KvRequest) -> Result<KvResponse, RegionError> {
        let mut state = self.0.lock();
        let fault = (state.faults)(&request.command);
        match &fault {
            Some(Fault::Busy) => return Err(RegionError::Busy("too much to do".into())),
            Some(Fault::ProposalLost) => return Err(RegionError::Undetermined("the proposal was lost".into())),
            Some(Fault::Split(at)) => state.split(at),
            Some(Fault::Moved) => {
                let leaders = state.regions.iter_mut().filter(|(r, _)| r.id == request.region_id);
                leaders.for_each(|(_, leader)| *leader = *leader % 3 + 1);
            }
            Some(Fault::AnswerLost) | None => {}
        }
        let answer = state.arrive(store, &request);
        match fault {
            Some(Fault::AnswerLost) if answer.is_ok() => Err(RegionError::Undetermined("the answer was lost".into())),
            _ => answer,
        }
    }

    fn locate(&self, raw_key: &[u8]) -> (Region, StoreId) {
        let state = self.0.lock();
        // The directory does not learn of new leaders: stores have to tell.
        (state.regions[state.index(raw_key)].0.clone(), 1)
    }

    fn tso(&self) -> Result<Ts, RegionError> {
        let mut state = self.0.lock();
        state.clock.1 += 1;
        Ok(Ts::compose(state.clock.0, state.clock.1))
    }
}
