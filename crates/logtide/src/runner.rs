//! The runner of a task on this store: it decides when to seal, takes the barrier, confirms leadership, sends the
//! markers, and hands the sealed generation to the flusher. It does not own: what is appended (shards), what is uploaded
//! and published (flusher).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use logtide_flusher::{FlushError, Flushed, Flusher, SealedGeneration};
use logtide_model::message::{SealMarker, ShardMessage};
use logtide_model::{Confirmed, Diagnose, HostError, LocalRegion, RegionId, Role, Task, Ts};
use logtide_shard::SealedShard;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use crate::node::Node;
use crate::progress::TaskProgress;

/// How often a runner looks whether something is due.
const TICK: Duration = Duration::from_millis(50);
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

/// What a runner is given.
pub(crate) struct Runner {
    pub(crate) node: Node,
    pub(crate) task: Arc<Task>,
    pub(crate) flusher: Flusher,
    pub(crate) boot: u64,
    pub(crate) commands: Receiver<Command>,
    pub(crate) sealed: Receiver<SealedShard>,
    pub(crate) progress: Arc<TaskProgress>,
}

/// A generation that the flusher has.
struct InFlight {
    generation: u64,
    answer: oneshot::Receiver<Result<Flushed, FlushError>>,
    asked: Vec<FlushAnswer>,
}

/// A running runner.
struct Running {
    runner: Runner,
    generation: u64,
    last_flush_ts: Ts,
    next_flush: Instant,
    asked: Vec<FlushAnswer>,
    in_flight: VecDeque<InFlight>,
}

impl Runner {
    /// Runs until the end.
    pub(crate) fn run(self) -> Ended {
        let next_flush = Instant::now() + self.node.config.max_flush_interval;
        let mut running = Running {
            runner: self,
            generation: 0,
            last_flush_ts: Ts::ZERO,
            next_flush,
            asked: Vec::new(),
            in_flight: VecDeque::new(),
        };
        running.run()
    }

    fn led_regions(&self) -> Vec<RegionId> {
        let leads = |r: &LocalRegion| r.role == Role::Leader;
        let regions = self.task.ranges.iter().flat_map(|range| self.node.host.regions(range));
        let mut ids: Vec<_> = regions.filter(leads).map(|r| r.region.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

impl Running {
    fn run(&mut self) -> Ended {
        loop {
            match self.runner.commands.recv_timeout(TICK) {
                Ok(Command::Flush(answer)) => {
                    self.asked.push(answer);
                    self.next_flush = Instant::now();
                }
                Ok(Command::Stop { flush }) => return self.stop(flush),
                Err(RecvTimeoutError::Disconnected) => return Ended::Stopped,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(ended) = self.reap() {
                return ended;
            }
            if self.is_due()
                && let Some(ended) = self.try_seal()
            {
                return ended;
            }
        }
    }

    fn is_due(&self) -> bool {
        let config = &self.runner.node.config;
        let room = self.in_flight.len() < config.generations_in_flight;
        room && (Instant::now() >= self.next_flush
            || self.runner.progress.open_bytes() >= config.file_size_limit.as_u64())
    }

    /// Seals, and hands over; what fails is tried again soon.
    fn try_seal(&mut self) -> Option<Ended> {
        let config = &self.runner.node.config;
        let interval = config.max_flush_interval;
        match self.seal() {
            Ok(Some(sealed)) => {
                self.next_flush = Instant::now() + interval;
                self.submit(sealed);
            }
            Ok(None) => return Some(Ended::Stopped),
            Err(error) => {
                self.next_flush = Instant::now() + RETRY.min(interval);
                self.runner.node.metrics.errors.with_label_values(&[error.code().as_str()]).inc();
                self.runner.progress.degraded(error.code().as_str(), format!("cannot seal: {error}"));
                debug!(task = %self.runner.task.name, %error, "cannot seal now");
            }
        }
        None
    }

    /// The order binds (I3): the barrier, then leadership, then the markers.
    fn seal(&mut self) -> Result<Option<SealedGeneration>, HostError> {
        let node = &self.runner.node;
        let barrier = node.host.commit_barrier()?;
        let deadline = Instant::now() + node.config.confirm_timeout;
        let confirmed = node.host.confirm_leadership(&self.runner.led_regions(), deadline);
        let confirmed: HashMap<RegionId, Confirmed> = confirmed.into_iter().map(|c| (c.region_id, c)).collect();
        self.generation += 1;
        let task = self.runner.task.name.clone();
        let marker = Arc::new(SealMarker { task, generation: self.generation, barrier, confirmed });
        node.observer.broadcast(|_| ShardMessage::Seal(marker.clone()));
        let Some(parts) = self.collect(node.observer.shards()) else { return Ok(None) };
        self.last_flush_ts = barrier.max(self.last_flush_ts.next());
        Ok(Some(self.assemble(parts, barrier)))
    }

    /// Waits for every shard's part. Shards answer in the order of their queues, so this ends when they have caught up.
    /// Answers `None` if the store goes down meanwhile: the generation is lost, and nothing may be sealed after it.
    fn collect(&self, shards: usize) -> Option<Vec<SealedShard>> {
        let mut parts = Vec::with_capacity(shards);
        while parts.len() < shards {
            match self.runner.sealed.recv_timeout(TICK) {
                Ok(part) => parts.push(part),
                Err(_) if self.runner.node.stop.is_raised() => return None,
                Err(_) => {}
            }
        }
        parts.sort_by_key(|part| part.shard);
        Some(parts)
    }

    fn assemble(&self, parts: Vec<SealedShard>, barrier: Ts) -> SealedGeneration {
        let mut spools = Vec::with_capacity(parts.len());
        let mut regions = BTreeMap::new();
        let mut facts = Vec::new();
        for part in parts {
            spools.push(part.spool);
            facts.extend(part.facts);
            regions.extend(part.regions.into_iter().map(|(id, region)| (id, (region.note, region.resolved_ts))));
        }
        let resolved_ts = facts.iter().map(|fact| fact.checkpoint).min().unwrap_or(barrier);
        SealedGeneration {
            task: self.runner.task.clone(),
            store_id: self.runner.node.host.store_id(),
            boot: self.runner.boot,
            generation: self.generation,
            flush_ts: self.last_flush_ts,
            resolved_ts,
            spools,
            regions,
            facts,
        }
    }

    fn submit(&mut self, sealed: SealedGeneration) {
        let checkpoint = sealed.facts.iter().map(|fact| fact.checkpoint).min();
        self.runner.progress.sealed(sealed.facts.len(), checkpoint);
        let generation = sealed.generation;
        let answer = self.runner.flusher.submit(sealed);
        self.in_flight.push_back(InFlight { generation, answer, asked: std::mem::take(&mut self.asked) });
        self.show_in_flight();
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
        let task = &self.runner.task.name;
        match result {
            Ok(flushed) => {
                self.runner.progress.flushed(done.generation, &flushed);
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

    /// A last flush that waits for all generations, if asked; then the end.
    fn stop(&mut self, flush: Option<Duration>) -> Ended {
        if let Some(limit) = flush {
            let deadline = Instant::now() + limit;
            self.last_flush(deadline);
        }
        self.asked.drain(..).for_each(|asked| drop(asked.send(Err("the task ends on this store".to_owned()))));
        Ended::Stopped
    }

    fn last_flush(&mut self, deadline: Instant) {
        match self.seal() {
            Ok(Some(sealed)) => self.submit(sealed),
            Ok(None) => return,
            Err(error) => warn!(task = %self.runner.task.name, %error, "the last flush could not be sealed"),
        }
        while let Some(mut oldest) = self.in_flight.pop_front() {
            let result = loop {
                match oldest.answer.try_recv() {
                    Ok(result) => break Some(result),
                    Err(oneshot::error::TryRecvError::Empty) if Instant::now() < deadline => {
                        std::thread::sleep(TICK / 10);
                    }
                    Err(_) => break None,
                }
            };
            let Some(result) = result else {
                warn!(task = %self.runner.task.name, "the last flush did not end in time; it is caught up after a restart");
                return;
            };
            self.finished(oldest, result);
        }
    }

    fn show_in_flight(&self) {
        let gauge = &self.runner.node.metrics.generations_in_flight;
        gauge.with_label_values(&[self.runner.task.name.as_str()]).set(self.in_flight.len() as i64);
    }
}
