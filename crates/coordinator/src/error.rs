//! Why the coordinator could not do what it was asked.

use logtide_model::{Class, Diagnose, ErrorCode, StoreId, TaskName};
use thiserror::Error;

use crate::store::StoreError;

/// An error of tasks, publications or the advancer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CoordinatorError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is a task of that name.
    #[error("there is a task named {0} already")]
    TaskExists(TaskName),
    /// There is no task of that name, or that life of it is over.
    #[error("there is no task named {0}")]
    NoSuchTask(TaskName),
    /// A task cannot be like that.
    #[error("the task {task} is not valid: {what}")]
    InvalidTask {
        /// The task.
        task: TaskName,
        /// What is wrong with it.
        what: String,
    },
    /// A value is not what its key says.
    #[error("the record {key} is malformed: {what}")]
    Malformed {
        /// The key.
        key: String,
        /// What is wrong with its value.
        what: String,
    },
    /// Somebody else changed the same thing at the same time.
    #[error("{0} was changed by somebody else at the same time")]
    Changed(String),
    /// A newer process of the store is there.
    #[error("a newer process of store {store_id} has taken over from boot epoch {boot}")]
    Superseded {
        /// The store.
        store_id: StoreId,
        /// The boot epoch that is not the newest any more.
        boot: u64,
    },
}

impl CoordinatorError {
    /// For values that cannot be read.
    pub(crate) fn malformed(key: &[u8], what: impl ToString) -> Self {
        CoordinatorError::Malformed { key: key.escape_ascii().to_string(), what: what.to_string() }
    }
}

impl Diagnose for CoordinatorError {
    fn code(&self) -> ErrorCode {
        match self {
            CoordinatorError::Store(e) => e.code(),
            CoordinatorError::TaskExists(_) => ErrorCode::TaskExists,
            CoordinatorError::NoSuchTask(_) => ErrorCode::NoSuchTask,
            CoordinatorError::InvalidTask { .. } => ErrorCode::Config,
            _ => ErrorCode::Coordinator,
        }
    }

    fn class(&self) -> Class {
        match self {
            CoordinatorError::Store(e) => e.class(),
            CoordinatorError::Changed(_) => Class::Retry,
            CoordinatorError::NoSuchTask(_) => Class::Cancelled,
            CoordinatorError::Malformed { .. } => Class::Corrupt,
            _ => Class::Fatal,
        }
    }

    fn remedy(&self) -> String {
        match self {
            CoordinatorError::Store(e) => e.remedy(),
            CoordinatorError::TaskExists(name) => {
                format!("choose another name, or stop the task first: logtide log stop --task-name {name}")
            }
            CoordinatorError::NoSuchTask(_) => "list the tasks: logtide log status".to_owned(),
            CoordinatorError::Superseded { .. } => "stop one of the two processes with that store id".to_owned(),
            CoordinatorError::Malformed { .. } => {
                "find out who else writes under /tidb/br-stream or /logtide; stop the task and start it anew".to_owned()
            }
            _ => String::new(),
        }
    }
}
