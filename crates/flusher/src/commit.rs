//! The committer: one generation after the other is committed, then published (I1).
//!
//! It is the only place that puts metadata objects and calls the publisher, and it can do so only with the rights that
//! [`logtide_checkpoint::Generations`] hands out in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use logtide_checkpoint::{Commit, Publish};
use logtide_format::{encode_head, head_path};
use logtide_model::planted::Bug;
use logtide_model::{Publication, PublishError};

use crate::in_flight::{Closed, Core, Discarded, Job};
use crate::retry::{Lost, seed};
use crate::upload::Stop;
use crate::{FlushEvent, Flushed, ObjectKind, Setback};

enum Step {
    Commit(Commit<Job>),
    Publish(Publish<Job>),
}

impl Core {
    /// Commits and publishes until the flusher is stopped.
    pub(crate) async fn commit_in_order(self: Arc<Self>) {
        let stop = self.stop_of(0);
        while !stop.is_stopped() {
            match self.next_step() {
                Some(Step::Publish(publish)) => self.publish(publish).await,
                Some(Step::Commit(commit)) => self.commit(commit).await,
                None => tokio::select! {
                    biased;
                    () = stop.stopped() => return,
                    // It keeps a call that came since the last step was looked for.
                    () = self.turn.notified() => {}
                },
            }
        }
    }

    fn next_step(&self) -> Option<Step> {
        let generations = &mut self.lock().generations;
        let publish = generations.next_publish().map(Step::Publish);
        publish.or_else(|| generations.next_commit().map(Step::Commit))
    }

    async fn commit(&self, mut commit: Commit<Job>) {
        let generation = commit.generation();
        let began = Instant::now();
        if Bug::PublishedTooEarly.is_planted() {
            self.publish_facts(&commit.value, &self.stop_of(generation)).await;
        }
        let job = &mut commit.value;
        job.took.wait_turn = began.duration_since(job.uploaded);
        if self.put_commit(job, &self.stop_of(generation)).await.is_err() {
            return self.free(commit.value);
        }
        job.took.commit = began.elapsed();
        let committed = self.lock().generations.committed(commit);
        match committed {
            Ok(()) => self.tell(FlushEvent::Committed { generation }),
            // Discarded in the meantime: its facts must not be published.
            Err(job) => self.free(job),
        }
    }

    /// Makes the marks durable, then the metadata object. Only now: that nothing is missing up to where a mark begins
    /// follows from the generations before, and they are committed.
    async fn put_commit(&self, job: &Job, stop: &Stop) -> Result<(), Discarded> {
        if let Some(marks) = &job.plan.marks
            && !Bug::MarkForgotten.is_planted()
        {
            self.store(marks, ObjectKind::Marks, &job.spools, stop).await?;
        }
        if let Some(metadata) = &job.plan.metadata {
            self.store(metadata, ObjectKind::Metadata, &job.spools, stop).await?;
            self.name_head(&metadata.path, &job.publication, stop).await.map_err(|_| Discarded)?;
            self.remember(metadata);
        }
        Ok(())
    }

    /// Makes the metadata object the one that the boot's head names. Only then may anything rest on it: a reader who
    /// finds the head without the object knows that it is lost.
    async fn name_head(&self, metadata: &str, of: &Publication, stop: &Stop) -> Result<(), Lost> {
        let head = head_path(of.store_id, of.boot);
        self.uploader.overwrite(&head, &encode_head(metadata), stop, &|event| self.tell(event)).await
    }

    async fn publish(&self, mut publish: Publish<Job>) {
        let generation = publish.generation();
        let began = Instant::now();
        if !self.publish_facts(&publish.value, &self.stop_of(generation)).await {
            self.free(publish.value);
            return;
        }
        publish.value.took.publish = began.elapsed();
        let job = self.lock().generations.published(publish);
        self.finish(self.clear(generation, job).await);
    }

    /// Publishes, however long it takes; false if that has become pointless.
    async fn publish_facts(&self, job: &Job, stop: &Stop) -> bool {
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
