//! What an object is, by its name. Pure.

use logtide_format::{CHECKPOINT_PREFIX, DataName, HEAD_PREFIX, MARKS_PREFIX, METADATA_PREFIX, parse_head_path};
use logtide_storage::{BACKUPMETA_OBJECT, IDENTITY_OBJECT, LOCK_FAMILIES, LOCK_OBJECT, OWN_PREFIX};

/// Folders and objects of a log backup that only other tools write, and we never touch.
const OF_OTHERS: [&str; 8] = [
    "v1/migrations/",
    "v1/compactions/",
    "v1/compaction_out/",
    "v1/APPEND_LOCK",
    "crr-checkpoint/",
    "pitr_id_maps/",
    "v1_stream_trancate_safepoint.txt",
    "extbackup",
];

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// A data object.
    Data(DataName),
    /// A metadata object.
    Metadata,
    /// The head of a boot.
    Head,
    /// The head of a merged metadata object.
    MergedHead {
        store: u64,
        boot: u64,
        generation: u64,
    },
    /// The checkpoint of a store.
    Checkpoint {
        store: u64,
    },
    /// Left by a probe, or in use by one.
    Probe,
    /// A lock, or an intent to lock.
    Lock,
    /// It belongs there.
    Fixed,
    Unknown,
}

impl Sort {
    pub(super) fn of(object: &str) -> Sort {
        let below = |folder: &str| object.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
        if let Some(name) = DataName::parse(object) {
            return Sort::Data(name);
        }
        if below(METADATA_PREFIX).is_some() {
            return if object.ends_with(".meta") { Sort::Metadata } else { Sort::Unknown };
        }
        if let Some(name) = below(CHECKPOINT_PREFIX) {
            let store = name.strip_suffix(".ts").and_then(|store| store.parse().ok());
            return store.map_or(Sort::Unknown, |store| Sort::Checkpoint { store });
        }
        if below(HEAD_PREFIX).is_some() {
            return match parse_head_path(object) {
                Some((store, boot, Some(generation))) => Sort::MergedHead { store, boot, generation },
                Some((.., None)) => Sort::Head,
                None => Sort::Unknown,
            };
        }
        if below(OWN_PREFIX).is_some_and(|rest| rest.starts_with("probe/")) {
            return Sort::Probe;
        }
        if LOCK_FAMILIES.iter().any(|(_, name, _)| object.starts_with(name)) {
            return Sort::Lock;
        }
        let is_fixed = [BACKUPMETA_OBJECT, IDENTITY_OBJECT, LOCK_OBJECT].contains(&object)
            || below(MARKS_PREFIX).is_some()
            || OF_OTHERS.iter().any(|of| object.starts_with(of));
        if is_fixed { Sort::Fixed } else { Sort::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_format::{ObjectTag, checkpoint_path, data_path, head_path, marks_path, merged_head_path};
    use logtide_model::Ts;

    #[test]
    fn what_we_write_is_known_and_nothing_else_is() {
        let tag = ObjectTag { boot: 2, generation: 3 };
        let data = data_path(1, Ts::new(5), Ts::new(6), true, tag, 0);
        assert!(matches!(Sort::of(&data), Sort::Data(name) if name.origin == Some((tag, 0))));
        assert_eq!(Sort::of(&checkpoint_path(9)), Sort::Checkpoint { store: 9 });
        assert_eq!(Sort::of(&head_path(1, 2)), Sort::Head);
        assert_eq!(Sort::of(&merged_head_path(1, tag)), Sort::MergedHead { store: 1, boot: 2, generation: 3 });
        assert_eq!(Sort::of("v1/backupmeta/anything.meta"), Sort::Metadata);
        assert_eq!(Sort::of("v1/logtide/probe/00ff-put"), Sort::Probe);
        for lock in ["v1/LOCK.WRIT", "v1/LOCK.READ.00ff", "truncating.lock"] {
            assert_eq!(Sort::of(lock), Sort::Lock);
        }
        for fixed in [&marks_path(1, tag), "backupmeta", "backup.lock", IDENTITY_OBJECT, "v1/migrations/1_2.mgrt"] {
            assert_eq!(Sort::of(fixed), Sort::Fixed, "{fixed}");
        }
        for other in ["x", "v1/x", "v1/20260101/00/1/x.log", "v1/backupmeta/x", "v1/logtide/x", "v1/logtide/heads/1"] {
            assert_eq!(Sort::of(other), Sort::Unknown, "{other}");
        }
    }
}
