//! Folding publications into the cover of one life of a task.

use std::time::Instant;

use bytes::Bytes;
use logtide_checkpoint::Cover;
use logtide_model::planted::Bug;
use logtide_model::{KeyRange, RegionId, StoreId, Task, Ts};

use crate::cover::{self, Persisted};
use crate::error::CoordinatorError;
use crate::facts::{self, Waiting};
use crate::keys;
use crate::log_index::LogIndexes;
use crate::record;
use crate::status::Holder;
use crate::store::{Condition, KeyValue, MAX_TXN_OPS, Txn};
use crate::tasks::{Tasks, alive, unchanged};

/// How many keys one transaction deletes at most: it also has puts.
const MAX_DELETES: usize = MAX_TXN_OPS / 2;
/// The cover's last chunk, the checkpoint and the holder go into one transaction.
const _: () = assert!(MAX_DELETES + 3 <= MAX_TXN_OPS);

/// What an elected advancer knows of one life of a task. As long as it is elected, nobody else changes it.
pub(crate) struct Memory {
    pub(crate) cover: Cover,
    indexes: LogIndexes,
    edition: u64,
    cover_keys: Vec<Bytes>,
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

/// What is to be written.
struct Plan {
    checkpoint: Ts,
    holder: Option<Holder>,
    folded: Vec<Bytes>,
}

impl Memory {
    /// Reads what is persisted.
    pub(crate) fn load(tasks: &Tasks, task: &Task) -> Result<Self, CoordinatorError> {
        let read = cover::read(&tasks.store().list(&keys::covers(task))?.0)?;
        let Persisted { cover, indexes, edition, keys: cover_keys } = read;
        let holder = tasks.holder(task)?;
        Ok(Memory { cover, indexes, edition, cover_keys, holder, persisted: None, gc_held: None })
    }

    /// Folds the publications that wait, moves the checkpoint and persists both.
    pub(crate) fn fold(
        &mut self,
        tasks: &Tasks,
        task: &Task,
        office: &Condition,
        wall_ms: u64,
    ) -> Result<Folded, CoordinatorError> {
        let prefix = if Bug::OldLifeBelieved.is_planted() { keys::ours(&task.name) } else { keys::facts(task) };
        let waiting = facts::read(&tasks.store().list(&prefix)?.0)?;
        let global = tasks.store().get(&keys::central_global(&task.name))?;
        let persisted = global.as_ref().map(record::read_ts).transpose()?;
        let before = persisted.unwrap_or(Ts::ZERO).max(task.start_ts);
        if waiting.is_empty() && persisted.is_some() && persisted == self.persisted {
            return Ok(Folded { before, checkpoint: before, publications: 0, facts: 0 });
        }
        let mut count = 0;
        for fact in waiting.iter().flat_map(|w| &w.facts) {
            self.cover.insert(&fact.range, fact.checkpoint);
            self.indexes.add_fact(fact);
            count += 1;
        }
        let checkpoint = self.cover.min_over(&task.ranges, before);
        let holder = self.holder_at(task, checkpoint, &waiting, wall_ms);
        let publications = waiting.iter().filter(|w| w.complete).count();
        let plan = Plan { checkpoint, holder, folded: spent(waiting) };
        if !plan.folded.is_empty() || persisted != Some(checkpoint) || plan.holder != self.holder {
            self.cover.prune(checkpoint);
            self.indexes.prune(checkpoint);
            self.persist(tasks, task, office, global.as_ref(), plan)?;
        }
        self.persisted = Some(checkpoint);
        Ok(Folded { before, checkpoint, publications, facts: count })
    }

    /// The first range that is no further than the checkpoint.
    fn holder_at(&self, task: &Task, checkpoint: Ts, waiting: &[Waiting], wall_ms: u64) -> Option<Holder> {
        let range = self.first_at(&task.ranges, checkpoint)?;
        let region = author(waiting, &range);
        match &self.holder {
            Some(known) if known.range.start == range.start => {
                Some(Holder { range, region: region.or(known.region), since_ms: known.since_ms })
            }
            _ => Some(Holder { range, region, since_ms: wall_ms }),
        }
    }

    fn first_at(&self, ranges: &[KeyRange], checkpoint: Ts) -> Option<KeyRange> {
        let ahead: Vec<(KeyRange, Ts)> = self.cover.iter().filter(|(_, ts)| *ts > checkpoint).collect();
        for range in ranges {
            let first = ahead.partition_point(|(r, _)| !r.end.is_empty() && r.end <= range.start);
            let mut at = range.start.clone();
            let mut inside = ahead[first..].iter().map(|(r, _)| r);
            loop {
                match inside.next() {
                    // Covered from here on: go to where that ends.
                    Some(r) if r.start <= at => {
                        if r.end.is_empty() || (!range.end.is_empty() && r.end >= range.end) {
                            break;
                        }
                        at = r.end.clone();
                    }
                    next => {
                        let gap = KeyRange { start: at, end: next.map_or_else(Bytes::new, |r| r.start.clone()) };
                        return gap.intersect(range);
                    }
                }
            }
        }
        None
    }

    /// Writes the cover, the checkpoint and the holder; then what was folded is deleted.
    ///
    /// The last chunk of the new edition comes with all the rest in one transaction: before it, the old edition counts
    /// and everything folded is still there.
    fn persist(
        &mut self,
        tasks: &Tasks,
        task: &Task,
        office: &Condition,
        global: Option<&KeyValue>,
        plan: Plan,
    ) -> Result<(), CoordinatorError> {
        let commit = |txn: Txn| conditional(tasks, task, office, txn);
        let edition = self.edition + 1;
        let chunks = cover::encode(&self.cover, &self.indexes);
        let new_keys: Vec<Bytes> = (0..chunks.len()).map(|i| keys::cover(task, edition, i)).collect();
        let mut writes = new_keys.iter().cloned().zip(chunks);
        let last = writes.next_back();
        for (key, chunk) in writes {
            commit(Txn::new().put(key, chunk))?;
        }
        let global_key = keys::central_global(&task.name);
        let mut txn = Txn::new().when(unchanged(&global_key, global));
        txn = txn.put(global_key, record::write_ts(plan.checkpoint));
        if let Some((key, chunk)) = last {
            txn = txn.put(key, chunk);
        }
        if let Some(holder) = plan.holder.as_ref().filter(|_| plan.holder != self.holder) {
            txn = txn.put(keys::holder(task), holder.to_json()?);
        }
        // The old edition goes first: that is what keeps the next reader from reading both.
        let mut spent = std::mem::take(&mut self.cover_keys).into_iter().chain(plan.folded);
        commit(spent.by_ref().take(MAX_DELETES).fold(txn, Txn::delete))?;
        (self.edition, self.cover_keys, self.holder) = (edition, new_keys, plan.holder);
        let spent: Vec<Bytes> = spent.collect();
        for keys in spent.chunks(MAX_DELETES) {
            commit(keys.iter().cloned().fold(Txn::new(), Txn::delete))?;
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

/// The keys of publications that are folded, and of those that never will be complete: their store has published
/// something later.
fn spent(waiting: Vec<Waiting>) -> Vec<Bytes> {
    let later = |w: &Waiting| waiting.iter().any(|v| v.complete && v.store_id == w.store_id && v.order > w.order);
    waiting.iter().filter(|w| w.complete || later(w)).flat_map(|w| w.keys.clone()).collect()
}

/// Who stated the most about the beginning of a range.
fn author(waiting: &[Waiting], range: &KeyRange) -> Option<(RegionId, StoreId)> {
    let facts = waiting.iter().flat_map(|w| w.facts.iter().map(move |fact| (fact, w.store_id)));
    let (fact, store_id) = facts.filter(|(f, _)| f.range.contains(&range.start)).max_by_key(|(f, _)| f.checkpoint)?;
    Some((fact.region_id, store_id))
}
