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
    /// The first key of the edition that was read: as long as it is there, that edition counts.
    pub(crate) first: Option<Bytes>,
    /// The keys of all editions, those of the one that was read in front.
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

/// Where the next chunk of an edition begins. The first one begins at the empty key.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    key: Bytes,
    /// The region, once all ranges are written.
    region: Option<RegionId>,
}

/// The chunk that begins at the cursor, and the cursor after it; `None`: it is the last.
///
/// Between two chunks of an edition the cover may go on: each chunk says what was true when it was written, and stays true.
pub(crate) fn encode_chunk(
    index: usize,
    cursor: &Cursor,
    cover: &Cover,
    indexes: &LogIndexes,
) -> (Bytes, Option<Cursor>) {
    let ranges = cursor.region.is_none().then(|| cover.iter_from(&cursor.key));
    let ranges = ranges.into_iter().flatten().map(|(range, ts)| Entry::Range(range, ts));
    let indexes = indexes.iter_from(cursor.region.unwrap_or_default());
    let mut before = Before::default();
    let entries = ranges.chain(indexes.map(|(id, said)| Entry::Index(id, said)));
    let (chunk, next) = chunks::write_one(index, entries, |writer, entry| match entry {
        Entry::Range(range, ts) => before.write_range(writer, range, ts),
        Entry::Index(region, said) => before.write_index(writer, region, said),
    });
    let next = next.map(|entry| match entry {
        Entry::Range(range, _) => Cursor { key: range.start, region: None },
        Entry::Index(region, _) => Cursor { key: Bytes::new(), region: Some(region) },
    });
    (chunk, next)
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
    let mut persisted = Persisted::default();
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
            persisted.keys.push(kv.key.clone());
        }
    }
    persisted.first = persisted.keys.first().cloned();
    let others = records.iter().map(|kv| &kv.key).filter(|key| !persisted.keys.contains(key)).cloned();
    let others: Vec<Bytes> = others.collect();
    persisted.keys.extend(others);
    Ok(persisted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A cover of 150,000 ranges, more than a chunk, and some regions, all at `ts`, neighbours apart by one.
    fn large(ts: u64) -> (Cover, LogIndexes) {
        let bound = |i: u64| format!("some/key/of/a/table/{i:09}").into_bytes();
        let range = |i| (KeyRange::new(bound(i), bound(i + 1)), Ts::new(ts + i % 2));
        let mut indexes = LogIndexes::default();
        (0..1_000).for_each(|i| indexes.add(i, LogIndex { version: 1, index: i, checkpoint: Ts::new(ts) }));
        ((0..150_000).map(range).collect(), indexes)
    }

    #[test]
    fn what_is_written_while_it_changes_says_no_less_than_before_and_no_more_than_after() {
        let ((mut cover, mut indexes), (after, _)) = (large(1_000), large(2_000));
        let (before, records) = (cover.clone(), |chunks: Vec<Bytes>| {
            let key = |i: usize| Bytes::from(format!("cover/{:016x}/{i:08x}", 1));
            let kv = |(i, value)| KeyValue {
                key: key(i),
                value,
                create_revision: 1,
                mod_revision: 1,
                version: 1,
                lease: None,
            };
            chunks.into_iter().enumerate().map(kv).collect::<Vec<_>>()
        });
        let (mut chunks, mut cursor) = (Vec::new(), Some(Cursor::default()));
        while let Some(at) = cursor {
            let (chunk, next) = encode_chunk(chunks.len(), &at, &cover, &indexes);
            chunks.push(chunk);
            cursor = next;
            let none: Vec<KeyValue> = records(chunks.clone());
            assert_eq!(read(&none).unwrap().first.is_some(), cursor.is_none(), "it counts with its last chunk only");
            if chunks.len() == 1 {
                after.iter().for_each(|(range, ts)| cover.insert(&range, ts));
                indexes.add(7, LogIndex { version: 2, index: 1, checkpoint: Ts::new(2_000) });
            }
        }
        assert!(chunks.len() > 1, "{}", chunks.len());
        let read = read(&records(chunks)).unwrap();
        for (range, ts) in before.iter() {
            assert!(read.cover.min_over(&[range], Ts::ZERO) >= ts);
        }
        assert!(read.cover != before && read.cover != after, "some of both");
        assert_eq!(read.indexes.get(7, 2), Some(1));
        for (range, ts) in read.cover.iter() {
            assert!(ts <= after.min_over(&[range], Ts::ZERO));
        }
    }

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
            let (chunk, next) = encode_chunk(0, &Cursor::default(), &cover, &indexes);
            decode(&chunk, &mut read, &mut read_indexes).unwrap();
            prop_assert!(next.is_none());
            prop_assert_eq!((read, read_indexes), (cover, indexes));
        }

        #[test]
        fn no_input_makes_the_decoder_panic(input: Vec<u8>) {
            let _ = decode(&input, &mut Cover::new(), &mut LogIndexes::default());
            let _ = decode(&[&[1, 0, 1], &input[..]].concat(), &mut Cover::new(), &mut LogIndexes::default());
        }
    }
}
