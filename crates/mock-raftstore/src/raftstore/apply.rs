//! What committed entries do: to the engine, to the region, and to those who wait for them.

mod event;
mod split;

use std::sync::Arc;

use logtide_model::{Op, RaftObserver, Region, RegionEpoch, RegionId, Term};
use raft::eraftpb::{Entry, EntryType};

pub(crate) use event::Event;

use super::command::{Command, PeerChange};
use super::message::{Done, Reply};
use super::peer::Peer;
use super::records::{EntryId, put_apply_state, put_region, put_replayable};
use crate::engine::{EngineCf, WriteBatch, data_end_key, data_key};
use crate::rpc::RegionError;

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
        let (at, region) = (EntryId { index: entry.index, term: entry.term }, peer.meta.region.clone());
        let (outcome, ops) = match self.parse(entry, &region) {
            Ok(Some(command)) => match self.reshape(peer, &command, at, batch) {
                Some(Ok(done)) => return Ok(done),
                Some(Err(refused)) => (Err(refused), vec![]),
                None => (Ok(()), ops_of(command, peer, batch)),
            },
            Ok(None) => (Ok(()), vec![]),
            Err(refused) => (Err(refused), vec![]),
        };
        self.write_ops(at.index, &ops, batch);
        self.note(region.epoch, at.index, ops);
        outcome.map(|()| Done { regions: vec![region] })
    }

    /// A command that changes the region itself, noted once that is done; `None` for every other.
    fn reshape(
        &mut self,
        peer: &mut Peer,
        command: &Command,
        at: EntryId,
        batch: &mut WriteBatch,
    ) -> Option<Result<Done, RegionError>> {
        if command.is_merge() || peer.merging.is_some() {
            Some(self.merge_step(peer, command, at, batch))
        } else if !command.split.is_empty() {
            Some(self.split(peer, &command.split, at, batch))
        } else {
            command.change.map(|change| self.change_members(peer, change, at, batch))
        }
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
        change: PeerChange,
        at: EntryId,
        batch: &mut WriteBatch,
    ) -> Result<Done, RegionError> {
        let Some(meta) = change.apply(&peer.meta) else {
            return Err(RegionError::Busy(format!("region {} has these members already", self.region_id)));
        };
        self.note(peer.meta.region.epoch, at.index, vec![Op::Admin]);
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
        Ok(Done { regions })
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
        self.events.iter().for_each(|event| event.tell(self.region_id, self.term, observers));
    }
}

/// What a command changes in the data, after what it changes besides.
fn ops_of(command: Command, peer: &mut Peer, batch: &mut WriteBatch) -> Vec<Op> {
    if let Some(to) = command.truncates() {
        peer.node.mut_store().truncate(to, batch);
        return vec![Op::Admin];
    }
    if command.range_deleted().is_some() {
        peer.meta.range_deleted = peer.meta.range_deleted.max(command.range_deleted());
        put_region(batch, &peer.meta);
    }
    command.into_ops().collect()
}
