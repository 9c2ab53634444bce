//! The driver with threads: one per store, which waits for messages and for the next tick.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use logtide_model::StoreId;
use parking_lot::{Mutex, RwLock};

use super::{ClusterError, Input};
use crate::raftstore::{StoreCore, StoreMessage};
use crate::transport::{Envelope, Network};

/// Messages taken in before a poll: enough to share engine writes, few enough not to forget the clock.
const MESSAGES_PER_POLL: usize = 1024;

type Router = Arc<RwLock<BTreeMap<StoreId, Sender<Input>>>>;

/// See the module.
pub(crate) struct Threads {
    network: Arc<Network>,
    tick: Duration,
    router: Router,
    threads: Mutex<BTreeMap<StoreId, Running>>,
}

impl Threads {
    pub(crate) fn new(network: Arc<Network>, tick: Duration) -> Self {
        Threads { network, tick, router: Router::default(), threads: Mutex::default() }
    }

    pub(crate) fn start(
        &self,
        store: StoreId,
        core: StoreCore,
        tx: Sender<Input>,
        rx: Receiver<Input>,
    ) -> Result<(), ClusterError> {
        let (stop, stopped) = crossbeam_channel::bounded(1);
        let (network, router, tick) = (self.network.clone(), self.router.clone(), self.tick);
        let worker = Worker { core, rx, stopped, network, router, tick, late: Vec::new(), ticks: 0 };
        self.router.write().insert(store, tx);
        let thread = std::thread::Builder::new()
            .name(format!("store-{store}"))
            .spawn(move || worker.run(store))
            .map_err(|cause| ClusterError::Thread { store, cause: Arc::new(cause) })?;
        self.threads.lock().insert(store, Running { stop, thread });
        Ok(())
    }

    /// Stops a store and waits until its thread has ended.
    pub(crate) fn stop(&self, store: StoreId) {
        self.router.write().remove(&store);
        let Some(Running { stop, thread }) = self.threads.lock().remove(&store) else { return };
        drop(stop);
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!(store, "the thread of the store panicked");
        }
    }
}

/// A thread; it ends when `stop` is dropped.
struct Running {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

struct Worker {
    core: StoreCore,
    rx: Receiver<Input>,
    /// Disconnected when the store is to stop.
    stopped: Receiver<()>,
    network: Arc<Network>,
    router: Router,
    tick: Duration,
    /// Raft messages that are yet to arrive, by the tick at which they do.
    late: Vec<(u64, Envelope)>,
    ticks: u64,
}

impl Worker {
    fn run(mut self, store: StoreId) {
        let mut next_tick = Instant::now() + self.tick;
        let mut busy = true;
        loop {
            if self.stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected) {
                return;
            }
            self.take_messages(busy, next_tick);
            // After a pause (of the machine, or of the disk) one tick is enough: more would be an election for nothing.
            if Instant::now() >= next_tick {
                self.tick();
                next_tick = Instant::now() + self.tick;
            }
            let mut out = Vec::new();
            match self.core.poll(&mut out) {
                Ok(more) => busy = more,
                Err(error) => {
                    tracing::error!(store, %error, "the engine failed: the store stops");
                    return;
                }
            }
            self.send(out);
        }
    }

    fn take_messages(&mut self, busy: bool, until: Instant) {
        if !busy {
            let first = crossbeam_channel::select! {
                recv(self.rx) -> input => input.map_err(|_| RecvTimeoutError::Disconnected),
                recv(self.stopped) -> _ => Err(RecvTimeoutError::Disconnected),
                default(until.saturating_duration_since(Instant::now())) => Err(RecvTimeoutError::Timeout),
            };
            if let Ok(input) = first {
                self.take(input);
            }
        }
        for _ in 0..MESSAGES_PER_POLL {
            let Ok(input) = self.rx.try_recv() else { return };
            self.take(input);
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Message(message) => self.core.handle(message),
            Input::Late(delay, envelope) => self.late.push((self.ticks + u64::from(delay), envelope)),
        }
    }

    fn tick(&mut self) {
        self.ticks += 1;
        self.core.tick();
        let now = self.ticks;
        for (_, envelope) in self.late.extract_if(.., |(due, _)| *due <= now).collect::<Vec<_>>() {
            self.core.handle(StoreMessage::Raft(envelope));
        }
    }

    fn send(&self, out: Vec<Envelope>) {
        if out.is_empty() {
            return;
        }
        let router = self.router.read();
        for envelope in out {
            self.network.route(envelope, |delay, envelope| {
                let Some(to) = router.get(&envelope.to) else { return };
                let input = match delay {
                    0 => Input::Message(StoreMessage::Raft(envelope)),
                    _ => Input::Late(delay, envelope),
                };
                // A store that is just stopping does not hear; raft sends again.
                drop(to.send(input));
            });
        }
    }
}
