//! What a metadata object holds.

use super::FileEncryptionInfo;

/// Which fields of [`Metadata`] count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MetaVersion {
    /// One data object per logical file, listed in `files`.
    V1 = 0,
    /// Merged data objects, listed in `file_groups`.
    V2 = 1,
}

/// What the records of a logical file do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum FileType {
    /// They remove keys.
    Delete = 0,
    /// They set keys.
    Put = 1,
}

/// How a logical file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum CompressionType {
    /// Not at all.
    Unknown = 0,
    /// Not used in log files.
    Lz4 = 1,
    /// Not used in log files.
    Snappy = 2,
    /// One zstd frame.
    Zstd = 3,
}

/// A metadata object: what one flush of one store wrote.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metadata {
    /// Logical files of [`MetaVersion::V1`]; empty since.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<DataFileInfo>,
    /// The store that flushed.
    #[prost(int64, tag = "2")]
    pub store_id: i64,
    /// The store's resolved ts at the flush.
    #[prost(uint64, tag = "3")]
    pub resolved_ts: u64,
    /// Largest ts of all records, 0 without records.
    #[prost(uint64, tag = "4")]
    pub max_ts: u64,
    /// Smallest ts of all records, 0 without records.
    #[prost(uint64, tag = "5")]
    pub min_ts: u64,
    /// The data objects.
    #[prost(message, repeated, tag = "6")]
    pub file_groups: Vec<DataFileGroup>,
    /// A [`MetaVersion`].
    #[prost(enumeration = "MetaVersion", tag = "7")]
    pub meta_version: i32,
}

/// A data object: the concatenation of its logical files.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DataFileGroup {
    /// Its path under the storage's prefix.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Its logical files.
    #[prost(message, repeated, tag = "2")]
    pub data_files_info: Vec<DataFileInfo>,
    /// Smallest ts of its records.
    #[prost(uint64, tag = "3")]
    pub min_ts: u64,
    /// Largest ts of its records.
    #[prost(uint64, tag = "4")]
    pub max_ts: u64,
    /// Smallest `resolved_ts` of its files.
    #[prost(uint64, tag = "5")]
    pub min_resolved_ts: u64,
    /// Bytes of the object.
    #[prost(uint64, tag = "6")]
    pub length: u64,
}

/// A logical file: records of one region, table, column family and kind, compressed and encrypted on its own.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DataFileInfo {
    /// SHA-256 of the plain bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub sha256: Vec<u8>,
    /// The object, in [`MetaVersion::V1`] only.
    #[prost(string, tag = "2")]
    pub path: String,
    /// How many records.
    #[prost(int64, tag = "3")]
    pub number_of_entries: i64,
    /// Smallest ts at the end of a key.
    #[prost(uint64, tag = "4")]
    pub min_ts: u64,
    /// Largest ts at the end of a key.
    #[prost(uint64, tag = "5")]
    pub max_ts: u64,
    /// The region's resolved ts when the last record came; 0 for records of an initial scan.
    #[prost(uint64, tag = "6")]
    pub resolved_ts: u64,
    /// The region.
    #[prost(int64, tag = "7")]
    pub region_id: i64,
    /// Smallest key, with its ts.
    #[prost(bytes = "vec", tag = "8")]
    pub start_key: Vec<u8>,
    /// Largest key, with its ts; inclusive.
    #[prost(bytes = "vec", tag = "9")]
    pub end_key: Vec<u8>,
    /// `default` or `write`.
    #[prost(string, tag = "10")]
    pub cf: String,
    /// A [`FileType`].
    #[prost(enumeration = "FileType", tag = "11")]
    pub r#type: i32,
    /// True for keys with prefix `m`: schema metadata of TiDB.
    #[prost(bool, tag = "12")]
    pub is_meta: bool,
    /// The table in the keys; 0 where they are no table keys.
    #[prost(int64, tag = "13")]
    pub table_id: i64,
    /// Plain bytes.
    #[prost(uint64, tag = "14")]
    pub length: u64,
    /// How far back values of these write records can lie in the default column family.
    #[prost(uint64, tag = "15")]
    pub min_begin_ts_in_default_cf: u64,
    /// Where it begins in its object.
    #[prost(uint64, tag = "16")]
    pub range_offset: u64,
    /// Stored bytes (compressed, encrypted).
    #[prost(uint64, tag = "17")]
    pub range_length: u64,
    /// A [`CompressionType`].
    #[prost(enumeration = "CompressionType", tag = "18")]
    pub compression_type: i32,
    /// XOR over the records of the CRC-64/XZ of key and value.
    #[prost(uint64, tag = "19")]
    pub crc64xor: u64,
    /// First encoded key of the region; empty if not known.
    #[prost(bytes = "vec", tag = "20")]
    pub region_start_key: Vec<u8>,
    /// Last encoded key of the region, exclusive; empty for +∞ or if not known.
    #[prost(bytes = "vec", tag = "21")]
    pub region_end_key: Vec<u8>,
    /// The region's epochs during the flush; empty if its range is not known.
    #[prost(message, repeated, tag = "22")]
    pub region_epoch: Vec<RegionEpoch>,
    /// How it is encrypted; absent if it is not.
    #[prost(message, optional, tag = "23")]
    pub file_encryption_info: Option<FileEncryptionInfo>,
}

/// `metapb.RegionEpoch`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct RegionEpoch {
    /// Raised by membership changes.
    #[prost(uint64, tag = "1")]
    pub conf_ver: u64,
    /// Raised by split and merge.
    #[prost(uint64, tag = "2")]
    pub version: u64,
}
