//! A data object as one metadata object tells of it: the same object may be told of twice, by a metadata object and by
//! the one that it was merged into.

use std::collections::BTreeSet;

use logtide_format::{DataFile, DataName, FormatError, MetaName, NameForm, decode_metadata, encode_metadata, proto};
use logtide_model::codec::{CodecError, encode_var_u64, take_var_u64};

use super::object::{PlannedObject, is_read};
use super::{PlanError, Window};
use crate::origin::FileOrigin;

/// Which flush wrote a metadata object, as far as its name says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flush {
    boot: u64,
    generation: u64,
    flush_ts: u64,
}

impl Flush {
    /// As the name of a metadata object says it.
    pub(super) fn of(name: &str) -> Flush {
        let Ok(NameForm::Tagged(name) | NameForm::Ranged(name)) = NameForm::parse(name) else {
            return Flush::default();
        };
        let MetaName { flush_ts, tag, .. } = name;
        let (boot, generation) = tag.map_or((0, 0), |tag| (tag.boot, tag.generation));
        Flush { boot, generation, flush_ts: flush_ts.get() }
    }
}

/// See the module.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Part {
    flush: Flush,
    /// The place of its first file in the metadata object.
    place: u64,
    /// Offset and records of each file that is not read.
    pub(super) skipped: Vec<(u64, u64)>,
    /// A metadata object of this data object and the files that are read; a file's place in the data object stands where
    /// nobody looks, in `resolved_ts`.
    metadata: proto::Metadata,
}

impl Part {
    /// Selects of `group`, whose first file has that place in `metadata`.
    pub(super) fn select(
        window: &Window,
        flush: Flush,
        place: u64,
        mut group: proto::DataFileGroup,
        store_id: i64,
    ) -> Result<Part, FormatError> {
        let (mut skipped, mut infos) = (Vec::new(), Vec::with_capacity(group.data_files_info.len()));
        for (index, mut info) in (0..).zip(std::mem::take(&mut group.data_files_info)) {
            let file = DataFile::parse(&group.path, index as usize, &info)?;
            if is_read(window.skips(&file)) {
                info.resolved_ts = index;
                infos.push(info);
            } else {
                skipped.push((file.offset, file.entries));
            }
        }
        group.data_files_info = infos;
        let (min_ts, max_ts) = (group.min_ts, group.max_ts);
        let meta_version = proto::MetaVersion::V2 as i32;
        let (files, file_groups) = (Vec::new(), vec![group]);
        let metadata = proto::Metadata { files, store_id, resolved_ts: 0, max_ts, min_ts, file_groups, meta_version };
        Ok(Part { flush, place, skipped, metadata })
    }

    /// For [`Part::decode`].
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Flush { boot, generation, flush_ts } = self.flush;
        for n in [boot, generation, flush_ts, self.place, self.skipped.len() as u64] {
            encode_var_u64(n, &mut bytes);
        }
        for (offset, entries) in &self.skipped {
            encode_var_u64(*offset, &mut bytes);
            encode_var_u64(*entries, &mut bytes);
        }
        bytes.extend(encode_metadata(&self.metadata));
        bytes
    }

    /// Reads what [`Part::encode`] wrote.
    pub(super) fn decode(object: &str, mut bytes: &[u8]) -> Result<Part, PlanError> {
        let mut part = Part::default();
        part.decode_front(&mut bytes).map_err(|e| PlanError::Io(std::io::Error::other(e)))?;
        part.metadata = decode_metadata(object, bytes).map_err(PlanError::Format)?;
        Ok(part)
    }

    fn decode_front(&mut self, bytes: &mut &[u8]) -> Result<(), CodecError> {
        let mut next = || take_var_u64(bytes);
        self.flush = Flush { boot: next()?, generation: next()?, flush_ts: next()? };
        self.place = next()?;
        for _ in 0..next()? {
            self.skipped.push((next()?, next()?));
        }
        Ok(())
    }

    /// Files that are read.
    pub(super) fn files(&self) -> impl Iterator<Item = &proto::DataFileInfo> {
        self.metadata.file_groups.iter().flat_map(|group| &group.data_files_info)
    }

    /// All that is told of one data object, each file once: what the earliest flush says of it counts.
    pub(super) fn join(mut parts: Vec<Part>) -> Part {
        parts.sort_by_key(|part| part.flush);
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap_or_default();
        let mut seen: BTreeSet<u64> =
            all.files().map(|info| info.range_offset).chain(all.skipped.iter().map(|(offset, _)| *offset)).collect();
        for part in parts {
            all.skipped.extend(part.skipped.into_iter().filter(|(offset, _)| seen.insert(*offset)));
            let infos = part.metadata.file_groups.into_iter().flat_map(|group| group.data_files_info);
            let new: Vec<_> = infos.filter(|info| seen.insert(info.range_offset)).collect();
            all.metadata.file_groups.iter_mut().take(1).for_each(|group| group.data_files_info.extend(new.clone()));
        }
        all
    }

    /// What is read of the data object.
    pub(super) fn planned(self, object: String) -> Result<PlannedObject, FormatError> {
        let (store, named) = (self.metadata.store_id as u64, DataName::parse(&object).and_then(|name| name.origin));
        let infos = self.metadata.file_groups.into_iter().flat_map(|group| group.data_files_info);
        let parse = |info: proto::DataFileInfo| {
            let in_object = info.resolved_ts;
            let version = info.region_epoch.iter().map(|epoch| epoch.version).max().unwrap_or(0);
            let Flush { boot, generation, flush_ts } = self.flush;
            // The name of one of our data objects says which flush wrote it, whatever metadata object tells of it.
            let origin = match named {
                Some((tag, index)) => {
                    let file = u64::from(index) << 32 | in_object;
                    FileOrigin { store, flush_ts: 0, boot: tag.boot, generation: tag.generation, version, file }
                }
                None => FileOrigin { store, flush_ts, boot, generation, version, file: self.place + in_object },
            };
            DataFile::parse(&object, in_object as usize, &info).map(|file| (info, file, origin))
        };
        let mut files = infos.map(parse).collect::<Result<Vec<_>, _>>()?;
        files.sort_by_key(|(_, file, _)| file.offset);
        Ok(PlannedObject { object, files })
    }
}
