//! The cover as it is persisted, and the log indexes with it: editions, each in chunks. The newest complete edition is
//! the one that counts.

use bytes::Bytes;
use logtide_checkpoint::Cover;
use logtide_model::codec::CodecError;
use logtide_model::{KeyRange, RegionId, Ts};

use crate::chunks::{self, Reader, Writer};
use crate::error::CoordinatorError;
use crate::keys;
use crate::log_index::{LogIndex, LogIndexes};
use crate::store::KeyValue;

/// A range.
const RANGE: u8 = 0;
/// A range that begins where the one before ends.
const ADJACENT: u8 = 1;
/// The log index of a region.
const INDEX: u8 = 2;

/// A cover that was read back.
#[derive(Default)]
pub(crate) struct Persisted {
    pub(crate) cover: Cover,
    pub(crate) indexes: LogIndexes,
    /// The newest edition there is, complete or not; 0 for none.
    pub(crate) edition: u64,
    /// The keys of all editions.
    pub(crate) keys: Vec<Bytes>,
}

/// What is written, one after the other.
enum Entry {
    Range(KeyRange, Ts),
    Index(RegionId, LogIndex),
}

/// What the entries of a chunk are compared with.
#[derive(Default)]
struct Before {
    end: Bytes,
    ts: Ts,
    region: RegionId,
    said: LogIndex,
}

/// A cover and log indexes in chunks.
pub(crate) fn encode(cover: &Cover, indexes: &LogIndexes) -> Vec<Bytes> {
    let mut before = Before::default();
    let ranges = cover.iter().map(|(range, ts)| Entry::Range(range, ts));
    let entries = ranges.chain(indexes.iter().map(|(id, said)| Entry::Index(id, said)));
    chunks::write(entries, |writer, entry, first| {
        if first {
            before = Before::default();
        }
        match entry {
            Entry::Range(range, ts) => before.write_range(writer, range, ts),
            Entry::Index(region, said) => before.write_index(writer, region, said),
        }
    })
}

impl Before {
    fn write_range(&mut self, writer: &mut Writer, range: KeyRange, ts: Ts) {
        let adjacent = range.start == self.end;
        writer.u8(if adjacent { ADJACENT } else { RANGE });
        if !adjacent {
            writer.key(&range.start);
        }
        writer.key(&range.end);
        writer.delta(ts.get(), self.ts.get());
        (self.end, self.ts) = (range.end, ts);
    }

    fn write_index(&mut self, writer: &mut Writer, region: RegionId, said: LogIndex) {
        writer.u8(INDEX);
        writer.delta(region, self.region);
        writer.delta(said.version, self.said.version);
        writer.delta(said.index, self.said.index);
        writer.delta(said.checkpoint.get(), self.said.checkpoint.get());
        (self.region, self.said) = (region, said);
    }

    fn read_range(&mut self, start: Bytes, entries: &mut Reader<'_>, cover: &mut Cover) -> Result<(), CodecError> {
        self.end = entries.key()?;
        self.ts = Ts::new(entries.delta(self.ts.get())?);
        cover.insert(&KeyRange { start, end: self.end.clone() }, self.ts);
        Ok(())
    }

    fn read_index(&mut self, entries: &mut Reader<'_>, indexes: &mut LogIndexes) -> Result<(), CodecError> {
        self.region = entries.delta(self.region)?;
        let version = entries.delta(self.said.version)?;
        let index = entries.delta(self.said.index)?;
        let checkpoint = Ts::new(entries.delta(self.said.checkpoint.get())?);
        self.said = LogIndex { version, index, checkpoint };
        indexes.add(self.region, self.said);
        Ok(())
    }
}

/// Adds the entries of one chunk.
pub(crate) fn decode(chunk: &[u8], cover: &mut Cover, indexes: &mut LogIndexes) -> Result<(), CodecError> {
    let mut entries = chunks::open(chunk)?.entries;
    let mut before = Before::default();
    while !entries.is_empty() {
        match entries.u8()? {
            RANGE => {
                let start = entries.key()?;
                before.read_range(start, &mut entries, cover)?;
            }
            ADJACENT => before.read_range(before.end.clone(), &mut entries, cover)?,
            INDEX => before.read_index(&mut entries, indexes)?,
            other => return Err(CodecError::UnknownFlag(other)),
        }
    }
    Ok(())
}

/// The cover among the records of a task's life.
pub(crate) fn read(records: &[KeyValue]) -> Result<Persisted, CoordinatorError> {
    let mut persisted = Persisted { keys: records.iter().map(|kv| kv.key.clone()).collect(), ..Persisted::default() };
    let groups = chunks::groups(records);
    for prefix in groups.keys() {
        let edition = prefix.strip_suffix(b"/").and_then(keys::last_hex);
        let edition = edition.ok_or_else(|| CoordinatorError::malformed(prefix, "it is no key of a cover"))?;
        persisted.edition = persisted.edition.max(edition);
    }
    if let Some(newest) = groups.values().rfind(|group| group.complete) {
        for kv in &newest.records {
            decode(&kv.value, &mut persisted.cover, &mut persisted.indexes)
                .map_err(|e| CoordinatorError::malformed(&kv.key, e))?;
        }
    }
    Ok(persisted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn covers_round_trip(
            facts in proptest::collection::vec(("[a-d]{0,3}", "[a-d]{0,3}", 0..5u64), 0..12),
            said in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()), 0..12),
        ) {
            let cover: Cover =
                facts.into_iter().map(|(start, end, ts)| (KeyRange::new(start, end), Ts::new(ts))).collect();
            let mut indexes = LogIndexes::default();
            for (region, version, index, ts) in said {
                indexes.add(region, LogIndex { version, index, checkpoint: Ts::new(ts) });
            }
            let (mut read, mut read_indexes) = (Cover::new(), LogIndexes::default());
            for chunk in encode(&cover, &indexes) {
                decode(&chunk, &mut read, &mut read_indexes).unwrap();
            }
            prop_assert_eq!((read, read_indexes), (cover, indexes));
        }

        #[test]
        fn no_input_makes_the_decoder_panic(input: Vec<u8>) {
            let _ = decode(&input, &mut Cover::new(), &mut LogIndexes::default());
            let _ = decode(&[&[1, 0, 1], &input[..]].concat(), &mut Cover::new(), &mut LogIndexes::default());
        }
    }
}
