//! Selects from metadata objects, and counts each logical file once, whatever number of metadata objects tell of it: while
//! a store merges metadata objects, or after it crashed doing so, there are the merged one and some of those that it
//! replaces. What is selected is sorted by data object, like records, within a share of the memory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use logtide_format::{DataFile, FormatError, proto};

use super::object::PlanSummary;
use super::part::{Flush, Part};
use super::spool::{Planned, SpoolWriter};
use super::{PlanError, Window};
use crate::memory::{DECODED, Means};
use crate::sort::{Merge, Runs, Sorter};

/// Selects from metadata objects, one after the other, in any order.
pub(crate) struct Planner<'a> {
    means: &'a Means,
    window: Window,
    summary: PlanSummary,
    runs: Arc<Runs>,
    sorter: Sorter<1>,
}

impl<'a> Planner<'a> {
    /// A plan for a storage with `metadata_objects` metadata objects.
    pub(crate) fn new(window: Window, metadata_objects: u64, means: &'a Means) -> Self {
        let runs = Arc::new(means.runs());
        // The other shares are those of the metadata objects that are read, and of the windows of the merge.
        let sorter = Sorter::new([runs.clone()], means.shares.references, &means.budget);
        Planner { means, window, summary: PlanSummary { metadata_objects, ..PlanSummary::default() }, runs, sorter }
    }

    /// Takes what is needed of the metadata object `name`, of `bytes` bytes.
    pub(crate) fn add(&mut self, name: &str, bytes: u64, metadata: proto::Metadata) -> Result<(), PlanError> {
        self.summary.metadata_read += 1;
        self.summary.metadata_bytes += bytes;
        let (flush, store_id, mut place) = (Flush::of(name), metadata.store_id, 0);
        let single = metadata.files.into_iter().map(|info| as_group(info).map_err(PlanError::Format));
        for group in metadata.file_groups.into_iter().map(Ok).chain(single) {
            let group = group?;
            let (path, files) = (group.path.clone(), group.data_files_info.len() as u64);
            let part = Part::select(&self.window, flush, place, group, store_id).map_err(PlanError::Format)?;
            self.sorter.push(0, path.as_bytes(), &[&part.encode()]).map_err(PlanError::Io)?;
            place += files;
        }
        Ok(())
    }

    /// The finished plan, kept in `dir` unless it is small.
    pub(crate) fn finish(self, dir: &Path) -> Result<Planned, PlanError> {
        let Planner { means, mut summary, runs, sorter, .. } = self;
        sorter.finish();
        let set = runs.finish().map_err(PlanError::Io)?;
        let cursors = set.cursors(b"", b"", means.shares.window, &means.budget);
        let mut merge = Merge::new(cursors.map_err(PlanError::Io)?);
        let mut out = SpoolWriter::new(dir);
        while let Some(object) = merge.key().map(<[u8]>::to_vec) {
            let (mut parts, mut held) = (Vec::new(), means.budget.force_acquire(0));
            let path = String::from_utf8(object).map_err(|e| PlanError::Io(io::Error::other(e)))?;
            while merge.key() == Some(path.as_bytes()) {
                let said = merge.payload().map_err(PlanError::Io)?;
                held.resize(held.bytes() + said.len() * DECODED as usize);
                parts.push(Part::decode(&path, said)?);
                merge.advance().map_err(PlanError::Io)?;
            }
            let part = Part::join(parts);
            count(&mut summary, &path, &part).map_err(PlanError::Format)?;
            if part.files().next().is_some() {
                out.write(&path, &part).map_err(PlanError::Io)?;
            }
        }
        out.finish(summary).map_err(PlanError::Io)
    }
}

fn count(summary: &mut PlanSummary, object: &str, part: &Part) -> Result<(), FormatError> {
    summary.skipped_records += part.skipped.iter().map(|(_, entries)| entries).sum::<u64>();
    summary.objects += u64::from(part.files().next().is_some());
    for info in part.files() {
        summary.count(&DataFile::parse(object, info.resolved_ts as usize, info)?);
    }
    Ok(())
}

/// A logical file of the first version of metadata, which is an object of its own.
fn as_group(info: proto::DataFileInfo) -> Result<proto::DataFileGroup, FormatError> {
    let (min_ts, max_ts, path) = (info.min_ts, info.max_ts, info.path.clone());
    let length = DataFile::parse(&path, 0, &info)?.end();
    Ok(proto::DataFileGroup { path, data_files_info: vec![info], min_ts, max_ts, min_resolved_ts: 0, length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RestoreOptions;
    use logtide_format::{EntryKind, FileKey, LogicalFile, ObjectTag, data_file_info, data_path, encode_record};
    use logtide_format::{MetaLink, MetaName, Previous, group, metadata, summarize};
    use logtide_model::mvcc::{Write as WriteRecord, WriteKind};
    use logtide_model::{Cf, Compression, KeyRange, Ts, append_ts, encode_raw_key};

    fn info(ts: u64, offset: u64, kind: EntryKind) -> proto::DataFileInfo {
        let mut key = encode_raw_key(b"k");
        append_ts(&mut key, Ts::new(ts));
        let file = FileKey::of(5, Cf::Write, kind, &key);
        let mut plain = Vec::new();
        let value = WriteRecord::new(WriteKind::Put, Ts::new(ts - 1), Some(b"v")).to_bytes();
        encode_record(&key, if kind == EntryKind::Put { &value } else { b"" }, &mut plain);
        let summary = summarize(&file, &plain).unwrap();
        let stored_length = plain.len() as u64;
        let (resolved_ts, compression, region) = (Ts::new(99), Compression::None, None);
        let file =
            LogicalFile { key: file, summary, resolved_ts, stored_length, compression, encryption: None, region };
        data_file_info(&file, offset)
    }

    fn object(path: &str, infos: Vec<proto::DataFileInfo>) -> proto::DataFileGroup {
        let length = infos.iter().map(|i| i.range_offset + i.range_length).max().unwrap();
        proto::DataFileGroup { length, ..group(path.into(), infos) }
    }

    fn means() -> Means {
        let mut options = RestoreOptions::for_sink();
        options.threads = Some(0);
        Means::new(&options, &std::env::temp_dir())
    }

    fn window() -> Window {
        Window::new(Ts::ZERO, Ts::new(20), KeyRange::ALL)
    }

    #[test]
    fn a_plan_keeps_what_is_needed_with_its_place_and_counts_the_rest() {
        let infos = vec![
            info(10, 0, EntryKind::Put),
            info(30, 100, EntryKind::Put),
            info(12, 200, EntryKind::Delete),
            info(11, 300, EntryKind::Put),
        ];
        let meta = metadata(7, vec![object("o", infos)], Ts::new(99));
        let name = MetaName::of(&meta, Ts::new(50), Some(ObjectTag { boot: 2, generation: 3 })).path();
        let (means, dir) = (means(), tempfile::tempdir().unwrap());
        let mut planner = Planner::new(window(), 1, &means);
        planner.add(&name, 1, meta).unwrap();
        let mut plan = planner.finish(dir.path()).unwrap();
        assert_eq!((plan.summary.files, plan.summary.skipped_records), (3, 1));
        let object = plan.next().unwrap().unwrap();
        let origins: Vec<_> = object.files.iter().map(|(_, _, o)| (o.store, o.boot, o.generation, o.file)).collect();
        assert_eq!(origins, [(7, 2, 3, 0), (7, 2, 3, 2), (7, 2, 3, 3)]);
        assert_eq!((object.describe().min_ts, object.describe().max_ts), (10, 12));
        assert!(plan.next().unwrap().is_none());
    }

    #[test]
    fn what_two_metadata_objects_tell_of_is_planned_once_and_the_same() {
        let tag = |generation| ObjectTag { boot: 2, generation };
        let path = |generation, index| data_path(7, Ts::new(1), Ts::new(9), false, tag(generation), index);
        let of = |generation| {
            let one = vec![info(10, 0, EntryKind::Put), info(30, 100, EntryKind::Put), info(11, 200, EntryKind::Put)];
            let two = vec![info(15, 0, EntryKind::Put)];
            vec![object(&path(generation, 0), one), object(&path(generation, 1), two)]
        };
        let named = |groups: Vec<_>, generation, merged| {
            let meta = metadata(7, groups, Ts::new(99));
            let previous = Previous { generation: 1, min_ts: Ts::new(1), max_ts: Ts::new(1) };
            let link = MetaLink { crc: 0, previous: (generation > 2).then_some(previous), merged };
            (MetaName::of(&meta, Ts::new(50), Some(tag(generation))).linked_path(&link), meta)
        };
        let singles = [named(of(2), 2, 0), named(of(3), 3, 0)];
        let merged = named([of(2), of(3)].concat(), 3, 2);
        let plan = |metas: &[&(String, proto::Metadata)]| {
            let (means, dir) = (means(), tempfile::tempdir().unwrap());
            let mut planner = Planner::new(window(), 0, &means);
            metas.iter().for_each(|(name, meta)| planner.add(name, 1, meta.clone()).unwrap());
            let mut plan = planner.finish(dir.path()).unwrap();
            let mut objects = Vec::new();
            while let Some(PlannedParts { object, files }) = plan.next().unwrap().map(PlannedParts::from) {
                objects.push((object, files));
            }
            let PlanSummary { objects: counted, files, records, bytes, skipped_records, .. } = plan.summary;
            (objects, [counted, files, records, bytes, skipped_records])
        };
        let expected = plan(&[&singles[0], &singles[1]]);
        assert_eq!((expected.0.len(), expected.1[0], expected.1[1], expected.1[4]), (4, 4, 6, 2));
        for also in [vec![&merged], vec![&singles[1], &merged], vec![&merged, &singles[0]], vec![&singles[0], &merged]]
        {
            assert_eq!(plan(&also), expected);
        }
        assert_eq!(plan(&[&singles[0], &singles[1], &merged]), expected);
    }

    #[test]
    fn what_is_told_twice_is_counted_once_within_a_share_of_the_memory() {
        let mut options = RestoreOptions::for_sink();
        (options.threads, options.memory) = (Some(0), crate::MIN_MEMORY);
        let dir = tempfile::tempdir().unwrap();
        let means = Means::new(&options, dir.path());
        let mut planner = Planner::new(window(), 0, &means);
        let (objects, files) = (400, 200);
        for round in 0..2 {
            for n in 0..objects {
                // In another order the second time.
                let generation = 1 + if round == 0 { n } else { objects - 1 - n };
                let tag = ObjectTag { boot: 1, generation };
                let path = data_path(7, Ts::new(1), Ts::new(9), false, tag, 0);
                let infos = (0..files).map(|i| info(10, i * 100, EntryKind::Put)).collect();
                let meta = metadata(7, vec![object(&path, infos)], Ts::new(99));
                planner.add(&MetaName::of(&meta, Ts::new(50), Some(tag)).path(), 1, meta).unwrap();
            }
        }
        assert!(planner.runs.spilled() > 8 << 20, "{} bytes do not fit", planner.runs.spilled());
        let plan = planner.finish(dir.path()).unwrap();
        assert_eq!((plan.summary.objects, plan.summary.files), (objects, objects * files));
        // A half is left for the metadata objects that are being read.
        assert!(means.budget.peak() < means.memory / 2, "{} of {}", means.budget.peak(), means.memory);
    }

    /// What can be compared of a planned object.
    #[derive(Debug, PartialEq)]
    struct PlannedParts {
        object: String,
        files: Vec<(u64, crate::origin::FileOrigin)>,
    }

    impl From<super::super::PlannedObject> for PlannedParts {
        fn from(planned: super::super::PlannedObject) -> Self {
            let files = planned.files.iter().map(|(info, _, origin)| (info.range_offset, *origin)).collect();
            PlannedParts { object: planned.object, files }
        }
    }
}
