//! The runner of a task on this store: it decides when to seal, takes the barrier, confirms leadership, sends the
//! markers, and hands the sealed generation to the flusher. It does not own: what is appended (shards), what is uploaded
//! and published (flusher), threads and clocks (whoever polls it).

mod flights;
mod rhythm;
mod sealing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use logtide_flusher::{FlushError, Flushed, Flusher};
use logtide_model::{Diagnose, HostError, Task, Ts};
use logtide_shard::SealedShard;
use tracing::{debug, info, warn};

use crate::Config;
use crate::node::Node;
use crate::progress::TaskProgress;
use flights::{Flight, Flights};
pub(crate) use rhythm::Beat;
use rhythm::Rhythm;
use sealing::Sealing;

/// The generation that was published, or why it was not.
pub(crate) type Published = Result<u64, String>;

/// Told when the generation that was asked for is published, or certain not to be.
pub(crate) type FlushAnswer = Sender<Published>;

/// What a runner can be asked.
pub(crate) enum Command {
    /// Flush now.
    Flush(FlushAnswer),
    /// End. With `flush`, what was observed is flushed before, within the time given.
    Stop {
        /// How long a last flush may take; `None` for no flush.
        flush: Option<Duration>,
    },
}

/// How a runner ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was asked to.
    Stopped,
    /// A generation was lost: the task has to begin anew on this store, in a new boot epoch.
    Poisoned,
    /// The task is over, as the coordinator has it.
    TaskGone,
    /// A newer boot epoch of this store was taken.
    Superseded,
}

/// The end that was asked for.
struct Closing {
    /// The last flush has not been sealed yet.
    to_seal: bool,
    until: Instant,
}

/// See the module.
pub(crate) struct Runner {
    node: Node,
    task: Arc<Task>,
    flusher: Flusher,
    boot: u64,
    progress: Arc<TaskProgress>,
    generation: u64,
    last_flush_ts: Ts,
    /// The settings that are in force here.
    config: Arc<Config>,
    rhythm: Rhythm,
    asked: Vec<FlushAnswer>,
    sealing: Option<Sealing>,
    in_flight: Flights,
    closing: Option<Closing>,
    ended: Option<Ended>,
}

impl Runner {
    pub(crate) fn new(
        node: Node,
        task: Arc<Task>,
        flusher: Flusher,
        boot: u64,
        progress: Arc<TaskProgress>,
        now: Instant,
    ) -> Self {
        let (config, rhythm) = (node.config(), Rhythm::new(node.host.store_id(), now));
        Runner {
            node,
            task,
            flusher,
            boot,
            progress,
            generation: 0,
            last_flush_ts: Ts::ZERO,
            config,
            rhythm,
            asked: Vec::new(),
            sealing: None,
            in_flight: Flights::default(),
            closing: None,
            ended: None,
        }
    }

    /// The boot epoch that it publishes in.
    pub(crate) fn boot(&self) -> u64 {
        self.boot
    }

    /// Asks it something.
    pub(crate) fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Flush(answer) => {
                self.asked.push(answer);
                self.rhythm.hurry();
            }
            Command::Stop { .. } if self.closing.is_some() => {}
            Command::Stop { flush } => {
                let until = now + flush.unwrap_or_default();
                self.closing = Some(Closing { to_seal: flush.is_some(), until });
                self.rhythm.hurry();
            }
        }
    }

    /// A shard's part of the generation that is being sealed; anything else is old.
    pub(crate) fn part(&mut self, part: SealedShard) {
        if let Some(sealing) = &mut self.sealing
            && sealing.generation == part.generation
        {
            sealing.add(part);
        }
    }

    /// Does what is due. Once it says how it ended, it is over.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Ended> {
        self.follow_settings();
        if let Some(ended) = self.reap(now) {
            self.ended.get_or_insert(ended);
        }
        if let Some(sealing) = self.sealing.take_if(|sealing| sealing.is_complete()) {
            self.submit(sealing);
        }
        // What was begun is finished first, so that no part of it can reach a runner after this one. If the store goes
        // down, the shards may answer no more: the generation is lost, and nothing may be sealed after it.
        if self.sealing.is_some() && !self.node.stop.is_raised() {
            return None;
        }
        let ended = self.ended.or_else(|| self.next_step(now))?;
        self.asked.drain(..).for_each(|asked| drop(asked.send(Err("the task ends on this store".to_owned()))));
        Some(ended)
    }

    fn next_step(&mut self, now: Instant) -> Option<Ended> {
        if self.sealing.is_some() {
            return Some(Ended::Stopped);
        }
        let Some(closing) = &self.closing else {
            if self.is_due(now) {
                self.try_seal(now);
            }
            return None;
        };
        if now >= closing.until {
            if closing.to_seal || !self.in_flight.is_empty() {
                warn!(task = %self.task.name, "the last flush did not end in time; it is caught up after a restart");
            }
            return Some(Ended::Stopped);
        }
        if closing.to_seal {
            if self.rhythm.is_due(now, &self.config, false) {
                self.try_seal(now);
            }
            return None;
        }
        self.in_flight.is_empty().then_some(Ended::Stopped)
    }

    /// Settings may change while it works.
    fn follow_settings(&mut self) {
        let config = self.node.config();
        if !Arc::ptr_eq(&config, &self.config) {
            self.flusher.set_limits(config.file_size_limit.as_u64(), config.upload_concurrency);
            self.config = config;
            self.show_beat();
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let room = self.in_flight.len() < self.config.generations_in_flight;
        let (open, spool) = (self.progress.open_bytes(), &self.node.room);
        // What makes the spool tight may be what is open: nothing else would make room before the interval is over.
        let is_in_the_way = spool.is_tight() && open >= spool.memory.limit() as u64 / 4;
        let is_full = open >= self.config.file_size_limit.as_u64() || is_in_the_way;
        room && self.rhythm.is_due(now, &self.config, is_full)
    }

    /// Seals; what fails is tried again soon.
    fn try_seal(&mut self, now: Instant) {
        if let Err(error) = self.seal(now) {
            self.rhythm.failed(now, &self.config);
            self.node.metrics.errors.with_label_values(&[error.code().as_str()]).inc();
            self.progress.degraded(error.code().as_str(), format!("cannot seal: {error}"));
            debug!(task = %self.task.name, %error, "cannot seal now");
        }
    }

    fn seal(&mut self, now: Instant) -> Result<(), HostError> {
        let mut sealing = Sealing::begin(&self.node, &self.task, self.generation + 1, now)?;
        sealing.asked = std::mem::take(&mut self.asked);
        self.generation += 1;
        sealing.taken_for = self.rhythm.sealed(self.generation, now, &self.config);
        self.sealing = Some(sealing);
        if let Some(closing) = &mut self.closing {
            closing.to_seal = false;
        }
        Ok(())
    }

    fn submit(&mut self, mut sealing: Sealing) {
        self.last_flush_ts = sealing.barrier.max(self.last_flush_ts.next());
        let asked = std::mem::take(&mut sealing.asked);
        let (sealed_at, taken_for) = (sealing.begun_at, sealing.taken_for);
        let sealed = sealing.assemble(&self.node, &self.task, self.boot, self.last_flush_ts);
        let checkpoint = sealed.facts.iter().map(|fact| fact.checkpoint).min();
        self.progress.sealed(sealed.facts.len(), checkpoint);
        let generation = sealed.generation;
        let answer = self.flusher.submit(sealed);
        self.in_flight.push(Flight { generation, answer, asked, sealed_at, taken_for });
        self.show_in_flight();
    }

    /// Takes back generations that are done, in order.
    fn reap(&mut self, now: Instant) -> Option<Ended> {
        while let Some((done, result)) = self.in_flight.landed() {
            self.show_in_flight();
            if let Some(ended) = self.finished(&done, result, now) {
                return Some(ended);
            }
        }
        None
    }

    fn finished(&mut self, done: &Flight, result: Result<Flushed, FlushError>, now: Instant) -> Option<Ended> {
        let task = &self.task.name;
        match result {
            Ok(flushed) => {
                self.rhythm.flushed(flushed.objects, done.taken_for, now.saturating_duration_since(done.sealed_at));
                self.progress.flushed(done.generation, &flushed);
                self.show_beat();
                None
            }
            Err(FlushError::TaskGone(_)) => {
                info!(%task, "the task is over");
                Some(Ended::TaskGone)
            }
            Err(FlushError::Superseded { .. }) => Some(Ended::Superseded),
            Err(error) => {
                warn!(%task, generation = done.generation, %error, "a generation was lost; the task begins anew here");
                Some(Ended::Poisoned)
            }
        }
    }

    fn show_beat(&self) {
        self.progress.flushes_by(self.rhythm.beat(&self.config));
    }

    fn show_in_flight(&self) {
        let gauge = &self.node.metrics.generations_in_flight;
        gauge.with_label_values(&[self.task.name.as_str()]).set(self.in_flight.len() as i64);
    }
}
