//! Why a scan ended without result.

use logtide_model::{Cf, Class, Diagnose, ErrorCode, HostError};
use thiserror::Error;

/// Why a scan ended without result.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ScanError {
    /// Somebody asked for the end: the sink, or [`crate::Cancel`].
    #[error("the scan was cancelled")]
    Cancelled,
    /// A record of the snapshot does not parse, or a value that must be there is missing.
    #[error("column family {} of the snapshot is corrupt at key {key}: {cause}", .cf.name())]
    Corrupt {
        /// Where.
        cf: Cf,
        /// The encoded key (with its timestamp, if the column family has one), in hex.
        key: String,
        /// What is wrong.
        cause: String,
    },
    /// The engine could not be read.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl ScanError {
    pub(crate) fn corrupt(cf: Cf, key: &[u8], cause: impl ToString) -> Self {
        let key = key.iter().map(|b| format!("{b:02x}")).collect();
        ScanError::Corrupt { cf, key, cause: cause.to_string() }
    }

    /// What [`logtide_model::message::ScanEvent::Failed`] tells the shard.
    pub fn to_host_error(&self) -> HostError {
        match self {
            ScanError::Host(error) => error.clone(),
            other => HostError::Unavailable(other.to_string()),
        }
    }
}

impl Diagnose for ScanError {
    fn code(&self) -> ErrorCode {
        match self {
            ScanError::Cancelled => ErrorCode::ObserveCancel,
            ScanError::Corrupt { .. } => ErrorCode::RaftReq,
            ScanError::Host(error) => error.code(),
        }
    }

    fn class(&self) -> Class {
        match self {
            ScanError::Cancelled => Class::Cancelled,
            ScanError::Corrupt { .. } => Class::Corrupt,
            ScanError::Host(error) => error.class(),
        }
    }

    fn remedy(&self) -> String {
        match self {
            ScanError::Cancelled => String::new(),
            ScanError::Corrupt { .. } => "check the engine of this store, or move the leader of the region away".into(),
            ScanError::Host(error) => error.remedy(),
        }
    }
}
