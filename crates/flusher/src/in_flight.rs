//! What submissions, uploads and the committer share: the state of all generations, and how one ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::StreamExt;
use logtide_checkpoint::{Generations, Uploading};
use logtide_format::Previous;
use logtide_model::{Incarnation, Permit, Publication, Publisher, StoreId, TaskName};
use logtide_temp_file::SealedSpool;
use object_store::ObjectStore;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinError;

use crate::plan::{ObjectPlan, Plan, as_previous};
use crate::retry::Lost;
use crate::upload::{Stop, Upload, Uploader};
use crate::{FlushConfig, FlushError, FlushEvent, Flushed, ObjectKind, SealedGeneration, StageTimes};

/// What a flusher, its uploads and its committer share.
pub(crate) struct Core {
    pub(crate) runtime: Handle,
    pub(crate) uploader: Uploader,
    pub(crate) publisher: Arc<dyn Publisher>,
    events: Box<dyn Fn(FlushEvent) + Send + Sync>,
    /// Generations from here on are not wanted any more.
    horizon: watch::Sender<u64>,
    /// Tells the committer that something was uploaded.
    pub(crate) turn: Notify,
    /// Tells who drains that something ended.
    ended: Notify,
    state: Mutex<State>,
    /// What can be merged.
    pub(crate) merging: crate::merge::Shared,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) generations: Generations<Job>,
    source: Option<Source>,
    pub(crate) replies: BTreeMap<u64, oneshot::Sender<Result<Flushed, FlushError>>>,
    pub(crate) published: u64,
    pub(crate) lost: Option<(u64, String)>,
    closed: Option<Closed>,
    pub(crate) cut_off: bool,
    /// The last submitted generation that has a metadata object.
    previous: Option<Previous>,
}

/// The right to upload a generation, and what its metadata object says of the one before.
pub(crate) struct Accepted {
    uploading: Uploading,
    previous: Option<Previous>,
}

#[derive(Clone, Copy)]
pub(crate) enum Closed {
    Stopped,
    TaskGone,
    Superseded,
}

/// Where all generations of a flusher come from.
#[derive(Clone, PartialEq)]
struct Source {
    task: TaskName,
    incarnation: Incarnation,
    store_id: StoreId,
    boot: u64,
}

/// The generation was poisoned, or the flusher stopped; whoever waits was told.
#[derive(Debug)]
pub(crate) struct Discarded;

/// An uploaded generation.
pub(crate) struct Job {
    pub(crate) plan: Plan,
    pub(crate) publication: Arc<Publication>,
    pub(crate) spools: Arc<Vec<SealedSpool>>,
    pub(crate) took: StageTimes,
    pub(crate) submitted: Instant,
    pub(crate) uploaded: Instant,
    /// The objects that commit it, which are in memory from the plan to the commit.
    pub(crate) _metadata: Permit,
}

impl State {
    pub(crate) fn accept(&mut self, generation: &SealedGeneration) -> Result<Accepted, FlushError> {
        let source = Source {
            task: generation.task.name.clone(),
            incarnation: generation.task.incarnation,
            store_id: generation.store_id,
            boot: generation.boot,
        };
        if let Some(closed) = self.closed {
            return Err(closed.error(&source, generation.generation));
        }
        if let Some((poisoned, cause)) = &self.lost {
            return Err(poisoned_error(&source.task, generation.generation, *poisoned, cause));
        }
        if *self.source.get_or_insert_with(|| source.clone()) != source {
            let reason = "it comes from another task, store or boot than those before".to_owned();
            return Err(FlushError::Refused { generation: generation.generation, reason });
        }
        let uploading = self.generations.sealed(generation.generation).map_err(FlushError::refused)?;
        let previous = self.previous;
        self.previous = as_previous(generation).or(previous);
        Ok(Accepted { uploading, previous })
    }
}

impl Core {
    pub(crate) fn new(
        runtime: Handle,
        store: Arc<dyn ObjectStore>,
        publisher: Arc<dyn Publisher>,
        config: FlushConfig,
        events: Box<dyn Fn(FlushEvent) + Send + Sync>,
    ) -> Self {
        Core {
            runtime,
            uploader: Uploader::new(store, config),
            publisher,
            events,
            horizon: watch::Sender::new(u64::MAX),
            turn: Notify::new(),
            ended: Notify::new(),
            state: Mutex::default(),
            merging: Mutex::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if something did, what it left is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop_of(&self, generation: u64) -> Stop {
        Stop { horizon: self.horizon.subscribe(), generation }
    }

    /// Plans and uploads a generation, and queues it for the committer.
    pub(crate) async fn upload(self: Arc<Self>, accepted: Accepted, generation: SealedGeneration) {
        let Accepted { uploading, previous } = accepted;
        // If it is discarded, whoever stopped or poisoned it told those who wait.
        let Ok(job) = self.upload_data(generation, previous).await else { return };
        let left = self.lock().generations.uploaded(uploading, job);
        self.turn.notify_one();
        left.unwrap_or_else(|job| self.free(job));
    }

    async fn upload_data(&self, generation: SealedGeneration, previous: Option<Previous>) -> Result<Job, Discarded> {
        let submitted = Instant::now();
        let number = generation.generation;
        let mut job = self.plan(generation, previous, submitted).await?;
        let began = Instant::now();
        let (objects, bytes) = (job.plan.data.len(), job.plan.data_bytes());
        self.tell(FlushEvent::Uploading { generation: number, objects, bytes });
        let stop = self.stop_of(number);
        let at_once = self.uploader.at_once();
        let mut uploads = Vec::new();
        for object in &job.plan.data {
            uploads.push(self.store(object, ObjectKind::Log, &job.spools, &stop));
        }
        // All are awaited: those that a lost one stops have parts to take back from the storage.
        let ends: Vec<_> = futures::stream::iter(uploads).buffer_unordered(at_once).collect().await;
        ends.into_iter().collect::<Result<(), Discarded>>()?;
        job.uploaded = Instant::now();
        job.took.save_files = began.elapsed();
        self.tell(FlushEvent::Uploaded { generation: number, bytes, took: job.took.save_files });
        Ok(job)
    }

    async fn plan(
        &self,
        mut generation: SealedGeneration,
        previous: Option<Previous>,
        submitted: Instant,
    ) -> Result<Job, Discarded> {
        let began = Instant::now();
        let publication = Arc::new(generation.take_publication());
        let limit = self.uploader.file_size_limit();
        // Tens of thousands of blocks take a while.
        let planned = self.offload(move || (Plan::new(&generation, previous, limit), generation.spools));
        let (plan, spools) = match planned.await {
            Ok(planned) => planned,
            Err(e) => return Err(self.poison(publication.generation, e.to_string())),
        };
        let metadata = self.uploader.gate.account(plan.commit_bytes());
        let took = StageTimes { generate_metadata: began.elapsed(), ..StageTimes::default() };
        let spools = Arc::new(spools);
        Ok(Job { plan, publication, spools, took, submitted, uploaded: began, _metadata: metadata })
    }

    /// Makes one object durable; poisons the generation if that cannot be.
    pub(crate) async fn store(
        &self,
        object: &ObjectPlan,
        kind: ObjectKind,
        spools: &Arc<Vec<SealedSpool>>,
        stop: &Stop,
    ) -> Result<(), Discarded> {
        let (generation, bytes, began) = (stop.generation, object.bytes, Instant::now());
        match self.uploader.persist(&Upload { object, spools, stop }, &|event| self.tell(event)).await {
            Ok(()) => {}
            Err(Lost::Stopped) => return Err(Discarded),
            Err(Lost::Poisoned(cause)) => return Err(self.poison(generation, cause)),
        }
        let took = began.elapsed();
        self.tell(FlushEvent::Stored { generation, kind, bytes, took });
        Ok(())
    }

    /// Does work that blocks.
    pub(crate) async fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        self.uploader.config.blocking.run(&self.runtime, work).await
    }

    /// Frees the spool of a generation: that removes files.
    pub(crate) fn free(&self, job: Job) {
        self.uploader.config.blocking.leave(&self.runtime, move || drop(job));
    }

    /// The generation is lost: it and all later ones are discarded.
    fn poison(&self, generation: u64, cause: String) -> Discarded {
        let mut state = self.lock();
        if state.lost.as_ref().is_some_and(|(before, _)| *before <= generation) {
            return Discarded;
        }
        state.lost = Some((generation, cause.clone()));
        let gone = state.generations.poison(generation);
        self.horizon.send_modify(|horizon| *horizon = generation.min(*horizon));
        let discarded: Vec<u64> = gone.iter().map(|d| d.generation).collect();
        let task = state.source.as_ref().map(|s| s.task.clone());
        let replies: Vec<_> = discarded.iter().filter_map(|g| Some((*g, state.replies.remove(g)?))).collect();
        drop(state);
        gone.into_iter().filter_map(|d| d.value).for_each(|job| self.free(job));
        self.tell(FlushEvent::Poisoned { generation, discarded, error: cause.clone() });
        for (number, reply) in replies {
            if let Some(task) = &task {
                // Nobody has to listen.
                let _ = reply.send(Err(poisoned_error(task, number, generation, &cause)));
            }
        }
        self.ended.notify_waiters();
        Discarded
    }

    /// Ends everything in flight.
    pub(crate) fn close(&self, why: Closed) {
        let mut state = self.lock();
        state.closed.get_or_insert(why);
        state.cut_off |= !state.replies.is_empty();
        let jobs = std::mem::take(&mut state.generations).poison(0);
        let replies = std::mem::take(&mut state.replies);
        let source = state.source.clone();
        self.horizon.send_replace(0);
        drop(state);
        jobs.into_iter().filter_map(|d| d.value).for_each(|job| self.free(job));
        for (generation, reply) in replies {
            if let Some(source) = &source {
                // Nobody has to listen.
                let _ = reply.send(Err(why.error(source, generation)));
            }
        }
        self.ended.notify_waiters();
    }

    /// A generation is published and its spool is freed.
    pub(crate) fn finish(&self, flushed: Flushed) {
        let reply = {
            let mut state = self.lock();
            state.published = flushed.generation;
            state.replies.remove(&flushed.generation)
        };
        self.tell(FlushEvent::Published(flushed.clone()));
        if let Some(reply) = reply {
            // Nobody has to listen.
            let _ = reply.send(Ok(flushed));
        }
        self.ended.notify_waiters();
    }

    pub(crate) async fn idle(&self) {
        loop {
            let ended = self.ended.notified();
            if self.lock().replies.is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// Tells what happened; logging it is for who listens.
    pub(crate) fn tell(&self, event: FlushEvent) {
        (self.events)(event);
    }
}

impl Closed {
    fn error(self, source: &Source, generation: u64) -> FlushError {
        match self {
            Closed::Stopped => FlushError::Stopped { generation },
            Closed::TaskGone => FlushError::TaskGone(source.task.clone()),
            Closed::Superseded => FlushError::Superseded { store_id: source.store_id, boot: source.boot },
        }
    }
}

fn poisoned_error(task: &TaskName, generation: u64, poisoned: u64, cause: &str) -> FlushError {
    FlushError::Poisoned { task: task.clone(), generation, poisoned, cause: cause.to_owned() }
}
