//! An object store in memory that is slow, refuses, loses answers and goes away, by seed. What an acknowledged put wrote
//! is durable: it outlives every crash of a store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// What goes wrong, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct StorageFaults {
    /// Requests that are refused and do nothing.
    pub(crate) refuse: f64,
    /// Requests that are done, and whose answer is lost.
    pub(crate) lose: f64,
    /// The longest that a request takes, in milliseconds.
    pub(crate) slow_ms: u64,
    /// Every request is refused.
    pub(crate) away: bool,
}

/// See the module. Cloning shares it.
#[derive(Clone)]
pub(crate) struct SimStorage(Arc<Shared>);

struct Shared {
    objects: InMemory,
    /// It takes no notice of whether an object is to be created or overwritten.
    overwrites: bool,
    state: Mutex<State>,
}

struct State {
    rng: SmallRng,
    faults: StorageFaults,
    /// Puts that were done, in order: name and length.
    puts: Vec<(String, usize)>,
}

/// What is to become of a request.
struct Fate {
    wait: Duration,
    refused: bool,
    lost: bool,
    /// It takes effect before the wait, not after it: whoever gives up waiting does not undo it.
    early: bool,
}

impl SimStorage {
    /// An empty one.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let overwrites = rng.random_bool(0.3);
        let state = State { rng, faults: StorageFaults::default(), puts: Vec::new() };
        SimStorage(Arc::new(Shared { objects: InMemory::new(), overwrites, state: Mutex::new(state) }))
    }

    /// What goes wrong from now on.
    pub(crate) fn set_faults(&self, faults: StorageFaults) {
        self.0.state.lock().faults = faults;
    }

    /// The objects, without faults.
    pub(crate) fn calm(&self) -> Arc<dyn ObjectStore> {
        Arc::new(Calm(self.0.clone()))
    }

    /// The puts that were done: name and length.
    pub(crate) fn puts(&self) -> Vec<(String, usize)> {
        self.0.state.lock().puts.clone()
    }

    fn fate(&self) -> Fate {
        let mut state = self.0.state.lock();
        let faults = state.faults;
        let wait = if faults.slow_ms == 0 { 0 } else { state.rng.random_range(0..=faults.slow_ms) };
        Fate {
            wait: Duration::from_millis(wait),
            refused: faults.away || state.rng.random_bool(faults.refuse),
            lost: state.rng.random_bool(faults.lose),
            early: state.rng.random_bool(0.5),
        }
    }

    async fn request<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let fate = self.fate();
        if !fate.early || fate.refused {
            pause(fate.wait).await;
        }
        if fate.refused {
            return Err(trouble("refused"));
        }
        let answer = work.await;
        if fate.early {
            pause(fate.wait).await;
        }
        if fate.lost { Err(trouble("the answer was lost")) } else { answer }
    }
}

async fn pause(wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

fn trouble(what: &'static str) -> Error {
    Error::Generic { store: "sim", source: what.into() }
}

impl fmt::Debug for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStorage")
    }
}

impl fmt::Display for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStorage")
    }
}

#[async_trait]
impl ObjectStore for SimStorage {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        if self.0.overwrites {
            opts.mode = PutMode::Overwrite;
        }
        let bytes = payload.content_length();
        self.request(async {
            let done = self.0.objects.put_opts(location, payload, opts).await?;
            self.0.state.lock().puts.push((location.to_string(), bytes));
            Ok(done)
        })
        .await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        // Objects of a simulation are small.
        Err(Error::NotImplemented { operation: "multipart".to_owned(), implementer: "sim".to_owned() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.request(self.0.objects.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        self.request(self.0.objects.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.request(self.0.objects.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.request(self.0.objects.copy_opts(from, to, options)).await
    }
}

/// The objects as an auditor sees them.
struct Calm(Arc<Shared>);

impl fmt::Debug for Calm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calm")
    }
}

impl fmt::Display for Calm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calm")
    }
}

#[async_trait]
impl ObjectStore for Calm {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.0.objects.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, at: &Path, o: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.objects.put_multipart_opts(at, o).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.objects.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.objects.copy_opts(from, to, options).await
    }
}
