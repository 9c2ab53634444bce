//! Pauses, as TiDB writes them: an empty value, or JSON ("pause V2" of its `streamhelper`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logtide_format::proto::StreamBackupError;
use logtide_model::Task;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::base64;
use crate::error::CoordinatorError;
use crate::keys;
use crate::store::{KeyValue, Txn};
use crate::tasks::{Tasks, alive, write_json};

/// Severity of a pause that somebody asked for.
const REGULAR: &str = "REGULAR_OPERATION";
/// Severity of a pause because of an error.
const ERROR: &str = "ERROR";
const TEXT: &str = "text/plain;charset=UTF-8";
const PROTOBUF: &str = "application/x-protobuf;messageType=brpb.StreamBackupError";

/// Why and by whom a task is paused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// True if an error made the task pause: it is in the state ERROR then.
    pub is_error: bool,
    /// The host that did it; empty if not told.
    pub host: String,
    /// The process that did it; 0 if not told.
    pub pid: u32,
    /// When, as RFC 3339; empty if not told.
    pub time: String,
    /// The reason.
    pub reason: PauseReason,
}

/// What a pause says about its reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PauseReason {
    /// Nothing.
    #[default]
    None,
    /// A message.
    Message(String),
    /// The error.
    Error(StreamBackupError),
}

#[derive(Serialize, Deserialize)]
struct PauseV2 {
    #[serde(default)]
    severity: String,
    #[serde(default)]
    operation_hostname: String,
    #[serde(default)]
    operation_pid: u32,
    #[serde(default)]
    operation_time: String,
    #[serde(default)]
    payload_type: String,
    /// Go writes an empty payload as null.
    #[serde(default)]
    payload: Option<String>,
}

impl Pause {
    /// Because of an error, by this process.
    pub(crate) fn because(error: StreamBackupError) -> Self {
        let at = UNIX_EPOCH + Duration::from_millis(error.happen_at);
        Pause { is_error: true, ..Pause::asked_for(PauseReason::Error(error), at) }
    }

    /// Because somebody asked this process for it.
    pub fn asked_for(reason: PauseReason, at: SystemTime) -> Self {
        Pause {
            is_error: false,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            time: humantime::format_rfc3339_seconds(at.max(UNIX_EPOCH)).to_string(),
            reason,
        }
    }

    fn to_json(&self) -> Result<Vec<u8>, CoordinatorError> {
        let (payload_type, payload) = match &self.reason {
            PauseReason::None => ("", None),
            PauseReason::Message(text) => (TEXT, Some(base64::encode(text.as_bytes()))),
            PauseReason::Error(error) => (PROTOBUF, Some(base64::encode(&error.encode_to_vec()))),
        };
        Ok(write_json(&PauseV2 {
            severity: if self.is_error { ERROR } else { REGULAR }.to_owned(),
            operation_hostname: self.host.clone(),
            operation_pid: self.pid,
            operation_time: self.time.clone(),
            payload_type: payload_type.to_owned(),
            payload,
        })?)
    }

    /// Whatever is in the key, the task is paused; what cannot be read is shown as it is.
    fn read(kv: &KeyValue) -> Self {
        let Ok(v2) = serde_json::from_slice::<PauseV2>(&kv.value) else {
            let text = String::from_utf8_lossy(&kv.value).into_owned();
            let reason = if text.is_empty() { PauseReason::None } else { PauseReason::Message(text) };
            return Pause { reason, ..Pause::default() };
        };
        let payload = base64::decode(&v2.payload.unwrap_or_default()).unwrap_or_default();
        let is_protobuf = v2.payload_type.split(';').next() == Some("application/x-protobuf");
        let reason = match StreamBackupError::decode(&payload[..]) {
            Ok(error) if is_protobuf => PauseReason::Error(error),
            _ if payload.is_empty() => PauseReason::None,
            _ => PauseReason::Message(String::from_utf8_lossy(&payload).into_owned()),
        };
        Pause {
            is_error: v2.severity == ERROR,
            host: v2.operation_hostname,
            pid: v2.operation_pid,
            time: v2.operation_time,
            reason,
        }
    }
}

impl Tasks {
    /// Why the task is paused, if it is.
    ///
    /// # Errors
    /// [`CoordinatorError::Store`].
    pub fn pause_of(&self, task: &Task) -> Result<Option<Pause>, CoordinatorError> {
        Ok(self.store().get(&keys::pause(&task.name))?.map(|kv| Pause::read(&kv)))
    }

    /// Sets the pause key.
    ///
    /// # Errors
    /// [`CoordinatorError::NoSuchTask`], [`CoordinatorError::Store`].
    pub fn set_pause(&self, task: &Task, pause: &Pause) -> Result<(), CoordinatorError> {
        self.for_living(task, Txn::new().put(keys::pause(&task.name), pause.to_json()?))
    }

    /// Removes the pause key and the last errors.
    ///
    /// # Errors
    /// [`CoordinatorError::NoSuchTask`], [`CoordinatorError::Store`].
    pub fn clear_pause(&self, task: &Task) -> Result<(), CoordinatorError> {
        let txn = Txn::new().delete(keys::pause(&task.name)).delete_prefix(keys::last_errors(&task.name));
        self.for_living(task, txn)
    }

    /// Does something for a task unless that life of it is over.
    pub(crate) fn for_living(&self, task: &Task, txn: Txn) -> Result<(), CoordinatorError> {
        if self.store().commit(txn.when(alive(task)))?.succeeded {
            return Ok(());
        }
        Err(CoordinatorError::NoSuchTask(task.name.clone()))
    }
}
