//! The latest events of a store, bounded, for watches.

use std::collections::VecDeque;

use crate::store::{Event, Revision};

/// Most revisions remembered.
const MAX_REVISIONS: usize = 4096;
/// Most bytes of keys and values remembered.
const MAX_BYTES: usize = 4 << 20;

/// Events by revision; what is too old is forgotten.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    /// Revisions at or below it are forgotten.
    forgotten: Revision,
    entries: VecDeque<(Revision, Vec<Event>, usize)>,
    bytes: usize,
}

impl EventLog {
    /// Remembers nothing up to `revision`.
    pub(crate) fn starting_after(revision: Revision) -> Self {
        EventLog { forgotten: revision, ..EventLog::default() }
    }

    /// Adds the events of the next revision.
    pub(crate) fn push(&mut self, revision: Revision, events: Vec<Event>) {
        let size = events.iter().map(size_of_event).sum::<usize>();
        self.bytes += size;
        self.entries.push_back((revision, events, size));
        while self.entries.len() > MAX_REVISIONS || (self.bytes > MAX_BYTES && self.entries.len() > 1) {
            if let Some((revision, _, size)) = self.entries.pop_front() {
                self.forgotten = revision;
                self.bytes -= size;
            }
        }
    }

    /// The events of `from` and later, or `None` if some of them are forgotten.
    pub(crate) fn since(&self, from: Revision) -> Option<impl Iterator<Item = &Event>> {
        let first = self.entries.partition_point(|(revision, ..)| *revision < from);
        (from > self.forgotten).then(|| self.entries.range(first..).flat_map(|(_, events, _)| events))
    }
}

fn size_of_event(event: &Event) -> usize {
    match event {
        Event::Put(kv) => kv.key.len() + kv.value.len(),
        Event::Delete { key, .. } => key.len(),
        Event::Reset { .. } => 0,
    }
}
