//! A plan: what was selected, kept in a temporary file unless it is small, so that its size does not depend on the length of history.

use std::io::{self, BufReader, BufWriter, Read as _, Seek, Write};
use std::ops::Range;
use std::path::Path;

use logtide_format::{DataFile, FormatError, MetaName, NameForm, decode_metadata, encode_metadata, proto};
use serde::{Deserialize, Serialize};
use tempfile::{SpooledTempFile, spooled_tempfile_in};

use super::{Skip, Window};
use crate::origin::FileOrigin;

/// A plan of at most this many bytes needs no file.
const IN_MEMORY: usize = 256 << 10;

/// What a restore will read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// Metadata objects of the storage.
    pub metadata_objects: u64,
    /// Those that had to be read.
    pub metadata_read: u64,
    /// Bytes of those.
    pub metadata_bytes: u64,
    /// Data objects that are needed.
    pub objects: u64,
    /// Logical files that are needed.
    pub files: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in them as stored.
    pub bytes: u64,
    /// Bytes in them when decompressed.
    pub plain_bytes: u64,
    /// Records in files that are not read for their ts or keys.
    pub skipped_records: u64,
}

/// A data object of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanObject {
    /// Its path in the storage.
    pub object: String,
    /// Logical files that are needed of it.
    pub files: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in them as stored.
    pub bytes: u64,
    /// Smallest ts of a record.
    pub min_ts: u64,
    /// Largest ts of a record.
    pub max_ts: u64,
}

/// The selected files of one data object, in order of offset.
#[derive(Debug)]
pub(crate) struct PlannedObject {
    pub(crate) object: String,
    pub(crate) files: Vec<(proto::DataFileInfo, DataFile, FileOrigin)>,
}

impl PlannedObject {
    /// Byte ranges of the files.
    pub(crate) fn ranges(&self) -> Vec<Range<u64>> {
        self.files.iter().map(|(_, file, _)| file.offset..file.end()).collect()
    }

    /// For people and `--dry-run`.
    pub(crate) fn describe(&self) -> PlanObject {
        let files = || self.files.iter().map(|(_, file, _)| file);
        PlanObject {
            object: self.object.clone(),
            files: self.files.len() as u64,
            records: files().map(|f| f.entries).sum(),
            bytes: files().map(|f| f.stored_length).sum(),
            min_ts: files().map(|f| f.min_ts.get()).min().unwrap_or(0),
            max_ts: files().map(|f| f.max_ts.get()).max().unwrap_or(0),
        }
    }
}

/// Selects from metadata objects, one after the other, in any order.
pub(crate) struct Planner {
    window: Window,
    summary: PlanSummary,
    out: BufWriter<SpooledTempFile>,
}

impl Planner {
    /// A plan kept in `dir`, for a storage with `metadata_objects` metadata objects.
    pub(crate) fn new(window: Window, metadata_objects: u64, dir: &Path) -> Self {
        let out = BufWriter::new(spooled_tempfile_in(IN_MEMORY, dir));
        Planner { window, summary: PlanSummary { metadata_objects, ..PlanSummary::default() }, out }
    }

    /// Takes what is needed of the metadata object `name`, of `bytes` bytes.
    pub(crate) fn add(&mut self, name: &str, bytes: u64, mut metadata: proto::Metadata) -> Result<(), PlanError> {
        self.summary.metadata_read += 1;
        self.summary.metadata_bytes += bytes;
        let mut place = 0;
        for group in &mut metadata.file_groups {
            self.select(&group.path, &mut place, &mut group.data_files_info)?;
        }
        metadata.file_groups.retain(|group| !group.data_files_info.is_empty());
        let mut single = std::mem::take(&mut metadata.files);
        for info in &mut single {
            let object = info.path.clone();
            let mut file = vec![std::mem::take(info)];
            self.select(&object, &mut place, &mut file)?;
            metadata.files.extend(file);
        }
        self.summary.objects += (metadata.file_groups.len() + metadata.files.len()) as u64;
        self.write(name, &encode_metadata(&metadata)).map_err(PlanError::Io)
    }

    fn select(&mut self, object: &str, place: &mut u64, infos: &mut Vec<proto::DataFileInfo>) -> Result<(), PlanError> {
        let mut fault = None;
        let (window, summary) = (&self.window, &mut self.summary);
        // The place in the metadata object is part of a record's origin: it is kept in a field that nobody reads.
        infos.iter_mut().zip(*place..).for_each(|(info, place)| info.resolved_ts = place);
        *place += infos.len() as u64;
        infos.retain(|info| match DataFile::parse(object, info.resolved_ts as usize, info) {
            Ok(file) => count(summary, window.skips(&file), &file),
            Err(e) => {
                fault = fault.take().or(Some(e));
                false
            }
        });
        fault.map_or(Ok(()), |e| Err(PlanError::Format(e)))
    }

    fn write(&mut self, name: &str, metadata: &[u8]) -> io::Result<()> {
        for part in [name.as_bytes(), metadata] {
            self.out.write_all(&(part.len() as u32).to_le_bytes())?;
            self.out.write_all(part)?;
        }
        Ok(())
    }

    /// The finished plan.
    pub(crate) fn finish(self) -> io::Result<Planned> {
        let mut file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(Planned { summary: self.summary, file: BufReader::new(file) })
    }
}

/// Counts a file; true if it is to be read.
fn count(summary: &mut PlanSummary, skip: Option<Skip>, file: &DataFile) -> bool {
    let read = matches!(skip, None | Some(Skip::Delete));
    if read {
        summary.files += 1;
        summary.records += file.entries;
        summary.bytes += file.stored_length;
        summary.plain_bytes += file.plain_length;
    } else {
        summary.skipped_records += file.entries;
    }
    read
}

/// Why a metadata object could not be planned.
#[derive(Debug)]
pub(crate) enum PlanError {
    Io(io::Error),
    Format(FormatError),
}

/// A plan that is complete.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) summary: PlanSummary,
    file: BufReader<SpooledTempFile>,
}

impl Planned {
    /// The data objects of the next metadata object; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<PlannedObject>>, PlanError> {
        let Some(name) = self.part().map_err(PlanError::Io)? else { return Ok(None) };
        let name = String::from_utf8_lossy(&name).into_owned();
        let metadata = self.part().map_err(PlanError::Io)?.unwrap_or_default();
        let metadata = decode_metadata(&name, &metadata).map_err(PlanError::Format)?;
        objects(&name, metadata).map(Some).map_err(PlanError::Format)
    }

    fn part(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut len = [0; 4];
        match self.file.read_exact(&mut len) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let mut part = vec![0; u32::from_le_bytes(len) as usize];
        self.file.read_exact(&mut part)?;
        Ok(Some(part))
    }
}

fn objects(name: &str, metadata: proto::Metadata) -> Result<Vec<PlannedObject>, FormatError> {
    let parsed = match NameForm::parse(name) {
        Ok(NameForm::Tagged(name) | NameForm::Ranged(name)) => Some(name),
        Ok(NameForm::Opaque) | Err(_) => None,
    };
    let store = metadata.store_id as u64;
    let groups = metadata.file_groups.into_iter().map(|g| (g.path, g.data_files_info));
    let single = metadata.files.into_iter().map(|info| (info.path.clone(), vec![info]));
    let object = |(object, infos): (String, Vec<proto::DataFileInfo>)| {
        let parse = |info: proto::DataFileInfo| {
            let origin = origin(store, parsed.as_ref(), &info);
            DataFile::parse(&object, origin.file as usize, &info).map(|file| (info, file, origin))
        };
        let mut files = infos.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        files.sort_by_key(|(_, file, _)| file.offset);
        Ok(PlannedObject { object, files })
    };
    groups.chain(single).map(object).collect()
}

fn origin(store: u64, name: Option<&MetaName>, info: &proto::DataFileInfo) -> FileOrigin {
    let tag = name.and_then(|name| name.tag);
    FileOrigin {
        store,
        flush_ts: name.map_or(0, |name| name.flush_ts.get()),
        boot: tag.map_or(0, |tag| tag.boot),
        generation: tag.map_or(0, |tag| tag.generation),
        version: info.region_epoch.iter().map(|epoch| epoch.version).max().unwrap_or(0),
        file: info.resolved_ts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_format::{EntryKind, FileKey, LogicalFile, ObjectTag, data_file_info, encode_record, group, metadata};
    use logtide_format::{MetaName, summarize};
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

    #[test]
    fn a_plan_keeps_what_is_needed_with_its_place_and_counts_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let infos = vec![
            info(10, 0, EntryKind::Put),
            info(30, 100, EntryKind::Put),
            info(12, 200, EntryKind::Delete),
            info(11, 300, EntryKind::Put),
        ];
        let mut object = group("o".into(), infos);
        object.length = 400;
        let meta = metadata(7, vec![object], Ts::new(99));
        let name = MetaName::of(&meta, Ts::new(50), Some(ObjectTag { boot: 2, generation: 3 })).path();
        let mut planner = Planner::new(Window::new(Ts::ZERO, Ts::new(20), KeyRange::ALL), 1, dir.path());
        planner.add(&name, 1, meta).unwrap();
        let mut plan = planner.finish().unwrap();
        assert_eq!((plan.summary.files, plan.summary.skipped_records), (3, 1));
        let objects = plan.next().unwrap().unwrap();
        let origins: Vec<_> =
            objects[0].files.iter().map(|(_, _, o)| (o.store, o.boot, o.generation, o.file)).collect();
        assert_eq!(origins, [(7, 2, 3, 0), (7, 2, 3, 2), (7, 2, 3, 3)]);
        assert_eq!((objects[0].describe().min_ts, objects[0].describe().max_ts), (10, 12));
        assert!(plan.next().unwrap().is_none());
    }
}
