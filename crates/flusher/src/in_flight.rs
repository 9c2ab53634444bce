//! What submissions, uploads, the committer and the publisher share, and how a generation ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::StreamExt;
use logtide_format::Previous;
use logtide_model::Publisher;
use logtide_temp_file::SealedSpool;
use object_store::ObjectStore;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinError;

use crate::plan::{ObjectPlan, Plan};
use crate::retry::Lost;
use crate::state::{Accepted, Closed, Discarded, Job, State, poisoned_error};
use crate::upload::{Stop, Upload, Uploader};
use crate::{FlushConfig, FlushEvent, Flushed, ObjectKind, SealedGeneration, StageTimes};

/// What a flusher, its uploads, its committer and its publisher share.
pub(crate) struct Core {
    pub(crate) runtime: Handle,
    pub(crate) uploader: Uploader,
    pub(crate) publisher: Arc<dyn Publisher>,
    events: Box<dyn Fn(FlushEvent) + Send + Sync>,
    /// Generations from here on are not wanted any more.
    horizon: watch::Sender<u64>,
    /// Tells the committer that something was uploaded.
    pub(crate) uploaded: Notify,
    /// Tells the publisher that something was committed.
    pub(crate) committed: Notify,
    /// Tells who drains that something ended.
    ended: Notify,
    state: Mutex<State>,
    /// What can be merged.
    pub(crate) merging: crate::merge::Shared,
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
            uploaded: Notify::new(),
            committed: Notify::new(),
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
        self.uploaded.notify_one();
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
