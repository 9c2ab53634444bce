//! The driver without threads and clock: nothing happens unless its owner makes it happen, in the order that the owner
//! chooses; the same order gives the same history.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use logtide_model::{RegionId, StoreId};
use parking_lot::Mutex;
use raft::eraftpb::MessageType;

use super::{Cluster, Input};
use crate::raftstore::{Reply, StoreCore, StoreMessage};
use crate::rpc::{KvRequest, KvResponse, RegionError};
use crate::transport::{Envelope, Network};

/// See the module. Cloning shares it.
#[derive(Clone)]
pub struct Steps(Arc<Inner>);

struct Inner {
    network: Arc<Network>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Time of the network: messages that are late arrive at one.
    now: u64,
    stores: BTreeMap<StoreId, Store>,
    /// Messages on their way, in the order in which they were sent, with the time when they may arrive.
    flying: Vec<(u64, Envelope)>,
}

struct Store {
    core: StoreCore,
    rx: Receiver<Input>,
    /// Keeps the queue open.
    _tx: Sender<Input>,
}

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flying {
    /// Who sent it.
    pub from: StoreId,
    /// Who will get it.
    pub to: StoreId,
    /// The raft group.
    pub region_id: RegionId,
    /// What it is.
    pub kind: MessageType,
    /// Ticks of the network until it may arrive.
    pub late: u64,
}

impl Steps {
    pub(crate) fn new(network: Arc<Network>) -> Self {
        Steps(Arc::new(Inner { network, state: Mutex::default() }))
    }

    pub(crate) fn start(&self, store: StoreId, core: StoreCore, tx: Sender<Input>, rx: Receiver<Input>) {
        self.0.state.lock().stores.insert(store, Store { core, rx, _tx: tx });
    }

    pub(crate) fn stop(&self, store: StoreId) {
        let mut state = self.0.state.lock();
        let gone = state.stores.remove(&store);
        state.flying.retain(|(_, envelope)| envelope.to != store);
        drop(state);
        // Whoever waits for it learns of it now, and may do something about it.
        drop(gone);
    }

    /// A store takes in what it was asked, and does what there is to do, once. False if that is nothing.
    pub fn step(&self, store: StoreId) -> bool {
        self.0.state.lock().step(store, &self.0.network)
    }

    /// A tick passes on one store.
    pub fn tick(&self, store: StoreId) {
        if let Some(store) = self.0.state.lock().stores.get_mut(&store) {
            store.core.tick();
        }
    }

    /// A tick passes on all stores and on the network.
    pub fn tick_all(&self) {
        let mut state = self.0.state.lock();
        state.now += 1;
        state.stores.values_mut().for_each(|s| s.core.tick());
    }

    /// A tick passes on the network.
    pub fn advance_network(&self) {
        self.0.state.lock().now += 1;
    }

    /// The messages on their way, in the order in which they were sent.
    pub fn flying(&self) -> Vec<Flying> {
        let state = self.0.state.lock();
        let show = |(due, e): &(u64, Envelope)| Flying {
            from: e.from,
            to: e.to,
            region_id: e.region_id,
            kind: e.message.get_msg_type(),
            late: due.saturating_sub(state.now),
        };
        state.flying.iter().map(show).collect()
    }

    /// Lets the `n`th message that is on its way arrive, late or not; the store looks at it in its next step.
    pub fn deliver(&self, n: usize) -> bool {
        self.0.state.lock().deliver(n)
    }

    /// Lets all messages arrive that are not late.
    pub fn deliver_all(&self) -> usize {
        self.0.state.lock().deliver_due()
    }

    /// One turn for everybody: every store steps, and what is not late arrives. If only late messages are left, the
    /// network ticks. False if there is nothing to do at all, unless a store ticks.
    pub fn turn(&self) -> bool {
        let mut state = self.0.state.lock();
        let stores: Vec<StoreId> = state.stores.keys().copied().collect();
        let mut busy = false;
        for store in stores {
            busy |= state.step(store, &self.0.network);
        }
        busy |= state.deliver_due() > 0;
        if !busy && !state.flying.is_empty() {
            state.now += 1;
            busy = true;
        }
        busy
    }

    /// Turns until there is nothing to do.
    pub fn settle(&self) {
        while self.turn() {}
    }
}

impl State {
    fn step(&mut self, store: StoreId, network: &Network) -> bool {
        let Some(Store { core, rx, .. }) = self.stores.get_mut(&store) else { return false };
        let mut busy = false;
        while let Ok(input) = rx.try_recv() {
            busy = true;
            match input {
                Input::Message(message) => core.handle(message),
                Input::Late(_, envelope) => core.handle(StoreMessage::Raft(envelope)),
            }
        }
        let mut out = Vec::new();
        match core.poll(&mut out) {
            Ok(more) => busy |= more || !out.is_empty(),
            Err(error) => tracing::error!(store, %error, "the engine failed"),
        }
        for envelope in out {
            let now = self.now;
            network.route(envelope, |delay, envelope| self.flying.push((now + u64::from(delay), envelope)));
        }
        busy
    }

    fn deliver(&mut self, n: usize) -> bool {
        if n >= self.flying.len() {
            return false;
        }
        let (_, envelope) = self.flying.remove(n);
        if let Some(store) = self.stores.get_mut(&envelope.to) {
            store.core.handle(StoreMessage::Raft(envelope));
        }
        true
    }

    fn deliver_due(&mut self) -> usize {
        let now = self.now;
        let due: Vec<_> = self.flying.extract_if(.., |(due, _)| *due <= now).collect();
        let n = due.len();
        for (_, envelope) in due {
            if let Some(store) = self.stores.get_mut(&envelope.to) {
                store.core.handle(StoreMessage::Raft(envelope));
            }
        }
        n
    }
}

/// Something that a store was asked and has not answered yet.
#[derive(Debug)]
pub struct Ticket<T = KvResponse>(Receiver<Result<T, RegionError>>);

impl<T: Send + 'static> Ticket<T> {
    /// A ticket, and what its answer is to be given to.
    pub(crate) fn new() -> (Self, Reply<T>) {
        let (tx, rx) = crossbeam_channel::bounded(1);
        (Ticket(rx), Box::new(move |answer| drop(tx.send(answer))))
    }

    pub(crate) fn receiver(&self) -> &Receiver<Result<T, RegionError>> {
        &self.0
    }

    /// Its answer, once: `None` as long as there is none. The answer of a store that was stopped is
    /// [`RegionError::Undetermined`].
    pub fn take(&self) -> Option<Result<T, RegionError>> {
        match self.0.try_recv() {
            Ok(answer) => Some(answer),
            Err(crossbeam_channel::TryRecvError::Empty) => None,
            Err(crossbeam_channel::TryRecvError::Disconnected) => {
                Some(Err(RegionError::Undetermined("the store stopped".to_owned())))
            }
        }
    }
}

impl Cluster {
    /// Gives a store a command without waiting for its answer.
    pub fn submit(&self, store: StoreId, request: KvRequest) -> Ticket {
        let (ticket, reply) = Ticket::new();
        if let Some(node) = self.0.node(store) {
            node.service.submit(request, reply);
        }
        ticket
    }
}
