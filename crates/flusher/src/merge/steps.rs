//! The steps of a merge: get, put, verify, delete.

use std::sync::Arc;

use bytes::Bytes;
use logtide_format::{encode_head, merge_metadata, merged_head_path};
use logtide_model::Permit;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutPayload};
use tokio::time::Instant;

use super::{Committed, Exclusive, Job, MergeDone, MergeError, Merging, NotExclusive, Run};
use crate::plan::{ObjectPlan, in_memory};
use crate::upload::{Failure, Stop, Tries, Upload};

/// Reading, decoding and encoding metadata takes about this many times its bytes.
const COST: usize = 6;

impl From<Failure> for MergeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Stopped => MergeError::Stopped,
            Failure::Store(e) => MergeError::Failed(e.to_string()),
            Failure::Again(cause) | Failure::Unreadable(cause) => MergeError::Failed(cause),
            Failure::Different(cause) => MergeError::GivenUp(cause),
        }
    }
}

impl From<NotExclusive> for MergeError {
    fn from(error: NotExclusive) -> Self {
        match error {
            NotExclusive::Busy(who) => MergeError::Busy(who),
            NotExclusive::Failed(cause) => MergeError::Failed(cause),
        }
    }
}

impl Merging {
    /// Goes on with what [`is_due`](Self::is_due) found, as far as it can; nothing to do is done at once. Only one may
    /// run at a time.
    ///
    /// # Errors
    /// [`MergeError`]; call it again later.
    pub async fn run(&self, exclusive: &dyn Exclusive) -> Result<Option<MergeDone>, MergeError> {
        let (began, stop) = (Instant::now(), self.core.stop_of(0));
        let Some(job) = self.lock().job.take() else { return Ok(None) };
        if let Err(error) = exclusive.acquire().await {
            self.lock().job = Some(job);
            return Err(error.into());
        }
        let ended = self.steps(job, exclusive, &stop).await;
        // An object whose put has an unknown end might show up after others have listed: then the right is kept.
        let released = if self.is_open() { Ok(()) } else { exclusive.release().await };
        let (objects, bytes) = ended?;
        released?;
        Ok(Some(MergeDone { objects, bytes, took: began.elapsed() }))
    }

    /// What is left to do is kept for the next attempt.
    async fn steps(&self, mut job: Job, exclusive: &dyn Exclusive, stop: &Stop) -> Result<(usize, u64), MergeError> {
        loop {
            job = match job {
                Job::Chosen(run) => match self.make(&run, stop).await {
                    Ok((object, _memory)) => Job::Made { run, object, _memory },
                    Err(error) => return self.failed(Job::Chosen(run), error),
                },
                Job::Made { run, object, _memory } => match self.store(&object, stop).await {
                    Ok(merged) => self.is_stored(&run, merged),
                    Err(error) => return self.failed(Job::Made { run, object, _memory }, error),
                },
                Job::Clearing { objects, bytes, mut rest } => {
                    if let Err(error) = self.clear(&mut rest, exclusive, stop).await {
                        return self.failed(Job::Clearing { objects, bytes, rest }, error);
                    }
                    return Ok((objects, bytes));
                }
            }
        }
    }

    fn failed<T>(&self, job: Job, error: MergeError) -> Result<T, MergeError> {
        let mut ledger = self.lock();
        match (&error, job) {
            (MergeError::GivenUp(_), Job::Chosen(run) | Job::Made { run, .. }) => ledger.history.give_up(&run),
            (_, job) => ledger.job = Some(job),
        }
        Err(error)
    }

    /// Reads the objects of a run and makes the one of them.
    async fn make(&self, run: &Run, stop: &Stop) -> Result<(ObjectPlan, Permit), MergeError> {
        let uploader = &self.core.uploader;
        let no_memory = || MergeError::NoMemory { bytes: run.bytes() };
        let mut memory =
            uploader.config.upload_memory.try_acquire(run.bytes() as usize * COST).ok_or_else(no_memory)?;
        let mut contents: Vec<Bytes> = Vec::with_capacity(run.objects.len());
        for object in &run.objects {
            let path = Path::from(object.path.as_str());
            let get = async { uploader.store.get(&path).await?.bytes().await };
            match uploader.patiently(stop, 0, get).await {
                Ok(bytes) => contents.push(bytes),
                Err(Failure::Store(e)) if matches!(*e, Error::NotFound { .. }) => {
                    return Err(MergeError::GivenUp(format!("'{}' is gone", object.path)));
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        let objects: Vec<(&str, &[u8])> =
            run.objects.iter().zip(&contents).map(|(object, bytes)| (object.path.as_str(), &bytes[..])).collect();
        let (path, bytes) = merge_metadata(&objects, run.previous).map_err(|e| MergeError::GivenUp(e.to_string()))?;
        memory.resize(bytes.len());
        Ok((in_memory(path, bytes), memory))
    }

    /// Makes the merged object durable, sees that it is there, and puts its head.
    async fn store(&self, object: &ObjectPlan, stop: &Stop) -> Result<Committed, MergeError> {
        let uploader = &self.core.uploader;
        let upload = Upload { object, spools: &Arc::default(), stop };
        let mut put = uploader.attempt(&upload, &mut Tries::default()).await;
        if put.is_ok() {
            put = uploader.compare(&upload, 0).await;
        }
        if let Err(Failure::Different(_)) = &put {
            // Its name tells the checksum of its content: a restore would take it for damaged.
            uploader.patiently(stop, 0, uploader.store.delete(&Path::from(object.path.as_str()))).await?;
        }
        put?;
        let none = || MergeError::GivenUp(format!("'{}' has no link", object.path));
        let merged = Committed::of(&object.path, object.bytes).ok_or_else(none)?;
        let head = head_of(&merged).ok_or_else(none)?;
        let payload = PutPayload::from(encode_head(&merged.path));
        uploader.patiently(stop, 0, uploader.store.put(&Path::from(head), payload)).await?;
        Ok(merged)
    }

    /// The originals, the newest first; then heads that nobody needs any more.
    fn is_stored(&self, run: &Run, merged: Committed) -> Job {
        let of_named = run.named.and_then(|name| Some(merged_head_path(name.store_id, name.tag?)));
        let heads = run.objects.iter().filter(|object| object.is_merged()).filter_map(head_of).chain(of_named);
        let mut rest: Vec<String> = heads.collect();
        rest.extend(run.objects.iter().map(|object| object.path.clone()));
        let (objects, bytes) = (run.objects.len(), merged.bytes);
        self.lock().history.merged(run, merged);
        Job::Clearing { objects, bytes, rest }
    }

    async fn clear(&self, rest: &mut Vec<String>, exclusive: &dyn Exclusive, stop: &Stop) -> Result<(), MergeError> {
        exclusive.confirm().await?;
        let uploader = &self.core.uploader;
        while let Some(object) = rest.last() {
            let path = Path::from(object.as_str());
            match uploader.patiently(stop, 0, uploader.store.delete(&path)).await {
                Ok(()) => {}
                Err(Failure::Store(e)) if matches!(*e, Error::NotFound { .. }) => {}
                Err(failure) => return Err(failure.into()),
            }
            rest.pop();
        }
        Ok(())
    }
}

fn head_of(merged: &Committed) -> Option<String> {
    let name = merged.name();
    Some(merged_head_path(name.store_id, name.tag?))
}
