//! The bytes of the journal: frames with a checksum, holding a snapshot or a change.
//!
//! ```text
//! frame    := magic "LTJ1" · length u64 LE · crc64 u64 LE of payload · payload
//! payload  := 0 · revision · last lease id · leases · keys            (snapshot; the first frame)
//!           | 1 · revision · operations                               (change)
//! ```
//! Numbers in payloads are LEB128 varints, byte strings have their length in front.

use std::collections::BTreeMap;

use bytes::Bytes;
use logtide_model::codec::{CodecError, encode_var_u64, take, take_u8, take_var_u64};

use crate::store::{Change, KeyValue, Lease, LeaseId, Op, State};

/// Begins every frame.
pub(crate) const MAGIC: [u8; 4] = *b"LTJ1";
/// Bytes in front of a payload.
pub(crate) const HEADER: usize = 20;

const SNAPSHOT: u8 = 0;
const CHANGE: u8 = 1;
const PUT: u8 = 0;
const DELETE: u8 = 1;
const LEASE: u8 = 2;
const DROP_LEASE: u8 = 3;

/// What a frame holds.
pub(crate) enum Payload {
    Snapshot(State),
    Change(Change),
}

/// What is at some place of a journal.
pub(crate) enum Found<'a> {
    /// A whole frame with this payload; the frame is this long.
    Frame { payload: &'a [u8], len: usize },
    /// The end, or a frame that was cut off.
    Nothing,
}

/// Looks for a frame at the beginning of `bytes`.
pub(crate) fn find(bytes: &[u8]) -> Found<'_> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Found::Nothing };
    let (mut len, mut crc) = ([0; 8], [0; 8]);
    len.copy_from_slice(&header[4..12]);
    crc.copy_from_slice(&header[12..]);
    let payload = usize::try_from(u64::from_le_bytes(len)).ok().and_then(|len| rest.get(..len));
    match payload {
        Some(payload) if header[..4] == MAGIC && checksum(payload) == u64::from_le_bytes(crc) => {
            Found::Frame { payload, len: HEADER + payload.len() }
        }
        _ => Found::Nothing,
    }
}

/// True if a whole frame begins anywhere in `bytes`: then what is before it was not cut off but damaged.
pub(crate) fn any_frame(bytes: &[u8]) -> bool {
    bytes
        .windows(MAGIC.len())
        .enumerate()
        .filter(|(_, window)| *window == MAGIC)
        .any(|(at, _)| matches!(find(&bytes[at..]), Found::Frame { .. }))
}

fn checksum(payload: &[u8]) -> u64 {
    let mut digest = crc64fast::Digest::new();
    digest.write(payload);
    digest.sum64()
}

/// Puts a frame around what `fill` writes.
fn frame(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    fill(&mut out);
    let (len, crc) = ((out.len() - HEADER) as u64, checksum(&out[HEADER..]));
    out[..4].copy_from_slice(&MAGIC);
    out[4..12].copy_from_slice(&len.to_le_bytes());
    out[12..HEADER].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The frame of a change.
pub(crate) fn encode_change(change: &Change) -> Vec<u8> {
    frame(|out| {
        out.push(CHANGE);
        encode_var_u64(change.revision, out);
        for op in &change.ops {
            encode_op(op, out);
        }
    })
}

fn encode_op(op: &Op, out: &mut Vec<u8>) {
    match op {
        Op::Put { key, value, lease } => {
            out.push(PUT);
            put_bytes(key, out);
            put_bytes(value, out);
            encode_var_u64(lease.map_or(0, |id| id.0), out);
        }
        Op::Delete(key) => {
            out.push(DELETE);
            put_bytes(key, out);
        }
        Op::Lease(id, lease) => {
            out.push(LEASE);
            encode_lease(*id, lease, out);
        }
        Op::DropLease(id) => {
            out.push(DROP_LEASE);
            encode_var_u64(id.0, out);
        }
    }
}

fn encode_lease(id: LeaseId, lease: &Lease, out: &mut Vec<u8>) {
    for n in [id.0, lease.ttl_ms, lease.expires_ms] {
        encode_var_u64(n, out);
    }
}

/// The frame of a snapshot.
pub(crate) fn encode_snapshot(state: &State) -> Vec<u8> {
    frame(|out| {
        out.push(SNAPSHOT);
        for n in [state.revision, state.last_lease, state.leases.len() as u64] {
            encode_var_u64(n, out);
        }
        for (id, lease) in &state.leases {
            encode_lease(*id, lease, out);
        }
        for kv in state.keys.values() {
            put_bytes(&kv.key, out);
            put_bytes(&kv.value, out);
            for n in [kv.create_revision, kv.mod_revision, kv.version, kv.lease.map_or(0, |id| id.0)] {
                encode_var_u64(n, out);
            }
        }
    })
}

/// Reads a payload.
pub(crate) fn decode(mut input: &[u8]) -> Result<Payload, CodecError> {
    match take_u8(&mut input)? {
        SNAPSHOT => decode_snapshot(&mut input).map(Payload::Snapshot),
        CHANGE => decode_change(&mut input).map(Payload::Change),
        other => Err(CodecError::UnknownFlag(other)),
    }
}

fn decode_change(input: &mut &[u8]) -> Result<Change, CodecError> {
    let revision = take_var_u64(input)?;
    let mut ops = Vec::new();
    while !input.is_empty() {
        ops.push(match take_u8(input)? {
            PUT => Op::Put { key: take_bytes(input)?, value: take_bytes(input)?, lease: take_lease_id(input)? },
            DELETE => Op::Delete(take_bytes(input)?),
            LEASE => {
                let (id, lease) = take_lease(input)?;
                Op::Lease(id, lease)
            }
            DROP_LEASE => Op::DropLease(LeaseId(take_var_u64(input)?)),
            other => return Err(CodecError::UnknownFlag(other)),
        });
    }
    Ok(Change { revision, ops })
}

fn decode_snapshot(input: &mut &[u8]) -> Result<State, CodecError> {
    let (revision, last_lease, count) = (take_var_u64(input)?, take_var_u64(input)?, take_var_u64(input)?);
    let mut leases = BTreeMap::new();
    for _ in 0..count {
        let (id, lease) = take_lease(input)?;
        leases.insert(id, lease);
    }
    let mut keys = BTreeMap::new();
    while !input.is_empty() {
        let (key, value) = (take_bytes(input)?, take_bytes(input)?);
        let (create_revision, mod_revision, version) =
            (take_var_u64(input)?, take_var_u64(input)?, take_var_u64(input)?);
        let lease = take_lease_id(input)?;
        let kv = KeyValue { key: key.clone(), value, create_revision, mod_revision, version, lease };
        keys.insert(key, kv);
    }
    Ok(State::restored(revision, keys, leases, last_lease))
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    encode_var_u64(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Copies, so that one small key does not keep the whole file in memory.
fn take_bytes(input: &mut &[u8]) -> Result<Bytes, CodecError> {
    let len = usize::try_from(take_var_u64(input)?).map_err(|_| CodecError::BadLength)?;
    Ok(Bytes::copy_from_slice(take(input, len)?))
}

fn take_lease(input: &mut &[u8]) -> Result<(LeaseId, Lease), CodecError> {
    let id = LeaseId(take_var_u64(input)?);
    Ok((id, Lease { ttl_ms: take_var_u64(input)?, expires_ms: take_var_u64(input)? }))
}

fn take_lease_id(input: &mut &[u8]) -> Result<Option<LeaseId>, CodecError> {
    Ok(Some(take_var_u64(input)?).filter(|id| *id != 0).map(LeaseId))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_op() -> impl Strategy<Value = Op> {
        let bytes = || any::<Vec<u8>>().prop_map(Bytes::from);
        let lease = || (1..u64::MAX).prop_map(LeaseId);
        prop_oneof![
            (bytes(), bytes(), proptest::option::of(lease())).prop_map(|(key, value, lease)| Op::Put {
                key,
                value,
                lease
            }),
            bytes().prop_map(Op::Delete),
            (lease(), any::<u64>(), any::<u64>())
                .prop_map(|(id, ttl_ms, expires_ms)| Op::Lease(id, Lease { ttl_ms, expires_ms })),
            lease().prop_map(Op::DropLease),
        ]
    }

    fn payload(frame: &[u8]) -> &[u8] {
        let Found::Frame { payload, len } = find(frame) else { panic!("no frame") };
        assert_eq!(len, frame.len());
        payload
    }

    proptest! {
        #[test]
        fn changes_and_the_states_they_make_round_trip(ops in proptest::collection::vec(any_op(), 0..8)) {
            let change = Change { revision: 1, ops };
            let bytes = encode_change(&change);
            let Ok(Payload::Change(read)) = decode(payload(&bytes)) else { panic!("no change") };
            prop_assert_eq!(&read, &change);
            let mut state = State::default();
            state.apply(change);
            let bytes = encode_snapshot(&state);
            let Ok(Payload::Snapshot(read)) = decode(payload(&bytes)) else { panic!("no snapshot") };
            prop_assert_eq!(
                (read.revision, &read.keys, &read.leases, read.last_lease),
                (state.revision, &state.keys, &state.leases, state.last_lease)
            );
        }

        #[test]
        fn a_damaged_frame_is_none(ops in proptest::collection::vec(any_op(), 0..4), at: usize, bit in 0..8) {
            let mut bytes = encode_change(&Change { revision: 1, ops });
            let at = at % bytes.len();
            bytes[at] ^= 1u8 << bit;
            prop_assert!(matches!(find(&bytes), Found::Nothing));
        }

        #[test]
        fn no_input_makes_the_decoder_panic(input: Vec<u8>, kind in 0..3u8) {
            let _ = find(&input);
            let _ = any_frame(&input);
            let _ = decode(&input);
            let _ = decode(&[&[kind], &input[..]].concat());
        }
    }
}
