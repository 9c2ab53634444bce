//! Facts as they are published: encoding, and reading publications back.

use bytes::Bytes;
use logtide_model::codec::CodecError;
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
    /// Empty for one that is not complete.
    pub(crate) facts: Vec<RegionFact>,
    pub(crate) keys: Vec<Bytes>,
    pub(crate) complete: bool,
    /// Boot epoch and generation.
    pub(crate) order: (u64, u64),
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
        let keys: Vec<Bytes> = group.records.iter().map(|kv| kv.key.clone()).collect();
        let (store_id, boot, generation) =
            place(prefix).ok_or_else(|| CoordinatorError::malformed(prefix, "it is no key of a publication"))?;
        let mut facts = Vec::new();
        for kv in group.records.iter().filter(|_| group.complete) {
            decode(&kv.value, &mut facts).map_err(|e| CoordinatorError::malformed(&kv.key, e))?;
        }
        waiting.push(Waiting { store_id, facts, keys, complete: group.complete, order: (boot, generation) });
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
