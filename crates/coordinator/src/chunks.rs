//! The binary encoding of facts and covers, in chunks.
//!
//! A chunk is `version 1 · index · number of chunks · entries`; one that is written before their number is known says that
//! there is at least one more. Keys are written as the part that the key before does
//! not begin with; numbers as the difference to the entry before. A chunk can be read without the others. Numbers are
//! LEB128 varints, differences zigzag.

use std::collections::BTreeMap;

use bytes::Bytes;
use logtide_model::codec::{CodecError, encode_var_u64, take, take_u8, take_var_u64};

use crate::store::KeyValue;

/// The version of the encoding.
const VERSION: u8 = 1;
/// A chunk ends with the entry that brings it over this many bytes: far below the limit of a value, which one entry
/// with long keys may need.
pub(crate) const CHUNK_BYTES: usize = 512 << 10;

/// Writes keys and numbers that resemble those before.
#[derive(Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
    key: Vec<u8>,
}

impl Writer {
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn u8(&mut self, n: u8) {
        self.out.push(n);
    }

    pub(crate) fn number(&mut self, n: u64) {
        encode_var_u64(n, &mut self.out);
    }

    /// The difference to `before`.
    pub(crate) fn delta(&mut self, n: u64, before: u64) {
        let delta = n.wrapping_sub(before) as i64;
        self.number(((delta << 1) ^ (delta >> 63)) as u64);
    }

    /// At most 255 bytes are taken from the key before, so that what is read is in proportion to what is stored.
    pub(crate) fn key(&mut self, key: &[u8]) {
        let same = self.key.iter().zip(key).take(usize::from(u8::MAX)).take_while(|(a, b)| a == b).count();
        self.out.push(same as u8);
        self.number((key.len() - same) as u64);
        self.out.extend_from_slice(&key[same..]);
        self.key.clear();
        self.key.extend_from_slice(key);
    }
}

/// Reads what [`Writer`] wrote.
pub(crate) struct Reader<'a> {
    input: &'a [u8],
    key: Bytes,
}

impl Reader<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CodecError> {
        take_u8(&mut self.input)
    }

    pub(crate) fn number(&mut self) -> Result<u64, CodecError> {
        take_var_u64(&mut self.input)
    }

    pub(crate) fn delta(&mut self, before: u64) -> Result<u64, CodecError> {
        let zigzag = self.number()?;
        Ok(before.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg()))
    }

    pub(crate) fn key(&mut self) -> Result<Bytes, CodecError> {
        let same = usize::from(self.u8()?);
        let rest = usize::try_from(self.number()?).map_err(|_| CodecError::BadLength)?;
        let rest = take(&mut self.input, rest)?;
        let head = self.key.get(..same).ok_or(CodecError::BadLength)?;
        if !(rest.is_empty() && same == self.key.len()) {
            self.key = [head, rest].concat().into();
        }
        Ok(self.key.clone())
    }
}

/// Cuts entries into chunks. `write` is told which is the first of a chunk.
pub(crate) fn write<T>(entries: impl Iterator<Item = T>, mut write: impl FnMut(&mut Writer, T, bool)) -> Vec<Bytes> {
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    let mut writer = Writer::default();
    for entry in entries {
        let first = writer.len() == 0;
        write(&mut writer, entry, first);
        if writer.len() >= CHUNK_BYTES {
            bodies.push(std::mem::take(&mut writer).out);
        }
    }
    if writer.len() > 0 || bodies.is_empty() {
        bodies.push(writer.out);
    }
    let count = bodies.len();
    bodies.into_iter().enumerate().map(|(index, body)| with_header(index, count, &body)).collect()
}

/// One chunk of what is written over time: entries until it is full. Returns it, and the entry that the next one begins
/// with.
pub(crate) fn write_one<T>(
    index: usize,
    mut entries: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut Writer, T),
) -> (Bytes, Option<T>) {
    let mut writer = Writer::default();
    let next = loop {
        match entries.next() {
            Some(entry) if writer.len() < CHUNK_BYTES => write(&mut writer, entry),
            next => break next,
        }
    };
    let count = index + 1 + usize::from(next.is_some());
    (with_header(index, count, &writer.out), next)
}

fn with_header(index: usize, count: usize, body: &[u8]) -> Bytes {
    let mut out = vec![VERSION];
    encode_var_u64(index as u64, &mut out);
    encode_var_u64(count as u64, &mut out);
    out.extend_from_slice(body);
    out.into()
}

/// What a chunk says of itself, and its entries.
pub(crate) struct Chunk<'a> {
    pub(crate) index: u64,
    pub(crate) count: u64,
    pub(crate) entries: Reader<'a>,
}

/// Opens a chunk.
pub(crate) fn open(mut input: &[u8]) -> Result<Chunk<'_>, CodecError> {
    match take_u8(&mut input)? {
        VERSION => {}
        other => return Err(CodecError::UnknownFlag(other)),
    }
    let (index, count) = (take_var_u64(&mut input)?, take_var_u64(&mut input)?);
    if index >= count {
        return Err(CodecError::BadLength);
    }
    Ok(Chunk { index, count, entries: Reader { input, key: Bytes::new() } })
}

/// Records that are told apart by all of their keys but the last part.
pub(crate) struct Group<'a> {
    pub(crate) records: Vec<&'a KeyValue>,
    /// True if no chunk is missing.
    pub(crate) complete: bool,
}

/// Puts the chunks of one thing together; the groups are in the order of their keys.
pub(crate) fn groups(records: &[KeyValue]) -> BTreeMap<&[u8], Group<'_>> {
    let mut groups: BTreeMap<&[u8], Group<'_>> = BTreeMap::new();
    for kv in records {
        let end = kv.key.iter().rposition(|b| *b == b'/').map_or(kv.key.len(), |slash| slash + 1);
        groups.entry(&kv.key[..end]).or_insert_with(|| Group { records: Vec::new(), complete: false }).records.push(kv);
    }
    for group in groups.values_mut() {
        let chunks: Option<Vec<_>> = group.records.iter().map(|kv| open(&kv.value).ok()).collect();
        group.complete = chunks.is_some_and(|chunks| {
            let in_order = chunks.iter().zip(0..).all(|(chunk, index)| chunk.index == index);
            in_order && chunks.last().is_some_and(|last| last.count == chunks.len() as u64)
        });
    }
    groups
}
