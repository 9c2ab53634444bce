//! The changes that a command makes, gathered.

use bytes::Bytes;
use logtide_model::mvcc::{Lock, Write};
use logtide_model::{Cf, Op, Ts, append_ts, encode_raw_key};

use crate::concurrency::KeyGuard;
use crate::engine::SortedRecords;

/// TiKV's limit for values that are kept in lock and write records, in bytes.
pub(crate) const SHORT_VALUE_MAX: usize = 64;

/// A user key in both forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserKey {
    pub(crate) raw: Vec<u8>,
    pub(crate) encoded: Vec<u8>,
}

impl UserKey {
    pub(crate) fn new(raw: &[u8]) -> Self {
        UserKey { raw: raw.to_vec(), encoded: encode_raw_key(raw) }
    }

    /// The encoded key with a timestamp.
    pub(crate) fn at(&self, ts: Ts) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.encoded.len() + 8);
        key.extend_from_slice(&self.encoded);
        append_ts(&mut key, ts);
        key
    }

    fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.encoded)
    }
}

/// What is to be proposed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) ops: Vec<Op>,
    pub(crate) guards: Vec<KeyGuard>,
    /// What comes by files instead.
    pub(crate) files: Vec<(Cf, SortedRecords)>,
    /// When a range is removed.
    pub(crate) range_deleted: Option<Ts>,
}

impl Changes {
    pub(crate) fn put_lock(&mut self, key: &UserKey, lock: &Lock) {
        self.ops.push(Op::Put { cf: Cf::Lock, key: key.bytes(), value: lock.to_bytes().into() });
    }

    pub(crate) fn unlock(&mut self, key: &UserKey) {
        self.ops.push(Op::Delete { cf: Cf::Lock, key: key.bytes() });
    }

    pub(crate) fn put_write(&mut self, key: &UserKey, commit_ts: Ts, write: &Write<'_>) {
        self.put_write_bytes(key, commit_ts, write.to_bytes());
    }

    pub(crate) fn put_write_bytes(&mut self, key: &UserKey, commit_ts: Ts, write: Vec<u8>) {
        self.ops.push(Op::Put { cf: Cf::Write, key: key.at(commit_ts).into(), value: write.into() });
    }

    pub(crate) fn delete_write(&mut self, key: &UserKey, commit_ts: Ts) {
        self.ops.push(Op::Delete { cf: Cf::Write, key: key.at(commit_ts).into() });
    }

    pub(crate) fn put_value(&mut self, key: &UserKey, start_ts: Ts, value: Bytes) {
        self.ops.push(Op::Put { cf: Cf::Default, key: key.at(start_ts).into(), value });
    }

    pub(crate) fn delete_value(&mut self, key: &UserKey, start_ts: Ts) {
        self.ops.push(Op::Delete { cf: Cf::Default, key: key.at(start_ts).into() });
    }
}
