//! One try to make one object durable: at once or in parts, never over other content.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::OptionFuture;
use futures::{StreamExt, stream};
use logtide_model::MemoryBudget;
use logtide_temp_file::SealedSpool;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::debug;

use crate::FlushConfig;
use crate::gate::{Gate, Held};
use crate::pace::Pace;
use crate::pieces::{Part, parts, read};
use crate::plan::ObjectPlan;

/// How long to try to tell the storage that parts are not wanted any more.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a try did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody wants it any more.
    Stopped,
    /// Try again.
    Again(String),
    /// The storage said no, or its answer was lost.
    Store(Box<Error>),
    /// The spool does not give its bytes back.
    Unreadable(String),
    /// There is an object of that name with other content.
    Different(String),
}

/// Tells a generation that it is not wanted any more: when the horizon comes down to its number.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) horizon: watch::Receiver<u64>,
    pub(crate) generation: u64,
}

impl Stop {
    pub(crate) async fn stopped(&self) {
        let mut horizon = self.horizon.clone();
        // The sender is gone only with the flusher, which is a stop too.
        let _ = horizon.wait_for(|h| *h <= self.generation).await;
    }

    /// Awaits something, unless it is not wanted any more.
    async fn unless_stopped<T>(&self, wanted: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.stopped() => Err(Failure::Stopped),
            done = wanted => done,
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.horizon.borrow() <= self.generation
    }
}

/// What earlier tries to write an object found out.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// Failures in a row.
    pub(crate) failures: u32,
    /// It was looked for and not found: what is there now, this flusher wrote, and may write again.
    absent: bool,
}

/// An object on its way.
pub(crate) struct Upload<'a> {
    pub(crate) object: &'a ObjectPlan,
    pub(crate) spools: &'a Arc<Vec<SealedSpool>>,
    pub(crate) stop: &'a Stop,
}

/// Puts objects, within bounds on requests and memory.
#[derive(Debug)]
pub(crate) struct Uploader {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) config: FlushConfig,
    pub(crate) gate: Arc<Gate>,
    /// A place is a byte of it: what a limit that can change while it works is needed for.
    slots: Arc<Gate>,
    places: MemoryBudget,
    file_size_limit: AtomicU64,
    pub(crate) pace: Arc<Pace>,
}

impl Uploader {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, config: FlushConfig) -> Self {
        let places = MemoryBudget::new(config.upload_concurrency.max(1));
        let (slots, gate) = (Gate::new(places.clone()), Gate::new(config.upload_memory.clone()));
        let file_size_limit = AtomicU64::new(config.file_size_limit);
        Uploader { store, config, gate, slots, places, file_size_limit, pace: Arc::default() }
    }

    /// Changes them, for what is planned or sent from now on.
    pub(crate) fn set_limits(&self, file_size_limit: u64, upload_concurrency: usize) {
        self.file_size_limit.store(file_size_limit, Ordering::Relaxed);
        self.places.set_limit(upload_concurrency.max(1));
    }

    /// Stored bytes after which a data object is closed.
    pub(crate) fn file_size_limit(&self) -> u64 {
        self.file_size_limit.load(Ordering::Relaxed)
    }

    /// Requests that upload data at once.
    pub(crate) fn at_once(&self) -> usize {
        self.places.limit()
    }

    /// One try. After success the object is durable, with exactly this content.
    pub(crate) async fn attempt(&self, upload: &Upload<'_>, tries: &mut Tries) -> Result<(), Failure> {
        if self.config.is_single_put(upload.object.bytes) {
            self.put_whole(upload, tries).await
        } else {
            self.put_parts(upload, tries).await
        }
    }

    /// Sends a request when it may be sent and awaits it, unless it takes too long or is not wanted any more.
    pub(crate) async fn patiently<T>(
        &self,
        stop: &Stop,
        failures: u32,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Failure> {
        let patience = self.config.timeout(failures);
        tokio::select! {
            biased;
            () = stop.stopped() => return Err(Failure::Stopped),
            () = self.pace.wait() => {}
        }
        tokio::select! {
            biased;
            () = stop.stopped() => Err(Failure::Stopped),
            answer = tokio::time::timeout(patience, request) => match answer {
                Ok(Ok(value)) => {
                    self.pace.succeeded();
                    Ok(value)
                }
                Ok(Err(e)) => Err(Failure::Store(Box::new(e))),
                Err(_) => Err(Failure::Again(format!("no answer within {patience:?}"))),
            },
        }
    }

    async fn put_whole(&self, upload: &Upload<'_>, tries: &mut Tries) -> Result<(), Failure> {
        let path = Path::from(upload.object.path.as_str());
        if !self.config.create_if_absent && self.is_there(upload, tries).await? {
            return Ok(());
        }
        let (payload, _room) = self.whole(upload).await?;
        let mode = if self.config.create_if_absent { PutMode::Create } else { PutMode::Overwrite };
        let put = self.store.put_opts(&path, payload.clone(), mode.into());
        match self.patiently(upload.stop, tries.failures, put).await {
            Err(Failure::Store(e)) if matches!(*e, Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                self.compare(upload, tries.failures).await
            }
            Err(Failure::Store(e)) if matches!(*e, Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                if self.is_there(upload, tries).await? {
                    return Ok(());
                }
                let put = self.store.put(&path, payload);
                self.patiently(upload.stop, tries.failures, put).await.map(drop)
            }
            answer => answer.map(drop),
        }
    }

    /// The bytes of an object and the right to send them.
    async fn whole(&self, upload: &Upload<'_>) -> Result<(PutPayload, Option<Room>), Failure> {
        match parts(upload.object, upload.object.bytes.max(1)).pop() {
            Some(part) => {
                let (payload, memory) = self.load(upload, part).await?;
                Ok((payload, Some(Room { _slot: self.slot(upload).await?, _memory: memory })))
            }
            None => Ok((PutPayload::new(), None)),
        }
    }

    async fn put_parts(&self, upload: &Upload<'_>, tries: &mut Tries) -> Result<(), Failure> {
        if self.is_there(upload, tries).await? {
            return Ok(());
        }
        let path = Path::from(upload.object.path.as_str());
        let begin = self.store.put_multipart(&path);
        let mut parts = self.patiently(upload.stop, tries.failures, begin).await?;
        let mut sent = self.send_parts(upload, tries.failures, &mut *parts).await;
        if sent.is_ok() {
            sent = self.patiently(upload.stop, tries.failures, parts.complete()).await.map(drop);
        }
        if sent.is_err() {
            // The storage would keep, and bill, parts that nobody completes.
            let aborted = tokio::time::timeout(ABORT_TIMEOUT, parts.abort()).await;
            debug!(object = upload.object.path, ?aborted, "aborted an upload in parts");
        }
        sent
    }

    /// Sends parts as they are read, several at once, within the places for requests; which of them are read meanwhile the
    /// memory bounds.
    async fn send_parts(
        &self,
        upload: &Upload<'_>,
        failures: u32,
        sink: &mut dyn MultipartUpload,
    ) -> Result<(), Failure> {
        let mut requests: JoinSet<object_store::Result<()>> = JoinSet::new();
        let parts = parts(upload.object, self.config.part_bytes());
        // Asked for memory in their order: what is read never waits for one before it that finds no room.
        // One more than are sent at once, or its turn would come before its bytes.
        let mut loads = stream::iter(parts).map(|part| self.load(upload, part)).buffered(self.at_once() + 1);
        while let Some(loaded) = loads.next().await {
            let (payload, memory) = loaded?;
            let room = Room { _slot: self.slot(upload).await?, _memory: memory };
            let (request, pace) = (sink.put_part(payload), self.pace.clone());
            requests.spawn(async move {
                pace.wait().await;
                let answer = request.await;
                drop(room);
                answer
            });
            while let Some(answer) = requests.try_join_next() {
                answered(answer)?;
            }
        }
        loop {
            let next = async { Ok(requests.join_next().await) };
            match self.patiently(upload.stop, failures, next).await? {
                Some(answer) => answered(answer)?,
                None => return Ok(()),
            }
        }
    }

    /// The right to send a request. Those of earlier generations go first, so that they are committed while later ones are
    /// still on their way.
    async fn slot(&self, upload: &Upload<'_>) -> Result<Held, Failure> {
        let slot = self.slots.acquire(upload.stop.generation, 1);
        upload.stop.unless_stopped(async { Ok(slot.await) }).await
    }

    /// Reads a part once there is memory for it.
    fn load<'a>(
        &'a self,
        upload: &'a Upload<'_>,
        part: Part,
    ) -> impl Future<Output = Result<(PutPayload, Option<Held>), Failure>> + Send + use<'a> {
        let memory = (part.cost > 0).then(|| self.gate.acquire(upload.stop.generation, part.cost));
        upload.stop.unless_stopped(async move {
            let memory = OptionFuture::from(memory).await;
            let bytes = read(part, upload.spools.clone(), self.config.blocking).await?;
            Ok((bytes.into_iter().collect(), memory))
        })
    }

    /// True if the object is there already, with the right content. Once it was seen to be absent it is not looked for
    /// again: a repeated put of the same bytes is what makes a lost answer certain.
    async fn is_there(&self, upload: &Upload<'_>, tries: &mut Tries) -> Result<bool, Failure> {
        if tries.absent {
            return Ok(false);
        }
        let path = Path::from(upload.object.path.as_str());
        match self.patiently(upload.stop, tries.failures, self.store.head(&path)).await {
            Ok(_) => self.compare(upload, tries.failures).await.map(|()| true),
            Err(Failure::Store(e)) if matches!(*e, Error::NotFound { .. }) => {
                tries.absent = true;
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }
}

/// The right to send a request, and the memory of its bytes.
struct Room {
    _slot: Held,
    _memory: Option<Held>,
}

fn answered(answer: Result<object_store::Result<()>, tokio::task::JoinError>) -> Result<(), Failure> {
    match answer {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(Failure::Store(Box::new(e))),
        Err(e) => Err(Failure::Again(e.to_string())),
    }
}
