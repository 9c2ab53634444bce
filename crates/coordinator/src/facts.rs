//! Facts as they are published: encoding, and reading publications back.

use bytes::Bytes;
use logtide_model::codec::CodecError;
use logtide_model::planted::Bug;
use logtide_model::{KeyRange, RegionFact, StoreId, Ts};

use crate::chunks::{self, Reader, Writer};
use crate::error::CoordinatorError;
use crate::keys;
use crate::store::KeyValue;

/// The range begins where the one before ends.
const ADJACENT: u8 = 1;
/// The checkpoint is that of the fact before.
const SAME_CHECKPOINT: u8 = 2;
/// The version and the term are those of the fact before.
const SAME_HISTORY: u8 = 4;

/// A publication that is waiting to be folded.
pub(crate) struct Waiting {
    pub(crate) store_id: StoreId,
    pub(crate) keys: Vec<Bytes>,
    /// As they are stored: those of a million regions, all read at once, would take hundreds of megabytes.
    chunks: Vec<Bytes>,
    pub(crate) complete: bool,
    /// Boot epoch and generation.
    pub(crate) order: (u64, u64),
}

impl Waiting {
    /// Its facts; none for one that is not complete.
    pub(crate) fn facts(&self) -> Result<Vec<RegionFact>, CoordinatorError> {
        let mut facts = Vec::new();
        for (key, chunk) in self.keys.iter().zip(&self.chunks).filter(|_| self.complete) {
            decode(chunk, &mut facts).map_err(|e| CoordinatorError::malformed(key, e))?;
        }
        Ok(facts)
    }
}

/// Facts in chunks; the same facts always give the same bytes.
pub(crate) fn encode(facts: &[RegionFact]) -> Vec<Bytes> {
    let mut before = NONE;
    chunks::write(facts.iter(), |writer, fact, first| {
        if first {
            before = NONE;
        }
        encode_fact(writer, fact, &before);
        before = fact.clone();
    })
}

/// What the first fact of a chunk is compared with.
const NONE: RegionFact =
    RegionFact { region_id: 0, version: 0, range: KeyRange::ALL, checkpoint: Ts::ZERO, index: 0, term: 0 };

fn encode_fact(writer: &mut Writer, fact: &RegionFact, before: &RegionFact) {
    let adjacent = fact.range.start == before.range.end;
    let same_checkpoint = fact.checkpoint == before.checkpoint;
    let same_history = (fact.version, fact.term) == (before.version, before.term);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    writer.u8(flag(adjacent, ADJACENT) | flag(same_checkpoint, SAME_CHECKPOINT) | flag(same_history, SAME_HISTORY));
    writer.delta(fact.region_id, before.region_id);
    if !adjacent {
        writer.key(&fact.range.start);
    }
    writer.key(&fact.range.end);
    if !same_checkpoint {
        writer.delta(fact.checkpoint.get(), before.checkpoint.get());
    }
    if !same_history {
        writer.number(fact.version);
        writer.number(fact.term);
    }
    writer.number(fact.index);
}

fn decode_fact(reader: &mut Reader<'_>, before: &RegionFact) -> Result<RegionFact, CodecError> {
    let flags = reader.u8()?;
    if flags & !(ADJACENT | SAME_CHECKPOINT | SAME_HISTORY) != 0 {
        return Err(CodecError::UnknownFlag(flags));
    }
    let region_id = reader.delta(before.region_id)?;
    let start = if flags & ADJACENT != 0 { before.range.end.clone() } else { reader.key()? };
    let range = KeyRange { start, end: reader.key()? };
    let checkpoint = match flags & SAME_CHECKPOINT {
        0 => Ts::new(reader.delta(before.checkpoint.get())?),
        _ => before.checkpoint,
    };
    let (version, term) = match flags & SAME_HISTORY {
        0 => (reader.number()?, reader.number()?),
        _ => (before.version, before.term),
    };
    Ok(RegionFact { region_id, version, range, checkpoint, index: reader.number()?, term })
}

/// The facts of one chunk.
pub(crate) fn decode(chunk: &[u8], facts: &mut Vec<RegionFact>) -> Result<(), CodecError> {
    let mut entries = chunks::open(chunk)?.entries;
    let mut before = NONE;
    while !entries.is_empty() {
        before = decode_fact(&mut entries, &before)?;
        facts.push(before.clone());
    }
    Ok(())
}

/// The publications among the records of a task's life, in the order of store, boot epoch and generation.
pub(crate) fn read(records: &[KeyValue]) -> Result<Vec<Waiting>, CoordinatorError> {
    let mut waiting = Vec::new();
    for (prefix, group) in chunks::groups(records) {
        if Bug::OldLifeBelieved.is_planted() && !prefix.windows(6).any(|part| part == b"/fact/") {
            continue;
        }
        let keys: Vec<Bytes> = group.records.iter().map(|kv| kv.key.clone()).collect();
        let (store_id, boot, generation) =
            place(prefix).ok_or_else(|| CoordinatorError::malformed(prefix, "it is no key of a publication"))?;
        let chunks = group.records.iter().map(|kv| kv.value.clone()).collect();
        waiting.push(Waiting { store_id, keys, chunks, complete: group.complete, order: (boot, generation) });
    }
    Ok(waiting)
}

/// Store, boot epoch and generation of `…/fact/{store}/{boot}/{generation}/`.
fn place(prefix: &[u8]) -> Option<(StoreId, u64, u64)> {
    let mut rest = prefix.strip_suffix(b"/")?;
    let mut numbers = [0; 3];
    for number in numbers.iter_mut().rev() {
        *number = keys::last_hex(rest)?;
        rest = &rest[..rest.iter().rposition(|b| *b == b'/')?];
    }
    Some((numbers[0], numbers[1], numbers[2]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_model::{Incarnation, TaskName};
    use proptest::prelude::*;

    fn any_fact() -> impl Strategy<Value = RegionFact> {
        let key = prop_oneof![any::<Vec<u8>>(), "[ab]{0,4}".prop_map(String::into_bytes)];
        let end = prop_oneof![any::<Vec<u8>>(), "[ab]{0,4}".prop_map(String::into_bytes)];
        (any::<u64>(), 0..3u64, key, end, prop_oneof![any::<u64>(), 5..7u64], any::<u64>(), 0..3u64).prop_map(
            |(region_id, version, start, end, ts, index, term)| RegionFact {
                region_id,
                version,
                range: KeyRange::new(start, end),
                checkpoint: Ts::new(ts),
                index,
                term,
            },
        )
    }

    fn decode_all(chunks: &[Bytes]) -> Vec<RegionFact> {
        let mut facts = Vec::new();
        chunks.iter().for_each(|chunk| decode(chunk, &mut facts).unwrap());
        facts
    }

    fn regions(n: u64, checkpoint: impl Fn(u64) -> u64) -> Vec<RegionFact> {
        let bound = |i: u64| logtide_model::encode_raw_key(format!("t/some/table/{i:012}").as_bytes());
        let fact = |i| RegionFact {
            region_id: 1000 + 2 * i,
            version: 7,
            range: KeyRange::new(bound(i), bound(i + 1)),
            checkpoint: Ts::new(checkpoint(i)),
            index: 100_000 + i * 37 % 1000,
            term: 8,
        };
        (0..n).map(fact).collect()
    }

    #[test]
    fn ten_thousand_regions_are_one_small_record() {
        let facts = regions(10_000, |_| 460_000_000_000_000_000);
        let chunks = encode(&facts);
        assert_eq!(chunks.len(), 1);
        println!("10,000 facts: {} bytes", chunks[0].len());
        assert!(chunks[0].len() < 20 * 10_000, "{} bytes", chunks[0].len());
        assert_eq!(decode_all(&chunks), facts);
    }

    #[test]
    fn many_facts_are_cut_into_chunks_that_stand_alone() {
        let facts = regions(100_000, |i| 460_000_000_000_000_000 + i * 262_144);
        let chunks = encode(&facts);
        assert!(chunks.len() > 1);
        assert!(chunks.iter().all(|chunk| chunk.len() < crate::store::MAX_VALUE_BYTES));
        assert_eq!(decode_all(&chunks), facts);
        let mut last = Vec::new();
        decode(&chunks[chunks.len() - 1], &mut last).unwrap();
        assert_eq!(last[..], facts[facts.len() - last.len()..]);
    }

    #[test]
    fn a_publication_with_a_missing_chunk_is_not_complete() {
        let name = TaskName::new("t").unwrap();
        let facts = regions(100_000, |i| 460_000_000_000_000_000 + i * 262_144);
        let record = |(i, value): (usize, Bytes)| KeyValue {
            key: keys::fact(&name, Incarnation(1), 2, 3, 4, i),
            value,
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            lease: None,
        };
        let records: Vec<KeyValue> = encode(&facts).into_iter().enumerate().map(record).collect();
        let whole = read(&records).unwrap();
        assert_eq!((whole.len(), whole[0].complete, &whole[0].facts().unwrap()), (1, true, &facts));
        assert_eq!((whole[0].store_id, whole[0].order), (2, (3, 4)));
        for missing in 0..records.len() {
            let mut some = records.clone();
            some.remove(missing);
            let part = read(&some).unwrap();
            assert_eq!((part[0].complete, part[0].facts().unwrap().len(), part[0].keys.len()), (false, 0, some.len()));
        }
    }

    proptest! {
        #[test]
        fn facts_round_trip(facts in proptest::collection::vec(any_fact(), 0..20)) {
            let chunks = encode(&facts);
            prop_assert_eq!(decode_all(&chunks), facts.clone());
            prop_assert_eq!(encode(&facts), chunks);
        }

        #[test]
        fn no_input_makes_the_decoder_panic(input: Vec<u8>, facts in proptest::collection::vec(any_fact(), 1..5), at: usize, bit in 0..8) {
            let _ = decode(&input, &mut Vec::new());
            let _ = decode(&[&[1, 0, 1], &input[..]].concat(), &mut Vec::new());
            let mut damaged = encode(&facts)[0].to_vec();
            let at = at % damaged.len();
            damaged[at] ^= 1u8 << bit;
            let _ = decode(&damaged, &mut Vec::new());
            prop_assert!(decode(&damaged[..0], &mut Vec::new()).is_err());
        }
    }
}
