//! Which of several records of one key and ts counts. Pure.
//!
//! **Write CF.** Two different records at one commit ts are the same version written twice, once marked with an
//! overlapped rollback, or a rollback record and something else. A record of a committed transaction beats a rollback
//! record (a commit overwrites it, never the other way round); the one that carries the overlapped rollback beats the
//! one that does not; a protected rollback beats a collapsible one. Anything else (two commits at one ts) cannot come
//! out of a sound cluster and is an error, not a choice. This is the rule of TiKV's compactor
//! (`reference/log-backup-format.md` §14), extended to committed deletes and lock records.
//!
//! **Default CF.** The last value that the transaction wrote counts. Within a store "last" is known
//! ([`crate::origin`]); between stores time says nothing (a deposed leader may flush after its successor). So stores are
//! asked by what they [`Testimony`] about: one that logged the commit itself logged the committed value too, as its last
//! (it observed both, or its scan emitted both). All such stores must agree; if not, the log is refused.

use std::cmp::Ordering;

use logtide_model::mvcc::{Write, WriteKind};

use crate::origin::Origin;

/// Two records of one version that no rule reconciles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Irreconcilable;

fn rank(write: &Write<'_>) -> u8 {
    match write.kind {
        WriteKind::Rollback => u8::from(write.is_protected()),
        _ => 2 + u8::from(write.overlapped_rollback),
    }
}

/// Compares two records of one key and commit ts: `Greater` means that `a` counts.
///
/// Records of equal rank that say the same are ordered by their bytes, so that the outcome does not depend on the
/// order of arrival.
pub(crate) fn write_order(
    (a, a_bytes): (&Write<'_>, &[u8]),
    (b, b_bytes): (&Write<'_>, &[u8]),
) -> Result<Ordering, Irreconcilable> {
    let (ra, rb) = (rank(a), rank(b));
    let same_version = a.kind == b.kind && a.start_ts == b.start_ts && a.short_value == b.short_value;
    if ra >= 2 && rb >= 2 && !same_version {
        return Err(Irreconcilable);
    }
    Ok(ra.cmp(&rb).then_with(|| a_bytes.cmp(b_bytes)))
}

/// What a store can tell about a committed value, from the write records that it logged. The best one is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Testimony {
    /// It did not log the commit: it may have seen an earlier value only.
    None,
    /// It logged the commit as rewritten for an overlapped rollback: either its scan found it so, with its value; or it
    /// led when the commit, long made elsewhere, was marked, and tells nothing about the value.
    Rewritten,
    /// It logged the commit as it was made.
    Commit,
}

impl Testimony {
    /// Of a write record. A commit never writes a fence; the mark of an overlapped rollback always does (zero for none).
    pub(crate) fn of(write: &Write<'_>) -> Self {
        match write.kind {
            WriteKind::Rollback => Testimony::None,
            _ if write.gc_fence.is_some() => Testimony::Rewritten,
            _ => Testimony::Commit,
        }
    }
}

/// What stores can tell about one committed value.
#[derive(Debug, Default)]
pub(crate) struct Witnesses(Vec<(u64, Testimony)>);

impl Witnesses {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn add(&mut self, store: u64, testimony: Testimony) {
        match self.0.iter_mut().find(|(of, _)| *of == store) {
            Some((_, known)) => *known = testimony.max(*known),
            None if testimony > Testimony::None => self.0.push((store, testimony)),
            None => {}
        }
    }

    pub(crate) fn of(&self, store: u64) -> Testimony {
        self.0.iter().find(|(of, _)| *of == store).map_or(Testimony::None, |(_, testimony)| *testimony)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Testimony)> + '_ {
        self.0.iter().copied()
    }
}

/// The last value of each store for one key and start ts.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    held: Vec<(Origin, Vec<u8>)>,
    /// Entries of `held` in use; the others keep their buffers.
    used: usize,
}

impl Candidates {
    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.held.iter().map(|(_, value)| value.capacity()).sum()
    }

    pub(crate) fn add(&mut self, origin: Origin, value: &[u8]) {
        let known = self.held[..self.used].iter().position(|(of, _)| of.file.store == origin.file.store);
        let at = known.unwrap_or(self.used);
        if known.is_some_and(|at| self.held[at].0.order(&origin) == Ordering::Greater) {
            return;
        }
        if at == self.held.len() {
            self.held.push((origin, Vec::new()));
        }
        self.used = self.used.max(at + 1);
        let (held, bytes) = &mut self.held[at];
        *held = origin;
        bytes.clear();
        bytes.extend_from_slice(value);
    }

    /// The value that counts; `None` if there is none at all.
    ///
    /// # Errors
    /// [`Irreconcilable`] if stores that are to be believed equally say different things.
    pub(crate) fn choose(&self, witnesses: &Witnesses) -> Result<Option<&[u8]>, Irreconcilable> {
        let held = || self.held[..self.used].iter().map(|(o, value)| (witnesses.of(o.file.store), &value[..]));
        let Some(best) = held().map(|(testimony, _)| testimony).max() else { return Ok(None) };
        let mut believed = held().filter(|(testimony, _)| *testimony == best).map(|(_, value)| value);
        let first = believed.next();
        if believed.any(|value| Some(value) != first) { Err(Irreconcilable) } else { Ok(first) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::FileOrigin;
    use logtide_model::Ts;

    fn order(a: &Write<'_>, b: &Write<'_>) -> Result<Ordering, Irreconcilable> {
        write_order((a, &a.to_bytes()), (b, &b.to_bytes()))
    }

    #[test]
    fn conflict_rule_of_the_format() {
        let put = Write::new(WriteKind::Put, Ts::new(5), Some(b"v"));
        let mut overlapped = put.clone();
        overlapped.overlapped_rollback = true;
        let (weak, protected) = (Write::rollback(Ts::new(9), false), Write::rollback(Ts::new(9), true));
        let ascending = [&weak, &protected, &put, &overlapped];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(order(a, b), Ok(i.cmp(&j)), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_delete_may_carry_an_overlapped_rollback_too() {
        let delete = Write::new(WriteKind::Delete, Ts::new(5), None);
        let mut overlapped = delete.clone();
        overlapped.overlapped_rollback = true;
        assert_eq!(order(&overlapped, &delete), Ok(Ordering::Greater));
    }

    #[test]
    fn two_commits_at_one_ts_are_refused() {
        let put = Write::new(WriteKind::Put, Ts::new(5), Some(b"v"));
        for other in [
            Write::new(WriteKind::Put, Ts::new(5), Some(b"w")),
            Write::new(WriteKind::Put, Ts::new(4), Some(b"v")),
            Write::new(WriteKind::Delete, Ts::new(5), None),
        ] {
            assert_eq!(order(&put, &other), Err(Irreconcilable));
        }
    }

    fn at(store: u64, generation: u64) -> Origin {
        let file = FileOrigin { store, flush_ts: 0, boot: 1, generation, version: 1, file: 0 };
        Origin { file, record: 0 }
    }

    fn choose(values: &[(u64, u64, &str)], stores: &[(u64, Testimony)]) -> Result<Option<String>, Irreconcilable> {
        let (mut candidates, mut witnesses) = (Candidates::default(), Witnesses::default());
        candidates.add(at(99, 1), b"of the key before, which is cleared");
        candidates.clear();
        values.iter().for_each(|(store, generation, value)| candidates.add(at(*store, *generation), value.as_bytes()));
        stores.iter().for_each(|(store, testimony)| witnesses.add(*store, *testimony));
        candidates.choose(&witnesses).map(|v| v.map(|v| String::from_utf8_lossy(v).into_owned()))
    }

    #[test]
    fn the_store_of_the_commit_knows_the_value() {
        use Testimony::{Commit, Rewritten};
        let ok = |value: &str| Ok(Some(value.to_owned()));
        assert_eq!(choose(&[(1, 9, "draft"), (2, 1, "last")], &[(2, Commit)]), ok("last"));
        assert_eq!(choose(&[(1, 9, "draft"), (2, 1, "last")], &[(1, Rewritten), (2, Commit)]), ok("last"));
        assert_eq!(choose(&[(2, 2, "last"), (2, 1, "draft"), (1, 1, "x")], &[(2, Rewritten)]), ok("last"));
        assert_eq!(choose(&[(2, 1, "same"), (1, 1, "same")], &[(3, Commit)]), ok("same"));
        assert_eq!(choose(&[], &[(3, Commit)]), Ok(None));
    }

    #[test]
    fn witnesses_that_disagree_are_refused() {
        use Testimony::{Commit, None, Rewritten};
        for testimony in [None, Rewritten, Commit] {
            let stores = [(1, testimony), (2, testimony)];
            assert_eq!(choose(&[(1, 1, "a"), (2, 1, "b")], &stores), Err(Irreconcilable));
        }
    }
}
