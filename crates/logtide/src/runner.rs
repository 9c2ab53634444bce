//! The runner of a task on this store: it decides when to seal, takes the barrier, confirms leadership, sends the
//! markers, and hands the sealed generation to the flusher. It does not own: what is appended (shards), what is uploaded
//! and published (flusher), threads and clocks (whoever polls it).

mod sealing;

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use logtide_flusher::{FlushError, Flushed, Flusher, SealedGeneration};
use logtide_format::Mark;
use logtide_model::{Diagnose, HostError, Task, Ts};
use logtide_shard::SealedShard;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use crate::node::Node;
use crate::progress::TaskProgress;
use sealing::Sealing;

/// How soon a seal that failed is tried again, at the latest.
const RETRY: Duration = Duration::from_secs(1);

/// Told when the generation that was asked for is published, or why it is not.
pub(crate) type FlushAnswer = Sender<Result<(), String>>;

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

/// A generation that the flusher has.
struct InFlight {
    generation: u64,
    answer: oneshot::Receiver<Result<Flushed, FlushError>>,
    asked: Vec<FlushAnswer>,
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
    next_flush: Instant,
    asked: Vec<FlushAnswer>,
    sealing: Option<Sealing>,
    in_flight: VecDeque<InFlight>,
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
        let mut runner = Runner {
            node,
            task,
            flusher,
            boot,
            progress,
            generation: 0,
            last_flush_ts: Ts::ZERO,
            next_flush: now,
            asked: Vec::new(),
            sealing: None,
            in_flight: VecDeque::new(),
            closing: None,
            ended: None,
        };
        runner.next_flush = now + runner.interval();
        runner
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
                self.next_flush = now;
            }
            Command::Stop { .. } if self.closing.is_some() => {}
            Command::Stop { flush } => {
                let until = now + flush.unwrap_or_default();
                self.closing = Some(Closing { to_seal: flush.is_some(), until });
                self.next_flush = now;
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
        if let Some(ended) = self.reap() {
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
            if now >= self.next_flush {
                self.try_seal(now);
            }
            return None;
        }
        self.in_flight.is_empty().then_some(Ended::Stopped)
    }

    fn is_due(&self, now: Instant) -> bool {
        let config = &self.node.config;
        let room = self.in_flight.len() < config.generations_in_flight;
        room && (now >= self.next_flush || self.progress.open_bytes() >= config.file_size_limit.as_u64())
    }

    /// Seals; what fails is tried again soon.
    fn try_seal(&mut self, now: Instant) {
        match self.seal(now) {
            Ok(()) => self.next_flush = now + self.interval(),
            Err(error) => {
                self.next_flush = now + RETRY.min(self.node.config.max_flush_interval);
                self.node.metrics.errors.with_label_values(&[error.code().as_str()]).inc();
                self.progress.degraded(error.code().as_str(), format!("cannot seal: {error}"));
                debug!(task = %self.task.name, %error, "cannot seal now");
            }
        }
    }

    /// The interval, up to an eighth shorter: stores that began together do not flush together for ever.
    fn interval(&self) -> Duration {
        let interval = self.node.config.max_flush_interval;
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let jitter = hasher.hash_one((self.node.host.store_id(), self.generation)) % 1024;
        interval - interval / 8 * jitter as u32 / 1024
    }

    fn seal(&mut self, now: Instant) -> Result<(), HostError> {
        let mut sealing = Sealing::begin(&self.node, &self.task, self.generation + 1, now)?;
        sealing.asked = std::mem::take(&mut self.asked);
        self.generation += 1;
        self.sealing = Some(sealing);
        if let Some(closing) = &mut self.closing {
            closing.to_seal = false;
        }
        Ok(())
    }

    fn submit(&mut self, mut sealing: Sealing) {
        self.last_flush_ts = sealing.barrier.max(self.last_flush_ts.next());
        let asked = std::mem::take(&mut sealing.asked);
        let sealed = self.assemble(sealing);
        let checkpoint = sealed.facts.iter().map(|fact| fact.checkpoint).min();
        self.progress.sealed(sealed.facts.len(), checkpoint);
        let generation = sealed.generation;
        let answer = self.flusher.submit(sealed);
        self.in_flight.push_back(InFlight { generation, answer, asked });
        self.show_in_flight();
    }

    fn assemble(&self, sealing: Sealing) -> SealedGeneration {
        let Sealing { generation, barrier, parts, .. } = sealing;
        let mut spools = Vec::with_capacity(parts.len());
        let mut regions = BTreeMap::new();
        let (mut facts, mut marks) = (Vec::new(), Vec::new());
        for part in parts.into_values() {
            spools.push(part.spool);
            facts.extend(part.facts);
            marks.extend(part.marks);
            regions.extend(part.regions.into_iter().map(|(id, region)| (id, (region.note, region.resolved_ts))));
        }
        let resolved_ts = facts.iter().map(|fact| fact.checkpoint).min().unwrap_or(barrier);
        SealedGeneration {
            task: self.task.clone(),
            store_id: self.node.host.store_id(),
            boot: self.boot,
            generation,
            flush_ts: self.last_flush_ts,
            resolved_ts,
            spools,
            regions,
            marks: self.ended_by_now(marks),
            facts,
        }
    }

    /// What is marked may have come after the barrier, and was there when all shards had answered: now. Without a
    /// timestamp it is not known when that is, and no base is above it.
    fn ended_by_now(&self, mut marks: Vec<Mark>) -> Vec<Mark> {
        if !marks.is_empty() {
            let now = self.node.host.timestamp().unwrap_or(Ts::MAX);
            marks.iter_mut().for_each(|mark| mark.before = mark.before.max(now));
        }
        marks
    }

    /// Takes back generations that are done, in order.
    fn reap(&mut self) -> Option<Ended> {
        loop {
            let oldest = self.in_flight.front_mut()?;
            let result = match oldest.answer.try_recv() {
                Ok(result) => result,
                Err(oneshot::error::TryRecvError::Empty) => return None,
                Err(oneshot::error::TryRecvError::Closed) => Err(FlushError::Stopped { generation: oldest.generation }),
            };
            let done = self.in_flight.pop_front()?;
            self.show_in_flight();
            if let Some(ended) = self.finished(done, result) {
                return Some(ended);
            }
        }
    }

    fn finished(&self, done: InFlight, result: Result<Flushed, FlushError>) -> Option<Ended> {
        let told = result.as_ref().map(|_| ()).map_err(ToString::to_string);
        done.asked.iter().for_each(|asked| drop(asked.send(told.clone())));
        let task = &self.task.name;
        match result {
            Ok(flushed) => {
                self.progress.flushed(done.generation, &flushed);
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

    fn show_in_flight(&self) {
        let gauge = &self.node.metrics.generations_in_flight;
        gauge.with_label_values(&[self.task.name.as_str()]).set(self.in_flight.len() as i64);
    }
}
