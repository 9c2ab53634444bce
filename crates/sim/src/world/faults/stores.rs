//! What happens to the processes of stores: crashes, second ones, little memory, other settings.

use bytesize::ByteSize;
use logtide_model::StoreId;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::violation::Violation;
use crate::world::World;
use crate::world::node::{LITTLE_MEMORY, MEMORY, Settings};

impl World {
    pub(super) fn crash(&mut self, n: u8) {
        let store = self.store(n);
        // A majority goes on, or nothing would be worth looking at.
        if self.stopped.is_empty() && self.stopped.insert(store) {
            self.nodes.remove(&store);
            self.cluster.stop_store(store);
        }
    }

    /// The store whose process crashed at a durable step stops; it starts again some ticks later, and at once if another
    /// one is down.
    pub(crate) fn bury_and_revive(&mut self) -> Result<(), Violation> {
        if let Some(store) = self.durable.take_dead() {
            if self.stopped.is_empty() && self.nodes.remove(&store).is_some() {
                self.stopped.insert(store);
                self.cluster.stop_store(store);
                self.revival = Some((store, self.ticks + 8));
            } else if self.nodes.remove(&store).is_some() {
                self.start_node(store)?;
            }
        }
        match self.revival.take_if(|(_, at)| *at <= self.ticks) {
            Some((store, _)) if self.stopped.contains(&store) => self.bring_back(store),
            _ => Ok(()),
        }
    }

    pub(super) fn restart(&mut self, n: u8) -> Result<(), Violation> {
        let stopped: Vec<StoreId> = self.stopped.iter().copied().collect();
        match stopped.get(usize::from(n) % stopped.len().max(1)) {
            Some(store) => self.bring_back(*store),
            None => Ok(()),
        }
    }

    pub(crate) fn bring_back(&mut self, store: StoreId) -> Result<(), Violation> {
        let node = self.make_node(store)?;
        let observers = self.observers(&node);
        self.cluster.restart_store(store, observers).map_err(|e| Violation::broken(&e))?;
        self.nodes.insert(store, node);
        self.stopped.remove(&store);
        Ok(())
    }

    pub(super) fn restart_backup(&mut self, n: u8) -> Result<(), Violation> {
        let store = self.store(n);
        if self.nodes.remove(&store).is_some() { self.start_node(store) } else { Ok(()) }
    }

    /// The process that runs goes on and thinks that it is the only one.
    pub(super) fn zombie(&mut self, n: u8) -> Result<(), Violation> {
        let store = self.store(n);
        let Some(old) = self.nodes.remove(&store) else { return Ok(()) };
        self.zombies.push(old);
        self.start_node(store)
    }

    pub(crate) fn squeeze(&mut self, squeezed: bool) {
        self.squeezed = squeezed;
        let bytes = if squeezed { LITTLE_MEMORY } else { MEMORY };
        let (quota, now) = (ByteSize::b(bytes as u64), self.now());
        for node in self.nodes.values_mut().chain(&mut self.zombies) {
            node.configure(|config| config.pending_memory_quota = quota, now);
        }
    }

    pub(crate) fn flush_now(&mut self, n: u8) {
        let store = self.store(n);
        if let Some(node) = self.nodes.get_mut(&store) {
            // Nobody waits for the answer here.
            let _ = node.stepped.flush(&self.task.name);
        }
    }

    pub(crate) fn configure(&mut self, n: u8, seed: u64) {
        let (store, now, squeezed) = (self.store(n), self.now(), self.squeezed);
        if let Some(node) = self.nodes.get_mut(&store) {
            let mut rng = SmallRng::seed_from_u64(seed);
            node.configure(|config| Settings::redraw(config, squeezed, &mut rng), now);
        }
    }

    pub(crate) fn audit(&mut self, n: u8) {
        let store = self.store(n);
        if let Some(node) = self.nodes.get_mut(&store) {
            node.stepped.audit();
        }
    }
}
