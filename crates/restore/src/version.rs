//! The records of one version of a key, while sorted records are walked over.

use std::cmp::Ordering;

use logtide_model::codec::{CodecError, take_u8, take_var_u64};
use logtide_model::mvcc::Write;
use logtide_model::{MemoryBudget, Permit, Ts, split_ts};

use crate::RestoreError;
use crate::error::KeyText;
use crate::origin::Origin;
use crate::resolve::{Candidates, Testimony, Witnesses, write_order};

/// First payload byte of a reference. The cursors of references are given to the merge first, so that of equal keys
/// they come first.
pub(crate) const REFERENCE: u8 = 0;
/// First payload byte of a value.
pub(crate) const VALUE: u8 = 1;

/// The records of one version, as far as they were seen: the winner of write records, or candidates for the value.
pub(crate) struct Version {
    pub(crate) key: Vec<u8>,
    /// The record that counts.
    pub(crate) write: Vec<u8>,
    pub(crate) witnesses: Witnesses,
    values: Candidates,
    permit: Permit,
}

impl Version {
    pub(crate) fn new(budget: &MemoryBudget) -> Self {
        let (key, write, permit) = (Vec::new(), Vec::new(), budget.force_acquire(0));
        Version { key, write, witnesses: Witnesses::default(), values: Candidates::default(), permit }
    }

    pub(crate) fn begin(&mut self, key: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.write.clear();
        self.witnesses.clear();
        self.values.clear();
    }

    /// The write record that counts, parsed.
    pub(crate) fn write(&self) -> Result<Write<'_>, RestoreError> {
        Write::parse(&self.write).map_err(|e| Fault::Codec(e).of(&self.key))
    }

    /// The key without its ts, and the ts.
    pub(crate) fn user(&self) -> Result<(&[u8], Ts), RestoreError> {
        split_ts(&self.key).map_err(|e| Fault::Codec(e).of(&self.key))
    }

    fn set_write(&mut self, write: &[u8]) {
        self.write.clear();
        self.write.extend_from_slice(write);
    }

    fn add_value(&mut self, origin: Origin, value: &[u8]) {
        self.values.add(origin, value);
        if self.values.memory() != self.permit.bytes() {
            self.permit.resize(self.values.memory());
        }
    }

    /// The value that the commit at `commit_ts` refers to, the best of the candidates.
    pub(crate) fn value(&self, commit_ts: Ts) -> Result<&[u8], RestoreError> {
        let chosen = self.values.choose(&self.witnesses).map_err(|_| ambiguous(&self.key, commit_ts))?;
        chosen.ok_or_else(|| missing_value(&self.key, commit_ts))
    }

    /// Lets a write record compete.
    pub(crate) fn add_write(&mut self, payload: &[u8], first: bool) -> Result<(), RestoreError> {
        let fault = self.try_write(payload, first).err();
        fault.map_or(Ok(()), |fault| Err(fault.of(&self.key)))
    }

    fn try_write(&mut self, mut payload: &[u8], first: bool) -> Result<(), Fault> {
        let store = take_var_u64(&mut payload)?;
        let new = Write::parse(payload)?;
        self.witnesses.add(store, Testimony::of(&new));
        if first {
            self.set_write(payload);
        } else if self.write != payload {
            let held = Write::parse(&self.write)?;
            let order = write_order((&new, payload), (&held, &self.write)).map_err(|_| Fault::Irreconcilable)?;
            if order == Ordering::Greater {
                self.set_write(payload);
            }
        }
        Ok(())
    }

    /// Lets a value compete, or notes a reference; which of the two it was.
    pub(crate) fn add_default(&mut self, payload: &[u8], commit: &mut Option<Ts>) -> Result<u8, RestoreError> {
        let kind = self.try_default(payload, commit);
        kind.map_err(|e| Fault::Codec(e).of(&self.key))
    }

    fn try_default(&mut self, mut payload: &[u8], commit: &mut Option<Ts>) -> Result<u8, CodecError> {
        let kind = take_u8(&mut payload)?;
        if kind == REFERENCE {
            *commit = Some(Ts::new(take_var_u64(&mut payload)?));
            while !payload.is_empty() {
                let witness = take_var_u64(&mut payload)?;
                let testimony = if witness & 1 == 1 { Testimony::Commit } else { Testimony::Rewritten };
                self.witnesses.add(witness >> 1, testimony);
            }
        } else if commit.is_some() {
            let origin = Origin::take(&mut payload)?;
            self.add_value(origin, payload);
        }
        Ok(kind)
    }
}

/// What is wrong with a version.
enum Fault {
    Codec(CodecError),
    Irreconcilable,
}

impl From<CodecError> for Fault {
    fn from(e: CodecError) -> Self {
        Fault::Codec(e)
    }
}

impl Fault {
    fn of(self, key: &[u8]) -> RestoreError {
        let commit_ts = split_ts(key).map(|(_, ts)| ts).unwrap_or_default();
        match self {
            Fault::Irreconcilable => RestoreError::Conflict { key: KeyText::of_versioned(key), commit_ts },
            Fault::Codec(cause) => RestoreError::Malformed { key: KeyText::of_versioned(key), ts: commit_ts, cause },
        }
    }
}

fn missing_value(key: &[u8], commit_ts: Ts) -> RestoreError {
    let start_ts = split_ts(key).map(|(_, ts)| ts).unwrap_or_default();
    RestoreError::MissingValue { key: KeyText::of_versioned(key), start_ts, commit_ts }
}

fn ambiguous(key: &[u8], commit_ts: Ts) -> RestoreError {
    let start_ts = split_ts(key).map(|(_, ts)| ts).unwrap_or_default();
    RestoreError::AmbiguousValue { key: KeyText::of_versioned(key), start_ts, commit_ts }
}
