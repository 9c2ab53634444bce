//! An object store that fails as it is told, and a log of what became durable and what was published, in order.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use logtide_format::HEAD_PREFIX;
use logtide_model::{Publication, PublishError, Publisher};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::Semaphore;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Put,
    Begin,
    Part,
    Complete,
    Get,
    Delete,
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    None,
    /// Fail and do nothing.
    Before,
    /// Do it and lose the answer.
    After,
    /// Let others go first.
    Slow(usize),
    /// Wait for a permit that stays taken.
    Hold(Arc<Semaphore>),
    /// Do it and never answer.
    Hang,
    /// The storage has no such operation.
    Unsupported,
    /// Fail with that error and do nothing.
    Say(&'static str),
}

/// What happened, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// A put or the completion of an upload was asked for.
    Tried(String),
    /// An object is in the store.
    Durable(String, Bytes),
    /// Facts are known.
    Published(Publication),
}

pub(crate) type Log = Arc<Mutex<Vec<Entry>>>;

/// Decides by kind, path, and how often that kind was asked of that path before.
pub(crate) type Faults = Box<dyn Fn(Kind, &str, usize) -> Fault + Send + Sync>;

pub(crate) struct FaultStore {
    pub(crate) inner: Arc<dyn ObjectStore>,
    shared: Arc<Shared>,
}

struct Shared {
    faults: Faults,
    log: Log,
    counts: Mutex<HashMap<(Kind, String), usize>>,
    sending: AtomicUsize,
    peak: AtomicUsize,
}

impl FaultStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, log: &Log, faults: Faults) -> Arc<Self> {
        let (counts, sending, peak) = Default::default();
        Arc::new(FaultStore { inner, shared: Arc::new(Shared { faults, log: log.clone(), counts, sending, peak }) })
    }

    pub(crate) fn in_memory(
        log: &Log,
        faults: impl Fn(Kind, &str, usize) -> Fault + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::new(Arc::new(InMemory::new()), log, Box::new(faults))
    }

    /// How often requests of a kind were asked, over all paths.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.shared.counts.lock().unwrap().iter().filter(|((k, _), _)| *k == kind).map(|(_, n)| n).sum()
    }

    /// The most uploads at once, of data, marks and metadata.
    pub(crate) fn peak_requests(&self) -> usize {
        self.shared.peak.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn log(&self, entry: Entry) {
        self.log.lock().unwrap().push(entry);
    }

    fn sending(self: &Arc<Self>) -> Sending {
        let now = self.sending.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        Sending(self.clone())
    }

    async fn apply<T>(&self, kind: Kind, path: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let nth = {
            let mut counts = self.counts.lock().unwrap();
            let count = counts.entry((kind, path.to_owned())).or_default();
            *count += 1;
            *count - 1
        };
        match (self.faults)(kind, path, nth) {
            Fault::None => work.await,
            Fault::Before => Err(injected("refused")),
            Fault::Say(what) => Err(injected(what)),
            Fault::After => match work.await {
                Ok(_) | Err(Error::AlreadyExists { .. }) => Err(injected("answer lost")),
                Err(e) => Err(e),
            },
            Fault::Slow(yields) => {
                for _ in 0..yields {
                    tokio::task::yield_now().await;
                }
                work.await
            }
            Fault::Hold(gate) => {
                gate.acquire().await.unwrap().forget();
                work.await
            }
            Fault::Hang => {
                let _ = work.await;
                std::future::pending().await
            }
            Fault::Unsupported => {
                Err(Error::NotImplemented { operation: format!("{kind:?}"), implementer: "test".to_owned() })
            }
        }
    }
}

struct Sending(Arc<Shared>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, Ordering::SeqCst);
    }
}

/// With another first byte.
fn damaged(payload: PutPayload) -> PutPayload {
    let mut bytes = Bytes::from(payload).to_vec();
    bytes.iter_mut().take(1).for_each(|byte| *byte ^= 1);
    bytes.into()
}

fn injected(what: &'static str) -> Error {
    Error::Generic { store: "test", source: what.into() }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultStore")
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultStore")
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        // The head is no upload, and takes no place of one.
        let _sending = (!location.as_ref().starts_with(HEAD_PREFIX)).then(|| self.shared.sending());
        self.shared.log(Entry::Tried(location.to_string()));
        let work = async {
            let content = Bytes::from(payload.clone());
            let done = self.inner.put_opts(location, payload, opts).await?;
            self.shared.log(Entry::Durable(location.to_string(), content));
            Ok(done)
        };
        self.shared.apply(Kind::Put, location.as_ref(), work).await
    }

    async fn put_multipart_opts(&self, location: &Path, o: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let work = self.inner.put_multipart_opts(location, o);
        let upload = self.shared.apply(Kind::Begin, location.as_ref(), work).await?;
        let (path, store) = (location.clone(), self.inner.clone());
        Ok(Box::new(FaultUpload { upload, path, store, shared: self.shared.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.shared.apply(Kind::Get, location.as_ref(), self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (shared, inner) = (self.shared.clone(), self.inner.clone());
        let delete = move |location: Result<Path>| {
            let (shared, inner) = (shared.clone(), inner.clone());
            async move {
                let location = location?;
                let work = async { inner.delete(&location).await.map(|()| location.clone()) };
                shared.apply(Kind::Delete, location.as_ref(), work).await
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Accepts "only if absent" and overwrites all the same, as some servers do; keeps something else than what was put under
/// some names.
#[derive(Debug)]
pub(crate) struct Liar(pub(crate) InMemory, pub(crate) fn(&str) -> bool);

impl fmt::Display for Liar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Liar")
    }
}

#[async_trait]
impl ObjectStore for Liar {
    async fn put_opts(&self, location: &Path, payload: PutPayload, _: PutOptions) -> Result<PutResult> {
        let payload = if self.1(location.as_ref()) { damaged(payload) } else { payload };
        self.0.put_opts(location, payload, PutOptions::default()).await
    }

    async fn put_multipart_opts(&self, location: &Path, o: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, o).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

struct FaultUpload {
    upload: Box<dyn MultipartUpload>,
    path: Path,
    store: Arc<dyn ObjectStore>,
    shared: Arc<Shared>,
}

impl fmt::Debug for FaultUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultUpload")
    }
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let work = self.upload.put_part(data);
        let (shared, path, sending) = (self.shared.clone(), self.path.clone(), self.shared.sending());
        async move {
            let _sending = sending;
            shared.apply(Kind::Part, path.as_ref(), work).await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let path = self.path.to_string();
        self.shared.log(Entry::Tried(path.clone()));
        let work = async {
            let done = self.upload.complete().await?;
            let content = self.store.get(&self.path).await?.bytes().await?;
            self.shared.log(Entry::Durable(path.clone(), content));
            Ok(done)
        };
        self.shared.apply(Kind::Complete, &path, work).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

/// A publisher that fails as it is told.
pub(crate) struct FaultPublisher {
    pub(crate) log: Log,
    pub(crate) answers: Mutex<Vec<Answer>>,
}

/// What to answer; taken from the end, `Yes` when there is none left.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Yes,
    Refused,
    Lost,
    TaskGone,
    Superseded,
    Panic,
}

impl FaultPublisher {
    pub(crate) fn new(log: &Log, answers: Vec<Answer>) -> Arc<Self> {
        Arc::new(FaultPublisher { log: log.clone(), answers: Mutex::new(answers) })
    }
}

impl Publisher for FaultPublisher {
    fn publish(&self, publication: &Publication) -> std::result::Result<(), PublishError> {
        let record = || self.log.lock().unwrap().push(Entry::Published(publication.clone()));
        let unavailable = || PublishError::Unavailable { cause: "injected".to_owned(), retry_after: None };
        let answer = self.answers.lock().unwrap().pop().unwrap_or(Answer::Yes);
        match answer {
            Answer::Yes => record(),
            Answer::Refused => return Err(unavailable()),
            Answer::Lost => {
                record();
                return Err(unavailable());
            }
            Answer::TaskGone => return Err(PublishError::TaskGone(publication.task.clone())),
            Answer::Superseded => {
                return Err(PublishError::Superseded { store_id: publication.store_id, boot: publication.boot });
            }
            Answer::Panic => panic!("injected"),
        }
        Ok(())
    }
}
