//! The cover as it is persisted: editions, each in chunks. The newest complete edition is the one that counts.

use bytes::Bytes;
use logtide_checkpoint::Cover;
use logtide_model::codec::CodecError;
use logtide_model::{KeyRange, Ts};

use crate::chunks;
use crate::error::CoordinatorError;
use crate::keys;
use crate::store::KeyValue;

/// The range begins where the one before ends.
const ADJACENT: u8 = 1;

/// A cover that was read back.
#[derive(Default)]
pub(crate) struct Persisted {
    pub(crate) cover: Cover,
    /// The newest edition there is, complete or not; 0 for none.
    pub(crate) edition: u64,
    /// The keys of all editions.
    pub(crate) keys: Vec<Bytes>,
}

/// A cover in chunks.
pub(crate) fn encode(cover: &Cover) -> Vec<Bytes> {
    let (mut end, mut ts) = (Bytes::new(), Ts::ZERO);
    chunks::write(cover.iter(), |writer, (range, checkpoint), first| {
        if first {
            (end, ts) = (Bytes::new(), Ts::ZERO);
        }
        let adjacent = range.start == end;
        writer.u8(if adjacent { ADJACENT } else { 0 });
        if !adjacent {
            writer.key(&range.start);
        }
        writer.key(&range.end);
        writer.delta(checkpoint.get(), ts.get());
        (end, ts) = (range.end, checkpoint);
    })
}

/// Adds the entries of one chunk.
pub(crate) fn decode(chunk: &[u8], cover: &mut Cover) -> Result<(), CodecError> {
    let mut entries = chunks::open(chunk)?.entries;
    let (mut end, mut ts) = (Bytes::new(), Ts::ZERO);
    while !entries.is_empty() {
        let start = match entries.u8()? {
            0 => entries.key()?,
            ADJACENT => end,
            other => return Err(CodecError::UnknownFlag(other)),
        };
        end = entries.key()?;
        ts = Ts::new(entries.delta(ts.get())?);
        cover.insert(&KeyRange { start, end: end.clone() }, ts);
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
            decode(&kv.value, &mut persisted.cover).map_err(|e| CoordinatorError::malformed(&kv.key, e))?;
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
        fn covers_round_trip(facts in proptest::collection::vec(("[a-d]{0,3}", "[a-d]{0,3}", 0..5u64), 0..12)) {
            let cover: Cover =
                facts.into_iter().map(|(start, end, ts)| (KeyRange::new(start, end), Ts::new(ts))).collect();
            let mut read = Cover::new();
            encode(&cover).iter().for_each(|chunk| decode(chunk, &mut read).unwrap());
            prop_assert_eq!(read, cover);
        }

        #[test]
        fn no_input_makes_the_decoder_panic(input: Vec<u8>) {
            let _ = decode(&input, &mut Cover::new());
            let _ = decode(&[&[1, 0, 1], &input[..]].concat(), &mut Cover::new());
        }
    }
}
