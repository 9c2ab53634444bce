//! Reads planned ranges of data objects in parallel, verifies and filters their records, and sorts them.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use logtide_format::{DataFile, FormatError, Records, open_file_with, proto};
use logtide_model::codec::{CodecError, encode_var_u64};
use logtide_model::{Cf, Diagnose, ErrorCode, split_ts};
use logtide_storage::Storage;
use object_store::{ObjectStoreExt, path::Path};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::error::Lost;
use crate::join::{DEFAULTS, WRITES};
use crate::memory::{Gate, Held, Means};
use crate::meter::{Meter, cause, join_all, joined};
use crate::origin::FileOrigin;
use crate::plan::{PlannedObject, Read, Skip, Window, reads};
use crate::planning::{Plan, plan_error};
use crate::sort::{Runs, Sorter};
use crate::summary::Counts;
use crate::version::VALUE;
use crate::{RestoreError, log_info};

/// Bytes that are read for nothing rather than asked for apart.
const MAX_GAP: u64 = 64 << 10;

/// What all reads share.
struct Shared {
    storage: Storage,
    window: Window,
    means: Means,
    /// Runs of [`WRITES`] and [`DEFAULTS`].
    runs: [Arc<Runs>; 2],
    /// Sorters that no thread uses at the moment.
    sorters: Mutex<Vec<Sorter<2>>>,
    requests: Semaphore,
    decoders: Semaphore,
    meter: Meter,
    counts: Mutex<Counts>,
}

/// A read on its way.
struct Job {
    object: Arc<PlannedObject>,
    read: Read,
    _held: Held,
}

/// Reads all that is planned into `runs`; what was read, by reason of being dropped.
///
/// # Errors
/// The first of any read: nothing is left out silently.
pub(crate) async fn fetch(
    storage: &Storage,
    plan: &mut Plan,
    means: &Means,
    runs: [Arc<Runs>; 2],
    meter: &Meter,
) -> Result<Counts, RestoreError> {
    let gate = Gate::new(means.shares.fetch, means);
    let shared = Arc::new(Shared {
        storage: storage.clone(),
        window: plan.window.clone(),
        means: means.clone(),
        runs,
        sorters: Mutex::default(),
        requests: Semaphore::new(means.concurrency),
        decoders: Semaphore::new(means.shares.workers),
        meter: meter.clone(),
        counts: Mutex::default(),
    });
    let mut tasks = JoinSet::new();
    let spawned = spawn_all(plan, &shared, &gate, &mut tasks).await;
    if spawned.is_err() {
        meter.cancel();
    }
    let ended = join_all(&mut tasks, meter, |()| ()).await;
    cause(spawned, ended)?;
    shared.sorters.lock().drain(..).for_each(Sorter::finish);
    let counts = *shared.counts.lock();
    Ok(counts)
}

/// Starts all reads, each as soon as there is memory for it, and until one fails.
async fn spawn_all(
    plan: &mut Plan,
    shared: &Arc<Shared>,
    gate: &Gate,
    tasks: &mut JoinSet<Result<(), RestoreError>>,
) -> Result<(), RestoreError> {
    let means = &shared.means;
    while let Some(object) = plan.planned.next().map_err(|e| plan_error(&means.temp_dir, e))?.map(Arc::new) {
        for read in reads(&object.ranges(), means.shares.read as u64, MAX_GAP) {
            let _held = gate.pass(cost(&object, &read), || object.object.clone()).await?;
            tasks.spawn(run(shared.clone(), Job { object: object.clone(), read, _held }));
            while let Some(done) = tasks.try_join_next() {
                joined(done)?;
            }
        }
    }
    Ok(())
}

/// Bytes that a read holds at once: all of it, and its largest file decompressed.
fn cost(object: &PlannedObject, read: &Read) -> u64 {
    let files = &object.files[read.files.clone()];
    let plain = files.iter().map(|(_, file, _)| file.plain_length).max().unwrap_or(0);
    (read.bytes.end - read.bytes.start).saturating_add(plain)
}

async fn run(shared: Arc<Shared>, job: Job) -> Result<(), RestoreError> {
    let bytes = {
        let _turn = shared.requests.acquire().await.map_err(|_| RestoreError::Cancelled)?;
        get(&shared.storage, &job).await?
    };
    let _turn = shared.decoders.acquire().await.map_err(|_| RestoreError::Cancelled)?;
    let work = shared.clone();
    shared.means.work(move || decode(&work, &job, &bytes)).await
}

async fn get(storage: &Storage, job: &Job) -> Result<Bytes, RestoreError> {
    let Range { start, end } = job.read.bytes;
    let path = Path::from(job.object.object.as_str());
    let missing = |source: Option<object_store::Error>| RestoreError::Missing {
        object: job.object.object.clone(),
        offset: start,
        end,
        lost: Lost::of(job.object.files[job.read.files.clone()].iter().map(|(_, file, _)| file)),
        source: source.map(Box::new),
    };
    if start == end {
        return Ok(Bytes::new());
    }
    match storage.store.get_range(&path, start..end).await {
        Ok(bytes) if bytes.len() as u64 == end - start => Ok(bytes),
        Ok(_) => Err(missing(None)),
        Err(e @ object_store::Error::NotFound { .. }) => Err(missing(Some(e))),
        Err(e) => match storage.store.head(&path).await {
            Ok(meta) if meta.size < end => Err(missing(Some(e))),
            _ => Err(log_info::unreadable(storage, &job.object.object, e)),
        },
    }
}

/// Verifies and sorts the files of a read.
fn decode(shared: &Shared, job: &Job, bytes: &Bytes) -> Result<(), RestoreError> {
    let idle = shared.sorters.lock().pop();
    let mut sorter =
        idle.unwrap_or_else(|| Sorter::new(shared.runs.clone(), shared.means.shares.sort, &shared.means.budget));
    let mut counts = Counts::default();
    for (info, file, origin) in &job.object.files[job.read.files.clone()] {
        let from = (file.offset - job.read.bytes.start) as usize;
        let stored = &bytes[from..from + file.stored_length as usize];
        let records = File { object: &job.object.object, info, file, origin };
        let read = records.sort(stored, &shared.window, &mut sorter, &shared.means)?;
        counts.add(&read);
        shared.meter.done(file.stored_length, read.read)?;
    }
    shared.sorters.lock().push(sorter);
    shared.counts.lock().add(&counts);
    Ok(())
}

/// A logical file at hand.
struct File<'a> {
    object: &'a str,
    info: &'a proto::DataFileInfo,
    file: &'a DataFile,
    origin: &'a FileOrigin,
}

impl File<'_> {
    /// Verifies all of it, then puts its needed records into the sorter.
    fn sort(
        &self,
        stored: &[u8],
        window: &Window,
        sorter: &mut Sorter<2>,
        means: &Means,
    ) -> Result<Counts, RestoreError> {
        let plain = open_file_with(self.object, self.info, stored, &means.keys).map_err(|e| self.bad_file(e))?;
        let cf = self.file.key.cf;
        let mut payload = Payload::new(cf, self.origin);
        let mut counts = Counts::default();
        if self.file.is_delete() {
            counts.read = self.file.entries;
            counts.dropped.delete_entries = self.file.entries;
            return Ok(counts);
        }
        for (place, record) in Records::new(&plain).enumerate() {
            let bad = |cause| self.bad_record(place, cause);
            let record = record.map_err(|_| bad(CodecError::BadLength))?;
            let (_, ts) = split_ts(record.key).map_err(bad)?;
            if record.value.is_empty() {
                // Values of the default column family are longer than short ones: this is no Put.
                return Err(bad(CodecError::UnexpectedEof));
            }
            counts.read += 1;
            match window.skips_record(cf, record.key, ts) {
                Some(skip) => drop_record(&mut counts, skip),
                None => {
                    let front = payload.front(place as u64);
                    let kind = if cf == Cf::Write { WRITES } else { DEFAULTS };
                    sorter.push(kind, record.key, &[front, record.value]).map_err(|e| spill(&means.temp_dir, e))?;
                }
            }
        }
        Ok(counts)
    }

    fn bad_file(&self, source: FormatError) -> RestoreError {
        let (object, offset, source) = (self.object.to_owned(), self.file.offset, Box::new(source));
        if source.code() == ErrorCode::Encryption {
            return RestoreError::Encrypted { source };
        }
        RestoreError::Damaged { object, offset, lost: Lost::of(std::iter::once(self.file)), source }
    }

    fn bad_record(&self, place: usize, cause: CodecError) -> RestoreError {
        RestoreError::BadRecord {
            object: self.object.to_owned(),
            offset: self.file.offset,
            record: place as u64,
            cf: self.file.key.cf.name(),
            cause,
        }
    }
}

pub(crate) fn spill(dir: &std::path::Path, source: io::Error) -> RestoreError {
    RestoreError::Local { path: dir.to_owned(), what: "cannot sort in temporary files", source }
}

fn drop_record(counts: &mut Counts, skip: Skip) {
    let dropped = &mut counts.dropped;
    match skip {
        Skip::After => dropped.after_restored_ts += 1,
        Skip::Before => dropped.before_start += 1,
        Skip::Outside => dropped.outside_range += 1,
        Skip::Delete => dropped.delete_entries += 1,
    }
}

/// What stands before the value in a sorted record: the store for writes, the whole origin for values.
struct Payload {
    bytes: Vec<u8>,
    common: usize,
    with_place: bool,
}

impl Payload {
    fn new(cf: Cf, origin: &FileOrigin) -> Self {
        let mut bytes = Vec::new();
        let with_place = cf != Cf::Write;
        if with_place {
            bytes.push(VALUE);
            origin.encode(&mut bytes);
        } else {
            encode_var_u64(origin.store, &mut bytes);
        }
        Payload { common: bytes.len(), bytes, with_place }
    }

    fn front(&mut self, place: u64) -> &[u8] {
        if self.with_place {
            self.bytes.truncate(self.common);
            encode_var_u64(place, &mut self.bytes);
        }
        &self.bytes
    }
}
