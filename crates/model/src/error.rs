//! Error codes and classes that every crate's errors map to.

use std::fmt;

/// What can be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Waiting helps.
    Retry,
    /// Somebody has to change something first.
    Fatal,
    /// Somebody asked for the end.
    Cancelled,
    /// Stored bytes are not what was written.
    Corrupt,
}

/// A stable code, `KV:LogBackup:…` as TiKV's where it has one; scripts and runbooks may rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// A storage or a local disk failed.
    Io,
    /// A task of that name does not exist.
    NoSuchTask,
    /// A task of that name exists already.
    TaskExists,
    /// A memory or disk quota is used up.
    OutOfQuota,
    /// Observing was cancelled.
    ObserveCancel,
    /// An object of the backup is malformed.
    MalformedMetadata,
    /// A checksum does not match.
    Checksum,
    /// The raft store refused a request.
    RaftReq,
    /// The coordinator (etcd, directory) failed.
    Coordinator,
    /// Encryption or decryption failed.
    Encryption,
    /// Configuration or arguments are wrong.
    Config,
    /// Garbage collection is past the checkpoint.
    GcPassed,
    /// The asked timestamp cannot be restored.
    TsOutOfRange,
    /// The target of a restore is in use.
    TargetInUse,
    /// A bug.
    Unknown,
}

impl ErrorCode {
    /// The code as logs, status and `last-error` have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::Io => "KV:LogBackup:Io",
            ErrorCode::NoSuchTask => "KV:LogBackup:NoSuchTask",
            ErrorCode::TaskExists => "KV:LogBackup:TaskExists",
            ErrorCode::OutOfQuota => "KV:LogBackup:OutOfQuota",
            ErrorCode::ObserveCancel => "KV:LogBackup:ObserveCancel",
            ErrorCode::MalformedMetadata => "KV:LogBackup:MalformedMetadata",
            ErrorCode::Checksum => "KV:LogBackup:Checksum",
            ErrorCode::RaftReq => "KV:LogBackup:RaftReq",
            ErrorCode::Coordinator => "KV:LogBackup:Coordinator",
            ErrorCode::Encryption => "KV:LogBackup:Encryption",
            ErrorCode::Config => "KV:LogBackup:Config",
            ErrorCode::GcPassed => "KV:LogBackup:GcPassed",
            ErrorCode::TsOutOfRange => "KV:LogBackup:TsOutOfRange",
            ErrorCode::TargetInUse => "KV:LogBackup:TargetInUse",
            ErrorCode::Unknown => "KV:LogBackup:Unknown",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What every error of logtide can say about itself besides its message.
pub trait Diagnose: std::error::Error {
    /// Its stable code.
    fn code(&self) -> ErrorCode;
    /// What can be done about it.
    fn class(&self) -> Class;
    /// What the operator should do, in one sentence; empty where the message says it all.
    fn remedy(&self) -> String {
        String::new()
    }
}
