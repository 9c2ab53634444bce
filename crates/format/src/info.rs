//! Metadata of what was written: logical file → data object → metadata object.

use logtide_model::{Cf, Compression, KeyRange, RegionEpoch, Ts};

use crate::{EntryKind, FileEncryption, FileKey, FileSummary, proto};

/// A logical file that is ready to be uploaded.
#[derive(Clone, Debug)]
pub struct LogicalFile {
    /// Which records it has.
    pub key: FileKey,
    /// What is true of them.
    pub summary: FileSummary,
    /// The region's resolved ts; zero for records of an initial scan.
    pub resolved_ts: Ts,
    /// Bytes after compression and encryption.
    pub stored_length: u64,
    /// How it is compressed.
    pub compression: Compression,
    /// How it is encrypted, if it is.
    pub encryption: Option<FileEncryption>,
    /// The region at the seal, if it was resolved there.
    pub region: Option<RegionNote>,
}

/// A region's shape as the metadata notes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionNote {
    /// Its encoded range.
    pub range: KeyRange,
    /// The epochs that it had since the last flush.
    pub epochs: Vec<RegionEpoch>,
}

/// The metadata of a logical file that lies `range_offset` bytes into its object.
pub fn data_file_info(file: &LogicalFile, range_offset: u64) -> proto::DataFileInfo {
    let LogicalFile { key, summary, .. } = file;
    let (start, end) = match &file.region {
        Some(note) => (note.range.start.to_vec(), note.range.end.to_vec()),
        None => Default::default(),
    };
    let epochs = file.region.iter().flat_map(|note| &note.epochs);
    proto::DataFileInfo {
        sha256: summary.sha256.to_vec(),
        path: String::new(),
        number_of_entries: summary.entries as i64,
        min_ts: summary.min_ts.get(),
        max_ts: summary.max_ts.get(),
        resolved_ts: file.resolved_ts.get(),
        region_id: key.region_id as i64,
        start_key: summary.start_key.clone(),
        end_key: summary.end_key.clone(),
        cf: key.cf.name().to_owned(),
        r#type: file_type(key.kind) as i32,
        is_meta: key.is_meta,
        table_id: key.table_id,
        length: summary.length,
        min_begin_ts_in_default_cf: summary.min_begin_ts.get(),
        range_offset,
        range_length: file.stored_length,
        compression_type: compression_type(file.compression) as i32,
        crc64xor: summary.crc64xor,
        region_start_key: start,
        region_end_key: end,
        region_epoch: epochs.map(|e| proto::RegionEpoch { conf_ver: e.conf_ver, version: e.version }).collect(),
        file_encryption_info: file.encryption.as_ref().map(FileEncryption::to_proto),
    }
}

/// The metadata of a data object: the concatenation of `files`, in that order.
pub fn group(path: String, files: Vec<proto::DataFileInfo>) -> proto::DataFileGroup {
    proto::DataFileGroup {
        path,
        min_ts: files.iter().map(|f| f.min_ts).min().unwrap_or(0),
        max_ts: files.iter().map(|f| f.max_ts).max().unwrap_or(0),
        min_resolved_ts: files.iter().map(|f| f.resolved_ts).min().unwrap_or(0),
        length: files.iter().map(|f| f.range_length).fold(0, u64::saturating_add),
        data_files_info: files,
    }
}

/// The metadata object of a flush. `resolved_ts` is the store's; a group whose files are all above it raises it, as in
/// TiKV.
pub fn metadata(store_id: u64, groups: Vec<proto::DataFileGroup>, resolved_ts: Ts) -> proto::Metadata {
    let of_groups = groups.iter().map(|g| g.min_resolved_ts).min().unwrap_or(0);
    proto::Metadata {
        files: Vec::new(),
        store_id: store_id as i64,
        resolved_ts: of_groups.max(resolved_ts.get()),
        max_ts: groups.iter().map(|g| g.max_ts).max().unwrap_or(0),
        min_ts: groups.iter().map(|g| g.min_ts).min().unwrap_or(0),
        file_groups: groups,
        meta_version: proto::MetaVersion::V2 as i32,
    }
}

fn file_type(kind: EntryKind) -> proto::FileType {
    match kind {
        EntryKind::Delete => proto::FileType::Delete,
        EntryKind::Put => proto::FileType::Put,
    }
}

fn compression_type(compression: Compression) -> proto::CompressionType {
    match compression {
        Compression::None => proto::CompressionType::Unknown,
        Compression::Zstd => proto::CompressionType::Zstd,
    }
}

/// The kind of a file type.
pub(crate) fn kind_of(file_type: i32) -> Option<EntryKind> {
    match proto::FileType::try_from(file_type).ok()? {
        proto::FileType::Delete => Some(EntryKind::Delete),
        proto::FileType::Put => Some(EntryKind::Put),
    }
}

/// The compression of a compression type, if log files can have it.
pub(crate) fn compression_of(compression_type: i32) -> Option<Compression> {
    match proto::CompressionType::try_from(compression_type).ok()? {
        proto::CompressionType::Unknown => Some(Compression::None),
        proto::CompressionType::Zstd => Some(Compression::Zstd),
        proto::CompressionType::Lz4 | proto::CompressionType::Snappy => None,
    }
}

/// The column family of a name, if a backup has it. Raft commands may leave the name of the default one away; metadata
/// never does, and a name that was lost must not turn write records into values.
pub(crate) fn cf_of(name: &str) -> Option<Cf> {
    Cf::from_name(name).filter(|cf| *cf != Cf::Lock && !name.is_empty())
}
