//! Which of several records of one key and ts counts. Pure.
//!
//! **Write CF.** Two different records at one commit ts are the same version written twice, once marked with an
//! overlapped rollback, or a rollback record and something else. A record of a committed transaction beats a rollback
//! record (a commit overwrites it, never the other way round); the one that carries the overlapped rollback beats the
//! one that does not; a protected rollback beats a collapsible one. Anything else (two commits at one ts) cannot come
//! out of a sound cluster and is an error, not a choice. This is the rule of TiKV's compactor
//! (`reference/log-backup-format.md` §14), extended to committed deletes and lock records.
//!
//! **Default CF.** The last value that the transaction wrote counts. A store that logged the commit record also logged
//! the value that was committed, as its last one (it observed both, or its scan emitted both): so candidates of such
//! stores win, the latest in that store's order; only if there is none, the latest by flush ts.

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

/// Compares two values of one key and start ts: `Greater` means that `a` counts. `committed_by` are the stores that
/// logged the commit.
pub(crate) fn default_order(a: &Origin, b: &Origin, committed_by: &[u64]) -> Ordering {
    let logged_commit = |o: &Origin| committed_by.contains(&o.file.store);
    logged_commit(a).cmp(&logged_commit(b)).then_with(|| a.order(b))
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

    #[test]
    fn the_store_of_the_commit_knows_the_value() {
        let at = |store, flush_ts| Origin {
            file: FileOrigin { store, flush_ts, boot: 1, generation: flush_ts, version: 1, file: 0 },
            record: 0,
        };
        let (deposed_but_late, successor) = (at(1, 100), at(2, 90));
        assert_eq!(default_order(&successor, &deposed_but_late, &[2]), Ordering::Greater);
        assert_eq!(default_order(&successor, &deposed_but_late, &[]), Ordering::Less);
        assert_eq!(default_order(&at(2, 91), &successor, &[2]), Ordering::Greater);
    }
}
