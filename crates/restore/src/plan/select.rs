//! Selection of objects and logical files. Pure.
//!
//! A write record is needed if its commit ts is in `(start, upto]`. A value of the default column family is needed if
//! such a record refers to it; its ts is the start ts of the transaction, which lies below the commit ts but may lie
//! below `start`: `values_from` is the smallest `min_begin_ts_in_default_cf` of all objects that may hold needed write
//! records, and says how far back values can lie.
//!
//! Files of Delete entries are read and verified like others, for metadata has no checksum and might call a Put a Delete;
//! but they are never applied. Such an entry carries the ts of the version that was removed, not of the
//! removal. What removes versions is: garbage collection, of versions that a newer one had hidden before the GC
//! safepoint, which the advancer holds below the checkpoint: so the newer one is in the log as well, and for every
//! T ≤ checkpoint the right one of the two is what a read at T finds; the collapse of rollback records, which no read
//! sees; and the undoing of a prewrite, whose value no commit record refers to. Removing nothing is therefore exact for
//! every T, and removing anything could hide a version that T sees.

use std::ops::Range;

use logtide_format::{DataFile, FLAG_NO_GROUPS, MetaName};
use logtide_model::{Cf, KeyRange, Ts};

/// Which records a restore needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Commits at or below it are not part of the log.
    pub start: Ts,
    /// The ts that is restored.
    pub upto: Ts,
    /// Values with a smaller start ts are not needed.
    pub values_from: Ts,
    /// Encoded keys that are restored.
    pub range: KeyRange,
}

/// Why a logical file is not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skip {
    /// All its records are above the restored ts.
    After,
    /// All its records are below what is needed.
    Before,
    /// All its records are outside the key range.
    Outside,
    /// It removes versions: it is verified, and not applied.
    Delete,
}

impl Window {
    /// All commits in `(start, upto]` to keys in `range`, with values from any time.
    pub fn new(start: Ts, upto: Ts, range: KeyRange) -> Self {
        Window { start, upto, values_from: Ts::ZERO, range }
    }

    /// How far back values of write records in an object of that name can lie; `None` if it has no needed ones.
    pub fn values_from(&self, name: &MetaName) -> Option<Ts> {
        let holds = name.flags & FLAG_NO_GROUPS == 0 && name.min_ts <= self.upto && name.max_ts > self.start;
        holds.then_some(name.min_begin_ts)
    }

    /// False if no record of an object of that name is needed.
    pub fn needs_object(&self, name: &MetaName) -> bool {
        let oldest = self.values_from.min(self.start.next());
        name.flags & FLAG_NO_GROUPS == 0 && name.min_ts <= self.upto && name.max_ts >= oldest
    }

    /// `None` if the file may hold needed records.
    pub fn skips(&self, file: &DataFile) -> Option<Skip> {
        let oldest = self.oldest(file.key.cf);
        if file.min_ts > self.upto {
            Some(Skip::After)
        } else if file.max_ts < oldest {
            Some(Skip::Before)
        } else if !self.overlaps(&file.start_key, &file.end_key) {
            Some(Skip::Outside)
        } else if file.is_delete() {
            Some(Skip::Delete)
        } else {
            None
        }
    }

    /// `None` if the record is needed: as far as one record can tell.
    pub fn skips_record(&self, cf: Cf, key: &[u8], ts: Ts) -> Option<Skip> {
        if ts > self.upto {
            Some(Skip::After)
        } else if ts < self.oldest(cf) {
            Some(Skip::Before)
        } else if !self.range.contains(key) {
            Some(Skip::Outside)
        } else {
            None
        }
    }

    fn oldest(&self, cf: Cf) -> Ts {
        if cf == Cf::Default { self.values_from } else { self.start.next() }
    }

    /// `first` and `last` are keys with ts, both inclusive.
    fn overlaps(&self, first: &[u8], last: &[u8]) -> bool {
        last >= &self.range.start[..] && (self.range.end.is_empty() || first < &self.range.end[..])
    }
}

/// One read of a data object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    /// Which bytes of the object.
    pub(crate) bytes: Range<u64>,
    /// Which of the object's selected files they hold, in order of offset.
    pub(crate) files: Range<usize>,
}

/// Joins files that lie side by side into reads of at most `limit` bytes (one file may be longer), over gaps of at
/// most `gap` bytes. `files` are byte ranges in order of offset.
pub(crate) fn reads(files: &[Range<u64>], limit: u64, gap: u64) -> Vec<Read> {
    let mut all: Vec<Read> = Vec::new();
    for (i, file) in files.iter().enumerate() {
        match all.last_mut() {
            Some(read) if file.start <= read.bytes.end.saturating_add(gap) && file.end - read.bytes.start <= limit => {
                read.bytes.end = read.bytes.end.max(file.end);
                read.files.end = i + 1;
            }
            _ => all.push(Read { bytes: file.clone(), files: i..i + 1 }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_format::{EntryKind, FileKey};
    use logtide_model::Compression;
    use proptest::prelude::*;

    fn name(d: u64, l: u64, u: u64) -> MetaName {
        let ts = Ts::new;
        MetaName {
            flush_ts: ts(1),
            store_id: 1,
            min_begin_ts: ts(d),
            min_ts: ts(l),
            max_ts: ts(u),
            flags: 0,
            tag: None,
        }
    }

    fn file(cf: Cf, kind: EntryKind, min: u64, max: u64) -> DataFile {
        DataFile {
            key: FileKey { region_id: 1, cf, kind, is_meta: false, table_id: 0 },
            offset: 0,
            stored_length: 1,
            plain_length: 1,
            compression: Compression::None,
            encrypted: false,
            entries: 1,
            min_ts: Ts::new(min),
            max_ts: Ts::new(max),
            min_begin_ts: Ts::new(min),
            resolved_ts: Ts::ZERO,
            start_key: b"b".to_vec(),
            end_key: b"d".to_vec(),
        }
    }

    #[test]
    fn bounds_are_start_exclusive_and_restored_ts_inclusive() {
        let window = Window::new(Ts::new(10), Ts::new(20), KeyRange::ALL);
        let write = |ts| window.skips_record(Cf::Write, b"k", Ts::new(ts));
        assert_eq!((write(10), write(11), write(20), write(21)), (Some(Skip::Before), None, None, Some(Skip::After)));
        assert_eq!(window.skips_record(Cf::Default, b"k", Ts::new(3)), None, "values may be older than the log");
        assert_eq!(window.values_from(&name(5, 8, 10)), None);
        assert_eq!(window.values_from(&name(5, 8, 11)), Some(Ts::new(5)));
        assert_eq!(window.values_from(&name(5, 21, 30)), None);
    }

    #[test]
    fn an_old_object_is_needed_for_its_values_only() {
        let mut window = Window::new(Ts::new(10), Ts::new(20), KeyRange::ALL);
        window.values_from = Ts::new(6);
        assert!(window.needs_object(&name(1, 2, 6)) && !window.needs_object(&name(1, 2, 5)));
        assert!(window.needs_object(&name(1, 20, 99)) && !window.needs_object(&name(1, 21, 99)));
        assert!(!window.needs_object(&MetaName { flags: FLAG_NO_GROUPS, ..name(0, 0, 99) }));
        assert_eq!(window.skips(&file(Cf::Default, EntryKind::Put, 2, 6)), None);
        assert_eq!(window.skips(&file(Cf::Default, EntryKind::Put, 2, 5)), Some(Skip::Before));
        assert_eq!(window.skips(&file(Cf::Write, EntryKind::Put, 2, 10)), Some(Skip::Before));
        assert_eq!(window.skips(&file(Cf::Write, EntryKind::Delete, 11, 12)), Some(Skip::Delete));
    }

    #[test]
    fn keys_select_files() {
        let file = file(Cf::Write, EntryKind::Put, 1, 1);
        let skips = |start: &'static str, end: &'static str| {
            Window::new(Ts::ZERO, Ts::MAX, KeyRange::new(start, end)).skips(&file)
        };
        assert_eq!((skips("a", "b"), skips("a", "b\0")), (Some(Skip::Outside), None));
        assert_eq!((skips("d", ""), skips("d\0", "")), (None, Some(Skip::Outside)));
    }

    proptest! {
        #[test]
        fn reads_cover_the_files_and_little_more(
            lengths in prop::collection::vec((0u64..50, 1u64..100), 0..40), limit in 1u64..300, gap in 0u64..30,
        ) {
            let mut at = 0;
            let files: Vec<Range<u64>> = lengths.iter().map(|(space, len)| {
                let start = at + space;
                at = start + len;
                start..at
            }).collect();
            let all = reads(&files, limit, gap);
            prop_assert!(all.iter().map(|r| r.files.len()).sum::<usize>() == files.len());
            for read in &all {
                let inside = &files[read.files.clone()];
                prop_assert!(inside.iter().all(|f| read.bytes.start <= f.start && f.end <= read.bytes.end));
                prop_assert!(inside.len() == 1 || read.bytes.end - read.bytes.start <= limit);
                prop_assert!(inside.windows(2).all(|w| w[1].start - w[0].end <= gap));
            }
            prop_assert!(all.windows(2).all(|w| w[0].files.end == w[1].files.start));
        }
    }
}
