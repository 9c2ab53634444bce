//! Folding publications into the cover of one life of a task.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bytes::Bytes;
use logtide_checkpoint::Cover;
use logtide_model::planted::Bug;
use logtide_model::{KeyRange, RegionId, StoreId, Task, Ts};

use crate::advancer::edition::Editions;
use crate::cover;
use crate::error::CoordinatorError;
use crate::facts::{self, Waiting};
use crate::keys;
use crate::log_index::LogIndexes;
use crate::record;
use crate::status::Holder;
use crate::store::{Condition, Txn};
use crate::tasks::{Tasks, alive, unchanged};

/// What an elected advancer knows of one life of a task. As long as it is elected, nobody else changes it.
pub(crate) struct Memory {
    pub(crate) cover: Cover,
    indexes: LogIndexes,
    editions: Editions,
    /// The records of publications that are folded and still there: in no complete edition yet.
    folded: BTreeSet<Bytes>,
    /// The last complete publication of each store: boot epoch and generation.
    newest: BTreeMap<StoreId, (u64, u64)>,
    pub(crate) holder: Option<Holder>,
    /// The checkpoint that this advancer has persisted last.
    persisted: Option<Ts>,
    /// Up to where GC is held, and since when.
    pub(crate) gc_held: Option<(Ts, Instant)>,
}

/// What folding came to.
pub(crate) struct Folded {
    pub(crate) before: Ts,
    pub(crate) checkpoint: Ts,
    pub(crate) publications: usize,
    pub(crate) facts: usize,
}

impl Memory {
    /// Reads what is persisted.
    pub(crate) fn load(tasks: &Tasks, task: &Task) -> Result<Self, CoordinatorError> {
        let read = cover::read(&tasks.store().list(&keys::covers(task))?.0)?;
        Ok(Memory {
            editions: Editions::after(read.edition, read.keys),
            cover: read.cover,
            indexes: read.indexes,
            folded: BTreeSet::new(),
            newest: BTreeMap::new(),
            holder: tasks.holder(task)?,
            persisted: None,
            gc_held: None,
        })
    }

    /// Folds the publications that wait, moves the checkpoint and persists both.
    ///
    /// The checkpoint is persisted at once: what it rests on is in the store, as publications or in an edition of the
    /// cover. The cover is written in editions, over as many ticks as they need; publications go when a complete
    /// edition has them.
    pub(crate) fn fold(
        &mut self,
        tasks: &Tasks,
        task: &Task,
        office: &Condition,
        wall_ms: u64,
    ) -> Result<Folded, CoordinatorError> {
        let prefix = if Bug::OldLifeBelieved.is_planted() { keys::ours(&task.name) } else { keys::facts(task) };
        let mut records = tasks.store().list(&prefix)?.0;
        records.retain(|kv| !self.folded.contains(&kv.key));
        let waiting = facts::read(&records)?;
        let global = tasks.store().get(&keys::central_global(&task.name))?;
        let persisted = global.as_ref().map(record::read_ts).transpose()?;
        let before = persisted.unwrap_or(Ts::ZERO).max(task.start_ts);
        let is_settled = persisted.is_some() && persisted == self.persisted && !self.editions.is_due();
        if waiting.is_empty() && is_settled {
            return Ok(Folded { before, checkpoint: before, publications: 0, facts: 0 });
        }
        let count = self.add_facts(&waiting)?;
        let checkpoint = self.cover.min_over(&task.ranges, before);
        let holder = self.holder_at(task, checkpoint, &waiting, wall_ms)?;
        let publications = waiting.iter().filter(|w| w.complete).count();
        self.note_spent(waiting);
        let mut txn = Txn::new();
        if persisted != Some(checkpoint) || holder != self.holder || self.editions.is_due() {
            let key = keys::central_global(&task.name);
            txn = txn.when(unchanged(&key, global.as_ref())).put(key, record::write_ts(checkpoint));
        }
        if let Some(holder) = holder.as_ref().filter(|_| holder != self.holder) {
            txn = txn.put(keys::holder(task), holder.to_json()?);
        }
        self.persist(task, checkpoint, txn, &|txn| conditional(tasks, task, office, txn))?;
        (self.holder, self.persisted) = (holder, Some(checkpoint));
        Ok(Folded { before, checkpoint, publications, facts: count })
    }

    /// How many they were.
    fn add_facts(&mut self, waiting: &[Waiting]) -> Result<usize, CoordinatorError> {
        let mut count = 0;
        for publication in waiting {
            for fact in publication.facts()? {
                self.cover.insert(&fact.range, fact.checkpoint);
                self.indexes.add_fact(&fact);
                count += 1;
            }
        }
        Ok(count)
    }

    /// The first range that is no further than the checkpoint.
    fn holder_at(
        &self,
        task: &Task,
        checkpoint: Ts,
        waiting: &[Waiting],
        wall_ms: u64,
    ) -> Result<Option<Holder>, CoordinatorError> {
        let first = task.ranges.iter().find_map(|range| self.cover.first_up_to(range, checkpoint));
        let Some(range) = first else { return Ok(None) };
        let region = author(waiting, &range)?;
        Ok(Some(match &self.holder {
            Some(known) if known.range.start == range.start => {
                Holder { range, region: region.or(known.region), since_ms: known.since_ms }
            }
            _ => Holder { range, region, since_ms: wall_ms },
        }))
    }

    /// Publications that are folded, and those that never will be complete, as their store has published something
    /// later: they go with the next edition.
    fn note_spent(&mut self, waiting: Vec<Waiting>) {
        for w in waiting.iter().filter(|w| w.complete) {
            let newest = self.newest.entry(w.store_id).or_default();
            *newest = w.order.max(*newest);
        }
        let later = |w: &Waiting| self.newest.get(&w.store_id).is_some_and(|newest| *newest > w.order);
        for w in waiting.iter().filter(|w| w.complete || later(w)) {
            self.folded.extend(w.keys.iter().cloned());
            self.editions.spend(w.keys.iter().cloned());
        }
    }

    /// Writes on at the edition, and makes `txn` with its end; or `txn` alone if the edition is not at its end.
    fn persist(
        &mut self,
        task: &Task,
        checkpoint: Ts,
        txn: Txn,
        commit: &dyn Fn(Txn) -> Result<(), CoordinatorError>,
    ) -> Result<(), CoordinatorError> {
        if self.editions.begin() {
            self.cover.prune(checkpoint);
            self.indexes.prune(checkpoint);
        }
        let gone = self.editions.write(task, &self.cover, &self.indexes, txn, commit)?;
        for key in gone {
            self.folded.remove(&key);
        }
        Ok(())
    }
}

/// Does a transaction in the office of the advancer, for a living task.
fn conditional(tasks: &Tasks, task: &Task, office: &Condition, txn: Txn) -> Result<(), CoordinatorError> {
    let outcome = tasks.store().commit(txn.when(office.clone()).when(alive(task)))?;
    if outcome.succeeded {
        return Ok(());
    }
    Err(CoordinatorError::Changed(format!("the advancer's office or the task {}", task.name)))
}

/// Who stated the most about the beginning of a range.
fn author(waiting: &[Waiting], range: &KeyRange) -> Result<Option<(RegionId, StoreId)>, CoordinatorError> {
    let mut most: Option<(Ts, (RegionId, StoreId))> = None;
    for publication in waiting {
        for fact in publication.facts()?.iter().filter(|fact| fact.range.contains(&range.start)) {
            if most.is_none_or(|(ts, _)| ts <= fact.checkpoint) {
                most = Some((fact.checkpoint, (fact.region_id, publication.store_id)));
            }
        }
    }
    Ok(most.map(|(_, who)| who))
}
