//! bytes <-> model: everything that logtide writes to and reads from a storage.
//!
//! Event records ([`encode_record`], [`Records`]), logical files and their facts ([`FileKey`], [`summarize`],
//! [`DataFile`], [`open_file_with`]), compression ([`Compressor`]), encryption ([`Keys`] to read, [`DataKeys`] to write),
//! protobuf metadata ([`proto`], [`encode_metadata`], [`decode_metadata`], [`merge_metadata`]), object names ([`MetaName`], [`data_path`],
//! [`checkpoint_path`]) and checkpoints; our own additions, which others pass over ([`MetaLink`], [`head_path`],
//! [`Mark`]). The layout is TiKV's and TiDB's (`reference/log-backup-format.md` §1–3), byte for byte. No IO, no clock, no
//! randomness.
//!
//! Decoders never panic, and never allocate more than the bytes that they are given can justify.

mod checkpoint;
mod compress;
mod crypt;
mod error;
mod file;
mod head;
mod info;
mod key;
mod marks;
mod merge;
mod metadata;
mod name;
mod open;
pub mod proto;
mod record;
mod security;
mod summary;
mod wire;

pub use checkpoint::{decode_checkpoint, encode_checkpoint};
pub use compress::Compressor;
pub use crypt::{DataKey, DataKeys, FileEncryption, IV_LEN, KeyFault, Keys, MASTER_KEY_LEN, MasterKey};
pub use error::{FileFault, FormatError, NameFault};
pub use file::{DataFile, MAX_FILE_LENGTH, MAX_ZSTD_RATIO};
pub use head::{HEAD_PREFIX, decode_head, encode_head, head_path, merged_head_path, parse_head_path};
pub use info::{LogicalFile, RegionNote, data_file_info, group, metadata};
pub use key::{EntryKind, FileKey};
pub use marks::{MARKS_PREFIX, Mark, MarkKind, decode_marks, encode_marks, marks_path};
pub use merge::merge_metadata;
pub use metadata::{decode_metadata, encode_metadata, first_gap};
pub use name::{
    CHECKPOINT_PREFIX, DataName, FLAG_NO_GROUPS, FLAG_NO_SCHEMA, METADATA_PREFIX, MetaLink, MetaName, NameForm,
    ObjectTag, Previous, TAG_BOOT_BITS, TAG_GENERATION_BITS, checkpoint_path, content_crc, data_path, parse_uuid,
    utc_text, uuid_of,
};
pub use open::{open_file, open_file_with};
pub use record::{Record, RecordError, RecordFault, Records, encode_record, record_len};
pub use security::{security_config, task_encryption};
pub use summary::{FileSummary, summarize};
