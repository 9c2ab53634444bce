//! Why log backup could not be started.

use logtide_model::{Class, Diagnose, ErrorCode};
use thiserror::Error;

/// What is wrong with a configuration. Nothing of it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A setting is wrong; the message names it, its value and the bound.
    #[error("configuration: {0}")]
    Invalid(String),
    /// A setting cannot change while the store runs.
    #[error("configuration: {key} cannot change while the store runs: it is {now}, and {wanted} is asked for")]
    Fixed {
        /// The key.
        key: &'static str,
        /// What is in force.
        now: String,
        /// What was asked for.
        wanted: String,
    },
}

impl Diagnose for ConfigError {
    fn code(&self) -> ErrorCode {
        ErrorCode::Config
    }

    fn class(&self) -> Class {
        Class::Fatal
    }

    fn remedy(&self) -> String {
        match self {
            ConfigError::Invalid(_) => {
                "correct the setting; every key and its bounds are documented at logtide::Config".into()
            }
            ConfigError::Fixed { .. } => "leave it as it is, or start the store anew with it".into(),
        }
    }
}

/// Why [`crate::Builder::start`] failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory of the spool cannot be used.
    #[error("spool directory {path}: {cause}")]
    Spool {
        /// The directory.
        path: String,
        /// What failed.
        cause: String,
    },
    /// The coordinator cannot be used.
    #[error("coordinator: {0}")]
    Coordinator(String),
    /// The metrics are in the registry already.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Diagnose for StartError {
    fn code(&self) -> ErrorCode {
        match self {
            StartError::Config(_) | StartError::Metrics(_) => ErrorCode::Config,
            StartError::Spool { .. } | StartError::Thread(_) => ErrorCode::Io,
            StartError::Coordinator(_) => ErrorCode::Coordinator,
        }
    }

    fn class(&self) -> Class {
        match self {
            StartError::Coordinator(_) => Class::Retry,
            _ => Class::Fatal,
        }
    }

    fn remedy(&self) -> String {
        match self {
            StartError::Config(error) => error.remedy(),
            StartError::Spool { .. } => "set temp-path to a directory that this process can write".into(),
            StartError::Coordinator(_) => "check that the coordinator's directory exists and can be written".into(),
            StartError::Metrics(_) => {
                "pass one registry per store, or one with the store's id as a constant label".into()
            }
            StartError::Thread(_) => String::new(),
        }
    }
}
