//! Counts what threads have done, wakes whoever reports it, and tells threads to give up.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};

use crate::{Progress, RestoreError, Stage, StageProgress};

/// Progress is reported about every so many bytes.
const STEP: u64 = 1 << 20;

#[derive(Debug, Default)]
struct Inner {
    done: AtomicU64,
    total: AtomicU64,
    records: AtomicU64,
    cancelled: AtomicBool,
    wake: Notify,
}

/// Shared by the threads of one stage. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Arc<Inner>);

impl Meter {
    /// There is more to do.
    pub(crate) fn expect(&self, bytes: u64) {
        self.0.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Something was done.
    ///
    /// # Errors
    /// [`RestoreError::Cancelled`] if it is of no use any more.
    pub(crate) fn done(&self, bytes: u64, records: u64) -> Result<(), RestoreError> {
        let before = self.0.done.fetch_add(bytes, Ordering::Relaxed);
        self.0.records.fetch_add(records, Ordering::Relaxed);
        if before / STEP != (before + bytes) / STEP {
            self.0.wake.notify_one();
        }
        if self.0.cancelled.load(Ordering::Relaxed) { Err(RestoreError::Cancelled) } else { Ok(()) }
    }

    /// Tells the threads to give up.
    pub(crate) fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }

    fn progress(&self, stage: Stage) -> StageProgress {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let (bytes_done, bytes_total) = (load(&self.0.done), load(&self.0.total));
        StageProgress { stage, bytes_done, bytes_total: bytes_total.max(bytes_done), records: load(&self.0.records) }
    }

    /// Runs a stage and reports how far it is. If it fails, or is dropped, its threads are told to give up.
    pub(crate) async fn watch<T>(
        &self,
        stage: Stage,
        progress: &dyn Progress,
        work: impl Future<Output = Result<T, RestoreError>>,
    ) -> Result<T, RestoreError> {
        let guard = CancelOnDrop(self);
        let mut work = std::pin::pin!(work);
        progress.report(&self.progress(stage));
        let result = loop {
            tokio::select! {
                biased;
                result = &mut work => break result,
                () = self.0.wake.notified() => progress.report(&self.progress(stage)),
            }
        };
        if result.is_ok() {
            std::mem::forget(guard);
            progress.report(&self.progress(stage));
        }
        result
    }
}

struct CancelOnDrop<'a>(&'a Meter);

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The outcome of a task.
pub(crate) fn joined<T>(done: Result<Result<T, RestoreError>, JoinError>) -> Result<T, RestoreError> {
    done.unwrap_or_else(|e| Err(RestoreError::Worker(e.to_string())))
}

/// The error of two outcomes that tells why: parts that were told to give up only say that.
pub(crate) fn cause(a: Result<(), RestoreError>, b: Result<(), RestoreError>) -> Result<(), RestoreError> {
    match (a, b) {
        (Ok(()) | Err(RestoreError::Cancelled), Err(e)) => Err(e),
        (a, _) => a,
    }
}

/// Waits for all tasks, also if one fails: the others are told to give up, and none is left when this returns.
pub(crate) async fn join_all<T: 'static>(
    tasks: &mut JoinSet<Result<T, RestoreError>>,
    meter: &Meter,
    mut each: impl FnMut(T),
) -> Result<(), RestoreError> {
    let mut first = Ok(());
    while let Some(done) = tasks.join_next().await {
        match joined(done) {
            Ok(done) => each(done),
            Err(e) => {
                meter.cancel();
                first = cause(first, Err(e));
            }
        }
    }
    first
}
