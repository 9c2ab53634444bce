//! The committer: one generation after the other is committed (I1).
//!
//! It is the only place that puts metadata objects, and it can do so only with the rights that
//! [`logtide_checkpoint::Generations`] hands out in order. What is committed goes to the publisher (`publish.rs`), which works
//! meanwhile: naming and publishing a generation does not hold back the commit of the next one.

use std::sync::Arc;
use std::time::Instant;

use logtide_checkpoint::Commit;
use logtide_model::planted::Bug;

use crate::in_flight::Core;
use crate::state::{Discarded, Job, Unnamed};
use crate::upload::Stop;
use crate::{FlushEvent, ObjectKind};

impl Core {
    /// Commits until the flusher is stopped.
    pub(crate) async fn commit_in_order(self: Arc<Self>) {
        let stop = self.stop_of(0);
        while !stop.is_stopped() {
            let next = self.lock().generations.next_commit();
            match next {
                Some(commit) => self.commit(commit).await,
                None => tokio::select! {
                    biased;
                    () = stop.stopped() => return,
                    // It keeps a call that came since the next one was looked for.
                    () = self.uploaded.notified() => {}
                },
            }
        }
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
        // Told before it is known to the publisher, who would tell of its publication first.
        self.tell(FlushEvent::Committed { generation });
        let metadata = commit.value.plan.metadata.as_ref();
        let unnamed = metadata.map(|metadata| Unnamed { path: metadata.path.clone(), bytes: metadata.bytes });
        let committed = {
            let mut state = self.lock();
            state.generations.committed(commit).inspect(|()| state.unnamed.extend(unnamed))
        };
        match committed {
            Ok(()) => self.committed.notify_one(),
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
        match &job.plan.metadata {
            Some(metadata) => self.store(metadata, ObjectKind::Metadata, &job.spools, stop).await,
            None => Ok(()),
        }
    }
}
