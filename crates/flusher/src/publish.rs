//! The publisher: what is committed is named by the boot's head, then its facts become known, in order (I1).
//!
//! It calls the [`logtide_model::Publisher`], and can do so only with the rights that [`logtide_checkpoint::Generations`]
//! hands out once a generation and all before it are committed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide_checkpoint::Publish;
use logtide_format::{encode_head, head_path};
use logtide_model::{Publication, PublishError};

use crate::in_flight::Core;
use crate::retry::{Lost, seed};
use crate::state::{Closed, Job};
use crate::upload::Stop;
use crate::{FlushEvent, Flushed, Setback};

impl Core {
    /// Publishes until the flusher is stopped.
    pub(crate) async fn publish_in_order(self: Arc<Self>) {
        let stop = self.stop_of(0);
        while !stop.is_stopped() {
            let next = self.lock().generations.next_publish();
            match next {
                Some(publish) => self.publish(publish).await,
                None => tokio::select! {
                    biased;
                    () = stop.stopped() => return,
                    () = self.committed.notified() => {}
                },
            }
        }
    }

    async fn publish(&self, mut publish: Publish<Job>) {
        let generation = publish.generation();
        let began = Instant::now();
        let (job, stop) = (&publish.value, self.stop_of(generation));
        if self.name_head(&job.publication, &stop).await.is_err() || !self.publish_facts(job, &stop).await {
            return self.free(publish.value);
        }
        publish.value.took.publish = began.elapsed();
        let job = self.lock().generations.published(publish);
        self.finish(self.clear(generation, job).await);
    }

    /// Makes the newest metadata object the one that the boot's head names, if it does not yet. Only then may anything rest
    /// on it or on those before it: a reader who finds the head without the object knows that it is lost. One head is
    /// enough for all that were committed while the last one was on its way.
    async fn name_head(&self, of: &Publication, stop: &Stop) -> Result<(), Lost> {
        let unnamed = std::mem::take(&mut self.lock().unnamed);
        let Some(newest) = unnamed.last() else { return Ok(()) };
        let head = head_path(of.store_id, of.boot);
        self.uploader.overwrite(&head, &encode_head(&newest.path), stop, &|event| self.tell(event)).await?;
        self.remember(unnamed);
        Ok(())
    }

    /// Publishes, however long it takes; false if that has become pointless.
    pub(crate) async fn publish_facts(&self, job: &Job, stop: &Stop) -> bool {
        let seed = seed(&format!("{} {}", job.publication.task, job.publication.store_id));
        let mut failures = 0u32;
        loop {
            let (error, at_least) = tokio::select! {
                biased;
                () = stop.stopped() => return false,
                answer = self.try_publish(job) => match answer {
                    Ok(()) => return true,
                    Err(PublishError::TaskGone(_)) => return self.end(Closed::TaskGone),
                    Err(PublishError::Superseded { .. }) => return self.end(Closed::Superseded),
                    Err(e @ PublishError::Unavailable { retry_after, .. }) => (e.to_string(), retry_after),
                    Err(e) => (e.to_string(), None),
                },
            };
            failures = failures.saturating_add(1);
            let next = self.uploader.config.backoff.delay(failures, seed).max(at_least.unwrap_or(Duration::ZERO));
            let generation = stop.generation;
            let (what, setback) = ("publish".to_owned(), Setback::Passing);
            self.tell(FlushEvent::Retrying { generation, what, error, failures, next, setback });
            tokio::select! {
                biased;
                () = stop.stopped() => return false,
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    fn end(&self, why: Closed) -> bool {
        self.close(why);
        false
    }

    async fn try_publish(&self, job: &Job) -> Result<(), PublishError> {
        let (publisher, publication) = (self.publisher.clone(), job.publication.clone());
        match self.offload(move || publisher.publish(&publication)).await {
            Ok(answer) => answer,
            Err(e) => Err(PublishError::Unavailable { cause: e.to_string(), retry_after: None }),
        }
    }

    /// Frees the spool and sums up.
    async fn clear(&self, generation: u64, job: Job) -> Flushed {
        let objects = job.plan.data.len() + job.plan.commits().count();
        let bytes = job.plan.data_bytes() + job.plan.commit_bytes();
        let (mut took, submitted) = (job.took, job.submitted);
        let began = Instant::now();
        // A panic while a file is removed would leave the file, and nothing else.
        let _ = self.offload(move || drop(job)).await;
        took.clear_temp_files = began.elapsed();
        took.total = submitted.elapsed();
        Flushed { generation, objects, bytes, took }
    }
}
