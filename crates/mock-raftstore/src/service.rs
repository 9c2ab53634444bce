//! What a store does with a client's command: the steps described in [`crate::rpc`].
//!
//! Owns the latches and the commands that wait for them. A command is never waited for here: whoever releases a latch
//! runs the next one, and the reply is a callback; so threads and single steps run the same code.

use std::collections::BTreeMap;
use std::sync::Arc;

use logtide_model::{HostError, KvSnapshot, Op, RegionId, Ts, split_ts};
use parking_lot::Mutex;

use crate::concurrency::KeyGuard;
use crate::files::Files;
use crate::raftstore::{Action, PeerView, Proposal, Reply, StoreMessage, StoreShared, region_snapshot};
use crate::rpc::{Command, KvRequest, KvResponse, Plan, RegionError, TxnExecutor};
use crate::txn::Latches;

/// Puts a message into the queue of the store.
pub(crate) type Post = Box<dyn Fn(StoreMessage) + Send + Sync>;

/// See the module.
pub(crate) struct Service {
    shared: Arc<StoreShared>,
    executor: Arc<dyn TxnExecutor>,
    post: Post,
    files: Arc<Files>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    last_id: u64,
    latches: BTreeMap<RegionId, Latches>,
    /// Commands that wait for latches, by id.
    parked: BTreeMap<u64, Call>,
}

struct Call {
    request: KvRequest,
    reply: Reply<KvResponse>,
}

/// A plan whose files are where they are to be.
struct Uploaded {
    ops: Vec<Op>,
    names: Vec<String>,
    response: KvResponse,
    range_deleted: Option<Ts>,
    guards: Vec<KeyGuard>,
}

/// How far a read came without a snapshot.
pub(crate) enum ReadStep {
    /// It is over.
    Answer(KvResponse),
    /// Leadership is confirmed: [`Service::finish_read`] may run, on any thread.
    Confirmed(KvRequest),
}

impl Service {
    pub(crate) fn new(
        shared: Arc<StoreShared>,
        executor: Arc<dyn TxnExecutor>,
        post: Post,
        files: Arc<Files>,
    ) -> Arc<Service> {
        Arc::new(Service { shared, executor, post, files, queue: Mutex::default() })
    }

    /// Asks the store something.
    pub(crate) fn post(&self, message: StoreMessage) {
        (self.post)(message);
    }

    /// Runs a command; `reply` is called from whichever thread ends it.
    pub(crate) fn submit(self: &Arc<Self>, request: KvRequest, reply: Reply<KvResponse>) {
        if request.command.is_read() {
            let service = self.clone();
            let finish = move |step| match step {
                ReadStep::Answer(response) => Ok(response),
                ReadStep::Confirmed(request) => service.finish_read(&request),
            };
            return self.begin_read(request, Box::new(move |step| reply(step.and_then(finish))));
        }
        let region_id = request.region_id;
        let mut queue = self.queue.lock();
        queue.last_id += 1;
        let id = queue.last_id;
        let call = Call { request, reply };
        if queue.latches.entry(region_id).or_default().acquire(id, call.request.command.latches()) {
            drop(queue);
            self.write(id, call);
        } else {
            queue.parked.insert(id, call);
        }
    }

    /// A read up to the point where its snapshot may be taken.
    pub(crate) fn begin_read(&self, request: KvRequest, reply: Reply<ReadStep>) {
        if let Err(error) = self.check(&request) {
            return reply(Err(error));
        }
        if let Err(answer) = self.executor.prepare(&request.command, &self.shared.concurrency) {
            return reply(Ok(ReadStep::Answer(answer)));
        }
        let region_id = request.region_id;
        let then: Reply<_> = Box::new(move |ready| reply(ready.map(|_| ReadStep::Confirmed(request))));
        self.post(StoreMessage::Read { region_id, reply: then });
    }

    /// The answer of a read whose leadership is confirmed.
    pub(crate) fn finish_read(&self, request: &KvRequest) -> Result<KvResponse, RegionError> {
        let snapshot = self.snapshot(request)?;
        let plan = self.executor.execute(&request.command, &snapshot, &self.shared.concurrency).map_err(busy)?;
        Ok(plan.response)
    }

    fn snapshot(&self, request: &KvRequest) -> Result<impl KvSnapshot + use<>, RegionError> {
        let snapshot = region_snapshot(&*self.shared.engine, request.region_id).map_err(busy)?;
        if snapshot.region().epoch.version != request.epoch.version {
            return Err(RegionError::EpochNotMatch { current: vec![snapshot.region().clone()] });
        }
        Ok(snapshot)
    }

    /// Leadership, epoch and range of a command.
    fn check(&self, request: &KvRequest) -> Result<PeerView, RegionError> {
        let region_id = request.region_id;
        let view = self.shared.view(region_id).ok_or(RegionError::RegionNotFound(region_id))?;
        if !view.leading {
            let leader = view.leader.filter(|s| *s != self.shared.id);
            return Err(RegionError::NotLeader { region_id, leader });
        }
        if view.region.epoch.version != request.epoch.version {
            return Err(RegionError::EpochNotMatch { current: vec![view.region] });
        }
        request.command.check_range(&view.region)?;
        Ok(view)
    }

    /// Runs a command that has its latches. One that changes nothing is proposed too: its answer is true only if this
    /// store still leads in the term that the snapshot is of. (A deposed leader does not know the locks of its successor,
    /// and would call a committed transaction rolled back.)
    fn write(self: &Arc<Self>, id: u64, call: Call) {
        let Call { request, reply } = call;
        match self.plan(&request).and_then(|(plan, view)| Ok((self.upload(plan, &view)?, view))) {
            Ok((Uploaded { ops, names, response, range_deleted, guards }, view)) => {
                let (service, region_id, stores) = (self.clone(), request.region_id, view.stores);
                let then: Reply<_> = Box::new(move |outcome| {
                    if outcome.as_ref().is_err_and(|e| !e.is_undetermined()) {
                        service.files.remove(&stores, &names);
                    }
                    drop(guards);
                    service.release(region_id, id);
                    reply(outcome.map(|_| response));
                });
                self.post(StoreMessage::Propose(Proposal {
                    region_id,
                    epoch: view.region.epoch,
                    term: Some(view.term),
                    action: Action::Write(ops, range_deleted),
                    reply: then,
                }));
            }
            Err(end) => {
                self.release(request.region_id, id);
                reply(end);
            }
        }
    }

    /// Puts the files of a plan on the stores of the region; its ops name them then.
    fn upload(&self, plan: Plan, view: &PeerView) -> Result<Uploaded, Result<KvResponse, RegionError>> {
        let Plan { mut ops, files, response, range_deleted, guards } = plan;
        let mut names = Vec::new();
        for (cf, records) in files {
            let name = format!("ingest-{}-{}", self.shared.pd.alloc_id(), cf.name());
            names.push(name.clone());
            if let Err(error) = self.files.put(&view.stores, &name, &records) {
                self.files.remove(&view.stores, &names);
                return Err(Err(error));
            }
            let min_ts = records.iter().filter_map(|(key, _)| Some(split_ts(key).ok()?.1)).min().unwrap_or(Ts::ZERO);
            ops.push(Op::IngestSst { cf, path: name, min_ts });
        }
        Ok(Uploaded { ops, names, response, range_deleted, guards })
    }

    /// What a command is to do, computed in the term of the view: a proposal in another term is refused, so nothing
    /// that the snapshot does not show can get in between.
    fn plan(&self, request: &KvRequest) -> Result<(Plan, PeerView), Result<KvResponse, RegionError>> {
        let view = self.check(request).map_err(Err)?;
        let is_removal = matches!(request.command, Command::DeleteRange { .. });
        if is_removal || !view.max_ts_synced && request.command.chooses_its_ts() {
            // The leader before may have answered reads up to now; and a removal brings no ts of its own.
            let now = self.shared.pd.tso().map_err(|e| Err(busy(e)))?;
            self.shared.concurrency.bump_max_ts(now);
        }
        self.executor.prepare(&request.command, &self.shared.concurrency).map_err(Ok)?;
        let snapshot = self.snapshot(request).map_err(Err)?;
        let plan = self.executor.execute(&request.command, &snapshot, &self.shared.concurrency);
        Ok((plan.map_err(|e| Err(busy(e)))?, view))
    }

    fn release(self: &Arc<Self>, region_id: RegionId, id: u64) {
        let next: Vec<(u64, Call)> = {
            let mut queue = self.queue.lock();
            let ready = queue.latches.get_mut(&region_id).map(|l| l.release(id)).unwrap_or_default();
            ready.into_iter().filter_map(|id| Some((id, queue.parked.remove(&id)?))).collect()
        };
        for (id, call) in next {
            self.write(id, call);
        }
    }
}

fn busy(error: HostError) -> RegionError {
    match error {
        HostError::RegionNotFound(id) => RegionError::RegionNotFound(id),
        other => RegionError::Busy(other.to_string()),
    }
}
