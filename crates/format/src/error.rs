//! What can be wrong with the bytes and names of a backup.

use logtide_model::{Class, Diagnose, ErrorCode};
use thiserror::Error;

use crate::{KeyFault, RecordError};

/// Something that is not what the format says it is. Every error names the object.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// An object as a whole cannot be decoded.
    #[error("{object}: malformed at byte {offset}: {what}")]
    Malformed {
        /// The object's path.
        object: String,
        /// Where in the object.
        offset: u64,
        /// What was expected and what is there.
        what: String,
    },
    /// A logical file is not what its metadata says, or its metadata cannot be true.
    #[error("{object}: logical file {}at byte {offset}: {fault}", index.map(|i| format!("{i} ")).unwrap_or_default())]
    BadFile {
        /// The data object, behind the metadata object where that is at fault.
        object: String,
        /// Which of the object's logical files, where that is known.
        index: Option<usize>,
        /// Where the logical file begins in the data object.
        offset: u64,
        /// What is wrong.
        fault: FileFault,
    },
    /// The plain bytes of a logical file are no records.
    #[error("{object}: logical file at byte {offset}: {source}")]
    BadRecord {
        /// The data object.
        object: String,
        /// Where the logical file begins in the data object.
        offset: u64,
        /// Which record and what is wrong.
        source: RecordError,
    },
    /// A name that is none of the format's.
    #[error("object name '{name}': {fault}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong.
        fault: NameFault,
    },
    /// The data is encrypted.
    #[error("{object}: logical file at byte {offset} is encrypted, and no key was given")]
    Encrypted {
        /// The data object.
        object: String,
        /// Where the logical file begins.
        offset: u64,
    },
    /// The data is encrypted, and the keys that were given do not decrypt it.
    #[error("{object}: logical file at byte {offset} cannot be decrypted: {fault}")]
    Key {
        /// The data object.
        object: String,
        /// Where the logical file begins.
        offset: u64,
        /// What is wrong.
        fault: KeyFault,
    },
    /// zstd could not compress.
    #[error("zstd cannot compress")]
    Compress(#[source] std::io::Error),
}

/// What is wrong with a logical file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FileFault {
    /// No column family of a backup.
    #[error("unknown column family '{0}' (default and write are backed up)")]
    UnknownCf(String),
    /// Neither put nor delete.
    #[error("unknown type {0}")]
    UnknownType(i32),
    /// Neither zstd nor plain.
    #[error("compression type {0} is not supported (0 plain and 3 zstd are)")]
    UnknownCompression(i32),
    /// A number that cannot be negative is.
    #[error("{field} is {value}")]
    Negative {
        /// The field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// A checksum of another length.
    #[error("{field} has {len} bytes, not {expected}")]
    FieldLength {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// What it must be.
        expected: usize,
    },
    /// A smallest value above the largest, or bounds that do not hold what they should.
    #[error("{0}")]
    Bounds(&'static str),
    /// Lengths that no records can have.
    #[error("{entries} records cannot have {length} bytes")]
    Entries {
        /// Declared number of records.
        entries: i64,
        /// Declared plain length.
        length: u64,
    },
    /// A plain length that the stored bytes cannot hold.
    #[error("{length} plain bytes cannot come from {stored} stored ones")]
    Length {
        /// Declared plain length.
        length: u64,
        /// Declared stored length.
        stored: u64,
    },
    /// Longer than any object.
    #[error("{0} bytes are more than any logical file has")]
    TooLong(u64),
    /// Not within its object.
    #[error("its {length} bytes end outside of the object of {object} bytes")]
    Outside {
        /// Stored length.
        length: u64,
        /// Length of the object.
        object: u64,
    },
    /// Shares bytes with another logical file.
    #[error("it overlaps the logical file that ends at byte {0}")]
    Overlap(u64),
    /// Not as many bytes as declared were handed over.
    #[error("{found} bytes were read where {declared} are declared")]
    StoredLength {
        /// As declared.
        declared: u64,
        /// As given.
        found: u64,
    },
    /// More or less than one zstd frame.
    #[error("the zstd frame has {frame} of {stored} bytes; a logical file is exactly one frame")]
    NotOneFrame {
        /// Length of the first frame.
        frame: usize,
        /// Stored bytes.
        stored: usize,
    },
    /// zstd's own complaint.
    #[error("zstd: {0}")]
    Zstd(&'static str),
    /// Other plain bytes than declared.
    #[error("{found} plain bytes where {declared} are declared")]
    PlainLength {
        /// As declared.
        declared: u64,
        /// As found.
        found: u64,
    },
    /// A fact about the records is not as declared.
    #[error("{field} is {found}, declared is {declared}")]
    Mismatch {
        /// Which.
        field: &'static str,
        /// As declared.
        declared: String,
        /// As found.
        found: String,
    },
    /// An encryption that is not known.
    #[error("encryption: {0}")]
    Encryption(&'static str),
    /// A path that leads out of the storage.
    #[error("its path '{0}' is not a relative path inside of the storage")]
    Path(String),
}

impl FileFault {
    fn is_checksum(&self) -> bool {
        matches!(self, FileFault::Mismatch { .. } | FileFault::Zstd(_))
    }

    /// True for bytes that are no zstd frame of the declared length.
    pub(crate) fn is_garbage(&self) -> bool {
        matches!(self, FileFault::Zstd(_) | FileFault::NotOneFrame { .. } | FileFault::PlainLength { .. })
    }

    fn is_unsupported(&self) -> bool {
        matches!(self, FileFault::UnknownCompression(_) | FileFault::Encryption(_))
    }
}

/// What is wrong with an object name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameFault {
    /// Not an object of that kind.
    #[error("no metadata object ends so; '.meta' is expected")]
    Suffix,
    /// The fixed part is not hexadecimal.
    #[error("32 hexadecimal digits and '-' are expected first")]
    Head,
    /// A segment is not a tag and 16 digits.
    #[error("after the '-' come segments of a letter and 16 hexadecimal digits, not '{0}'")]
    Segment(String),
    /// A tag twice.
    #[error("tag '{0}' comes twice")]
    Duplicate(char),
    /// A tag that must be there.
    #[error("tag '{0}' is missing")]
    Missing(char),
    /// A name that says nothing.
    #[error("the name says nothing about its content")]
    Opaque,
}

impl Diagnose for FormatError {
    fn code(&self) -> ErrorCode {
        match self {
            FormatError::Malformed { .. } | FormatError::BadName { .. } => ErrorCode::MalformedMetadata,
            FormatError::BadFile { fault, .. } if fault.is_checksum() => ErrorCode::Checksum,
            FormatError::BadFile { .. } => ErrorCode::MalformedMetadata,
            FormatError::BadRecord { .. } => ErrorCode::Checksum,
            FormatError::Encrypted { .. } | FormatError::Key { .. } => ErrorCode::Encryption,
            FormatError::Compress(_) => ErrorCode::Io,
        }
    }

    fn class(&self) -> Class {
        match self {
            FormatError::Key { fault, .. } if fault.is_transient() => Class::Retry,
            FormatError::Key { fault: KeyFault::Content(_), .. } => Class::Corrupt,
            FormatError::Encrypted { .. } | FormatError::Key { .. } => Class::Fatal,
            FormatError::BadFile { fault, .. } if fault.is_unsupported() => Class::Fatal,
            FormatError::Compress(_) => Class::Retry,
            _ => Class::Corrupt,
        }
    }

    fn remedy(&self) -> String {
        match self {
            FormatError::Encrypted { .. } => {
                "give the data key (--log.crypter.key) or the master key (--master-key) of the backup"
            }
            FormatError::Key { fault, .. } => fault.remedy(),
            FormatError::BadFile { fault, .. } if fault.is_unsupported() => {
                "read the backup with a newer logtide, or with the tool that wrote it"
            }
            FormatError::BadName { .. } => "remove the object if it is not part of the backup",
            FormatError::Compress(_) => "",
            _ => "fetch the object again; if it stays so, restore it from a copy of the storage",
        }
        .to_owned()
    }
}
