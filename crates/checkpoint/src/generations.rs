//! Sealed generations in flight: uploaded in any order, committed and published strictly in order (I1).

use std::collections::VecDeque;

use logtide_model::planted::Bug;
use thiserror::Error;

/// The generations of one task on one store, in one boot.
///
/// A generation is *sealed* with a growing number, *uploaded* in parallel with others, *committed* (its metadata object
/// put) only when every earlier one is committed, and *published* only when it is committed. The right to do a step is a
/// value that only the step before hands out, and that doing the step uses up: [`Uploading`], [`Commit`], [`Publish`].
/// So a checkpoint cannot be published ahead of its data by calling things in another order.
///
/// `T` is what an upload leaves behind for commit and publish (the metadata, the facts, the spool to free).
#[derive(Debug)]
pub struct Generations<T> {
    slots: VecDeque<Slot<T>>,
    last: u64,
    poisoned: Option<u64>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u64,
    stage: Stage<T>,
}

#[derive(Debug)]
enum Stage<T> {
    Uploading,
    Uploaded(T),
    Committing,
    Committed(T),
    Publishing,
}

/// The right to upload a generation.
#[derive(Debug)]
#[must_use]
pub struct Uploading(u64);

/// The right to commit a generation: every earlier one is committed.
#[derive(Debug)]
#[must_use]
pub struct Commit<T> {
    generation: u64,
    /// What the upload left behind.
    pub value: T,
}

/// The right to publish a generation: it and every earlier one is committed.
#[derive(Debug)]
#[must_use]
pub struct Publish<T> {
    generation: u64,
    /// What the upload left behind.
    pub value: T,
}

/// Why a generation was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SealRefused {
    /// A generation in between was never handed over (or this one was before): its data may be lost, so nothing that
    /// comes after it may be published.
    #[error("generation {generation} follows generation {last}: what was sealed in between was not handed over")]
    Missing {
        /// The number that was refused.
        generation: u64,
        /// The last one that was taken.
        last: u64,
    },
    /// An earlier generation was lost: what comes after it must be caught up in a new boot epoch.
    #[error("generation {generation} comes after generation {poisoned}, which was lost")]
    Poisoned {
        /// The number that was refused.
        generation: u64,
        /// The one that was lost.
        poisoned: u64,
    },
}

/// A generation that was discarded with a poisoned one.
#[derive(Debug, PartialEq, Eq)]
pub struct Discarded<T> {
    /// Its number.
    pub generation: u64,
    /// What its upload left behind, if it had come so far and nobody holds it.
    pub value: Option<T>,
}

impl Uploading {
    /// Which generation.
    pub fn generation(&self) -> u64 {
        self.0
    }
}

impl<T> Commit<T> {
    /// Which generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl<T> Publish<T> {
    /// Which generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl<T> Default for Generations<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Generations<T> {
    /// Nothing in flight.
    pub fn new() -> Self {
        Generations { slots: VecDeque::new(), last: 0, poisoned: None }
    }

    /// Takes a sealed generation: the next one. The first one is generation 1.
    ///
    /// A sealed generation that is dropped instead takes data with it that the shards will not give again, so a number
    /// that is left out is refused, like a poisoned one.
    ///
    /// # Errors
    /// [`SealRefused`].
    pub fn sealed(&mut self, generation: u64) -> Result<Uploading, SealRefused> {
        if let Some(poisoned) = self.poisoned {
            return Err(SealRefused::Poisoned { generation, poisoned });
        }
        if generation != self.last.saturating_add(1) {
            return Err(SealRefused::Missing { generation, last: self.last });
        }
        self.last = generation;
        self.slots.push_back(Slot { generation, stage: Stage::Uploading });
        Ok(Uploading(generation))
    }

    /// The objects of a generation are durable.
    ///
    /// # Errors
    /// Gives the value back if the generation was discarded in the meantime.
    pub fn uploaded(&mut self, uploading: Uploading, value: T) -> Result<(), T> {
        match self.slot(uploading.0) {
            Some(slot) if matches!(slot.stage, Stage::Uploading) => {
                slot.stage = Stage::Uploaded(value);
                Ok(())
            }
            _ => Err(value),
        }
    }

    /// The generation whose turn it is to be committed, if it is uploaded. There is one at a time.
    pub fn next_commit(&mut self) -> Option<Commit<T>> {
        if Bug::FlushOutOfOrder.is_planted() {
            return self.any_commit();
        }
        let next = self.slots.iter_mut().find(|s| !matches!(s.stage, Stage::Committed(_) | Stage::Publishing))?;
        match std::mem::replace(&mut next.stage, Stage::Committing) {
            Stage::Uploaded(value) => Some(Commit { generation: next.generation, value }),
            other => {
                next.stage = other;
                None
            }
        }
    }

    /// What [`Bug::FlushOutOfOrder`] does.
    fn any_commit(&mut self) -> Option<Commit<T>> {
        let next = self.slots.iter_mut().find(|s| matches!(s.stage, Stage::Uploaded(_)))?;
        match std::mem::replace(&mut next.stage, Stage::Committing) {
            Stage::Uploaded(value) => Some(Commit { generation: next.generation, value }),
            _ => None,
        }
    }

    /// The metadata object of a generation is durable.
    ///
    /// # Errors
    /// Gives the value back if the generation was discarded in the meantime: its facts must not be published.
    pub fn committed(&mut self, commit: Commit<T>) -> Result<(), T> {
        match self.slot(commit.generation) {
            Some(slot) if matches!(slot.stage, Stage::Committing) => {
                slot.stage = Stage::Committed(commit.value);
                Ok(())
            }
            _ => Err(commit.value),
        }
    }

    /// The generation whose turn it is to be published, if it is committed. There is one at a time.
    pub fn next_publish(&mut self) -> Option<Publish<T>> {
        let next = if Bug::FlushOutOfOrder.is_planted() {
            self.slots.iter_mut().find(|s| matches!(s.stage, Stage::Committed(_)))?
        } else {
            self.slots.front_mut()?
        };
        match std::mem::replace(&mut next.stage, Stage::Publishing) {
            Stage::Committed(value) => Some(Publish { generation: next.generation, value }),
            other => {
                next.stage = other;
                None
            }
        }
    }

    /// The facts of a generation are known: it is done, and what it held can be freed.
    pub fn published(&mut self, publish: Publish<T>) -> T {
        self.slots.retain(|slot| slot.generation != publish.generation);
        publish.value
    }

    /// A generation is lost: it and all later ones are discarded, and no later one is ever taken (§15.12). Earlier ones
    /// go on; one that is committed already stays, for it is durable.
    pub fn poison(&mut self, generation: u64) -> Vec<Discarded<T>> {
        self.poisoned = Some(self.poisoned.map_or(generation, |before| before.min(generation)));
        let keep = self.slots.iter().take_while(|s| s.generation < generation || s.stage.is_committed()).count();
        self.slots
            .drain(keep..)
            .map(|slot| Discarded { generation: slot.generation, value: slot.stage.into_value() })
            .collect()
    }

    /// How many generations are in flight.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True if nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The first generation that was lost, if one was.
    pub fn poisoned(&self) -> Option<u64> {
        self.poisoned
    }

    fn slot(&mut self, generation: u64) -> Option<&mut Slot<T>> {
        self.slots.iter_mut().find(|slot| slot.generation == generation)
    }
}

impl<T> Stage<T> {
    fn is_committed(&self) -> bool {
        matches!(self, Stage::Committed(_) | Stage::Publishing)
    }

    fn into_value(self) -> Option<T> {
        match self {
            Stage::Uploaded(value) | Stage::Committed(value) => Some(value),
            Stage::Uploading | Stage::Committing | Stage::Publishing => None,
        }
    }
}
