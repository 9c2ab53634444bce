//! What committed entries do: to the engine, to the region, and to those who wait for them.

use std::sync::Arc;

use logtide_model::{ApplyBatch, KeyRange, Op, RaftObserver, Region, RegionChange, RegionEpoch, RegionId, Role, Term};
use raft::eraftpb::{Entry, EntryType};

use super::command::{Command, PeerChange, SplitChild};
use super::message::{Done, Reply};
use super::peer::Peer;
use super::records::{EntryId, PeerMeta, RegionMeta, put_apply_state, put_region, put_replayable};
use crate::engine::{EngineCf, WriteBatch, data_end_key, data_key};
use crate::rpc::RegionError;

/// What observers are told once the batch is written, in order.
pub(crate) enum Event {
    /// Entries of one epoch.
    Applied { epoch: RegionEpoch, first: u64, last: u64, ops: Vec<Op> },
    /// The region was split.
    Split {
        parent: RegionMeta,
        children: Vec<RegionMeta>,
        /// Children whose peer on this store is gone already, or comes in another way.
        gone: Vec<RegionMeta>,
        leader: bool,
    },
    /// Its members changed.
    Members { meta: RegionMeta, change: PeerChange },
    /// The peer here is no member any more.
    Gone { region: Region, led: bool },
    /// Only the epoch of the region changed.
    EpochChange(RegionMeta),
    /// The region took `source` over.
    Merge {
        target: RegionMeta,
        source: RegionMeta,
        /// The term in which the source led here until then.
        led: Option<Term>,
    },
}

/// The effects of a run of entries of one region, up to the engine write.
pub(crate) struct Effects {
    pub(crate) region_id: RegionId,
    pub(crate) term: Term,
    pub(crate) events: Vec<Event>,
    pub(crate) replies: Vec<(Reply<Done>, Result<Done, RegionError>)>,
    pub(crate) entries: u64,
    /// Sorted files that are not needed any more, once observers know.
    pub(crate) files: Vec<String>,
    /// True if the peer removed itself.
    pub(crate) gone: bool,
    /// Index and term of the last entry.
    done: Option<(u64, Term)>,
    /// The peer of a region that was taken over, with what waits for it.
    pub(crate) absorbed: Option<Box<Peer>>,
    /// The peer itself, if it removed itself.
    pub(crate) buried: Option<Box<Peer>>,
}

/// Applies committed entries: changes of data go into `batch`, together with how far the region is applied.
pub(crate) fn apply(peer: &mut Peer, entries: Vec<Entry>, batch: &mut WriteBatch) -> Effects {
    let mut effects = Effects::new(peer, entries.len());
    for entry in entries {
        if effects.gone {
            break;
        }
        let at = (entry.index, entry.term);
        effects.apply_entry(peer, entry, batch);
        effects.done = Some(at);
    }
    if let Some((index, _)) = effects.done {
        peer.applied = index;
    }
    effects.save(batch);
    effects
}

impl Effects {
    pub(super) fn new(peer: &Peer, entries: usize) -> Effects {
        Effects {
            region_id: peer.region_id(),
            term: peer.term(),
            events: Vec::new(),
            replies: Vec::new(),
            entries: entries as u64,
            files: Vec::new(),
            gone: false,
            done: None,
            absorbed: None,
            buried: None,
        }
    }

    /// Puts how far the region is applied into the batch.
    fn save(&self, batch: &mut WriteBatch) {
        if let Some((index, term)) = self.done {
            put_apply_state(batch, self.region_id, index, term);
        }
    }

    fn apply_entry(&mut self, peer: &mut Peer, entry: Entry, batch: &mut WriteBatch) {
        let (index, term) = (entry.index, entry.term);
        let outcome = self.execute(peer, entry, batch);
        let (lost, reply) = peer.take_reply(index, term);
        self.replies.extend(lost.into_iter().map(|reply| (reply, Err(peer.not_leader()))));
        match peer.merging.as_mut().filter(|merging| merging.state.prepare.index == index) {
            // Who asked for a merge is told of its end.
            Some(merging) => merging.reply = reply,
            None => self.replies.extend(reply.map(|reply| (reply, outcome))),
        }
    }

    fn execute(&mut self, peer: &mut Peer, entry: Entry, batch: &mut WriteBatch) -> Result<Done, RegionError> {
        let (index, term, region) = (entry.index, entry.term, peer.meta.region.clone());
        let (outcome, ops) = match self.parse(entry, &region) {
            Ok(Some(command)) if command.is_merge() || peer.merging.is_some() => {
                match self.merge_step(peer, command, EntryId { index, term }, batch) {
                    Ok(done) => return Ok(done),
                    Err(refused) => (Err(refused), vec![]),
                }
            }
            Ok(Some(command)) if !command.split.is_empty() => match split(&peer.meta, &command.split) {
                Some((parent, children)) => {
                    self.note(region.epoch, index, vec![Op::Admin]);
                    put_replayable(batch, region.id, index);
                    peer.shaped_at = index;
                    return Ok(self.make_split(peer, parent, children, batch));
                }
                None => (Err(RegionError::Busy(format!("region {} has no such keys to split at", region.id))), vec![]),
            },
            Ok(Some(Command { change: Some(change), .. })) => match change.apply(&peer.meta) {
                Some(meta) => {
                    self.note(region.epoch, index, vec![Op::Admin]);
                    return Ok(self.change_members(peer, meta, change, batch));
                }
                None => (Err(RegionError::Busy(format!("region {} has these members already", region.id))), vec![]),
            },
            Ok(Some(command)) if command.truncates().is_some() => {
                command.truncates().into_iter().for_each(|to| peer.node.mut_store().truncate(to, batch));
                (Ok(Done { regions: vec![region.clone()] }), vec![Op::Admin])
            }
            Ok(Some(command)) if command.range_deleted().is_some() => {
                peer.meta.range_deleted = peer.meta.range_deleted.max(command.range_deleted());
                put_region(batch, &peer.meta);
                (Ok(Done { regions: vec![region.clone()] }), command.into_ops().collect())
            }
            Ok(Some(command)) => (Ok(Done { regions: vec![region.clone()] }), command.into_ops().collect()),
            Ok(None) => (Ok(Done { regions: vec![region.clone()] }), vec![]),
            Err(refused) => (Err(refused), vec![]),
        };
        self.write_ops(index, &ops, batch);
        self.note(region.epoch, index, ops);
        outcome
    }

    /// The command of an entry, if it has one and it still fits the region: a stale one changes nothing but the index.
    fn parse(&mut self, entry: Entry, region: &Region) -> Result<Option<Command>, RegionError> {
        // A change of members is raft's business as well: what it is to us goes along with it.
        let data = if entry.entry_type == EntryType::EntryNormal as i32 { entry.data } else { entry.context };
        if data.is_empty() {
            return Ok(None);
        }
        let index = entry.index;
        let command = Command::parse(data)
            .map_err(|e| RegionError::Busy(format!("entry {index} of region {} is malformed: {e}", region.id)))?;
        self.files.extend(command.files());
        if !command.fits(region.epoch) {
            return Err(RegionError::EpochNotMatch { current: vec![region.clone()] });
        }
        Ok(Some(command))
    }

    fn write_ops(&self, index: u64, ops: &[Op], batch: &mut WriteBatch) {
        if ops.iter().any(|op| matches!(op, Op::IngestSst { .. })) {
            // The engine may write what precedes a file by itself: that has to be whole.
            self.save(batch);
            put_replayable(batch, self.region_id, index);
        }
        for op in ops {
            match op {
                Op::Put { cf, key, value } => batch.put(EngineCf::from(*cf), data_key(key), value.clone()),
                Op::Delete { cf, key } => batch.delete(EngineCf::from(*cf), data_key(key)),
                Op::DeleteRange { cf, start, end } => {
                    batch.delete_range(EngineCf::from(*cf), data_key(start), data_end_key(end));
                }
                Op::IngestSst { cf, path, .. } => batch.ingest(EngineCf::from(*cf), path.clone()),
                Op::Admin => {}
            }
        }
    }

    fn change_members(
        &mut self,
        peer: &mut Peer,
        meta: RegionMeta,
        change: PeerChange,
        batch: &mut WriteBatch,
    ) -> Done {
        let regions = vec![meta.region.clone()];
        if change.remove && change.peer.id == peer.id() {
            self.gone = true;
            let led = peer.announced.is_some();
            self.events.push(Event::Gone { region: peer.meta.region.clone(), led });
        } else {
            put_region(batch, &meta);
            peer.meta = meta.clone();
            self.events.push(Event::Members { meta, change });
        }
        Done { regions }
    }

    fn make_split(
        &mut self,
        peer: &mut Peer,
        parent: RegionMeta,
        children: Vec<RegionMeta>,
        batch: &mut WriteBatch,
    ) -> Done {
        put_region(batch, &parent);
        peer.meta = parent.clone();
        let leader = peer.is_leader() && peer.announced == Some(peer.term());
        let regions = std::iter::once(&parent).chain(&children).map(|m| m.region.clone()).collect();
        self.events.push(Event::Split { parent, children, gone: Vec::new(), leader });
        Done { regions }
    }

    /// The changes of members, in order.
    pub(crate) fn changes(&self) -> impl Iterator<Item = PeerChange> {
        self.events.iter().filter_map(|event| match event {
            Event::Members { change, .. } => Some(*change),
            _ => None,
        })
    }

    /// An entry was applied: it joins the batch before, if nothing happened since.
    pub(super) fn note(&mut self, epoch: RegionEpoch, index: u64, ops: Vec<Op>) {
        if let Some(Event::Applied { epoch: e, last, ops: all, .. }) = self.events.last_mut()
            && *e == epoch
        {
            *last = index;
            all.extend(ops);
        } else {
            self.events.push(Event::Applied { epoch, first: index, last: index, ops });
        }
    }

    /// Tells observers what happened; to be called when the batch is in the engine.
    pub(crate) fn tell(&self, observers: &[Arc<dyn RaftObserver>]) {
        for event in &self.events {
            match event {
                Event::Applied { epoch, first, last, ops } => {
                    let (region_id, term) = (self.region_id, self.term);
                    let batch =
                        ApplyBatch { region_id, epoch: *epoch, term, first_index: *first, last_index: *last, ops };
                    observers.iter().for_each(|o| o.on_apply(&batch));
                }
                Event::Members { meta, .. } => {
                    let change = RegionChange::EpochChange { region: meta.region.clone() };
                    observers.iter().for_each(|o| o.on_region_changed(&change));
                }
                Event::Gone { region, led } => {
                    if *led {
                        observers.iter().for_each(|o| o.on_leadership(region, self.term, Role::Follower));
                    }
                    let change = RegionChange::Destroy { region: region.clone() };
                    observers.iter().for_each(|o| o.on_region_changed(&change));
                }
                Event::EpochChange(meta) => {
                    let change = RegionChange::EpochChange { region: meta.region.clone() };
                    observers.iter().for_each(|o| o.on_region_changed(&change));
                }
                Event::Merge { target, source, led } => {
                    if let Some(term) = led {
                        observers.iter().for_each(|o| o.on_leadership(&source.region, *term, Role::Follower));
                    }
                    let (target, source) = (target.region.clone(), source.region.clone());
                    let change = RegionChange::Merge { target, source };
                    observers.iter().for_each(|o| o.on_region_changed(&change));
                }
                Event::Split { parent, children, gone, leader } => {
                    let mut all: Vec<_> = children.iter().chain(gone).map(|c| c.region.clone()).collect();
                    all.sort_by(|a, b| a.range.start.cmp(&b.range.start));
                    let change = RegionChange::Split {
                        parent: parent.region.clone(),
                        children: all,
                        leader: *leader,
                        term: self.term,
                    };
                    let gone = gone.iter().map(|c| RegionChange::Destroy { region: c.region.clone() });
                    for change in std::iter::once(change).chain(gone) {
                        observers.iter().for_each(|o| o.on_region_changed(&change));
                    }
                }
            }
        }
    }
}

/// The region as it is after a split, and its children; `None` if the split makes no sense.
fn split(meta: &RegionMeta, into: &[SplitChild]) -> Option<(RegionMeta, Vec<RegionMeta>)> {
    let range = &meta.region.range;
    let mut epoch = meta.region.epoch;
    epoch.version += into.len() as u64;
    let mut bounds = vec![range.start.clone()];
    for child in into {
        let above = bounds.last().is_some_and(|b| *b < child.start);
        if !above || !range.contains(&child.start) || child.peer_ids.len() != meta.peers.len() {
            return None;
        }
        bounds.push(child.start.clone());
    }
    bounds.push(range.end.clone());
    let piece = |i: usize| KeyRange { start: bounds[i].clone(), end: bounds[i + 1].clone() };
    let parent = RegionMeta { region: Region { id: meta.region.id, epoch, range: piece(0) }, ..meta.clone() };
    let child = |(i, child): (usize, &SplitChild)| RegionMeta {
        range_deleted: meta.range_deleted,
        region: Region { id: child.region_id, epoch, range: piece(i + 1) },
        peers: meta
            .peers
            .iter()
            .zip(&child.peer_ids)
            .map(|(p, id)| PeerMeta { id: *id, store_id: p.store_id })
            .collect(),
    };
    Some((parent, into.iter().enumerate().map(child).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(start: &'static str, end: &'static str) -> RegionMeta {
        let region = Region { id: 1, epoch: RegionEpoch { conf_ver: 1, version: 4 }, range: KeyRange::new(start, end) };
        let peers = vec![PeerMeta { id: 2, store_id: 1 }, PeerMeta { id: 3, store_id: 2 }];
        RegionMeta { region, peers, range_deleted: None }
    }

    fn child(region_id: u64, start: &'static str) -> SplitChild {
        SplitChild { region_id, start: start.into(), peer_ids: vec![region_id + 1, region_id + 2] }
    }

    #[test]
    fn a_split_covers_the_parent_without_overlap() {
        let (parent, children) = split(&meta("b", "y"), &[child(10, "d"), child(20, "m")]).unwrap();
        assert_eq!(parent.region.range, KeyRange::new("b", "d"));
        assert_eq!(children[0].region.range, KeyRange::new("d", "m"));
        assert_eq!(children[1].region.range, KeyRange::new("m", "y"));
        assert_eq!((parent.region.epoch.version, children[1].region.epoch.version), (6, 6));
        assert_eq!(children[1].peer_on(2), Some(22));
    }

    #[test]
    fn senseless_splits_are_refused() {
        for children in [vec![child(10, "b")], vec![child(10, "y")], vec![child(10, "m"), child(20, "d")]] {
            assert_eq!(split(&meta("b", "y"), &children), None);
        }
    }
}
