//! What `Debug` shows of keys and values: a value may be the record of a task, with credentials in it.

use std::fmt;

use bytes::Bytes;

use crate::store::{Action, Condition, KeyValue};

struct Length<'a>(&'a Bytes);

impl fmt::Debug for Length<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeyValue { key, value, create_revision, mod_revision, version, lease } = self;
        f.debug_struct("KeyValue")
            .field("key", key)
            .field("value", &Length(value))
            .field("create_revision", create_revision)
            .field("mod_revision", mod_revision)
            .field("version", version)
            .field("lease", lease)
            .finish()
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Absent(key) => f.debug_tuple("Absent").field(key).finish(),
            Condition::CreateRevision(key, revision) => {
                f.debug_tuple("CreateRevision").field(key).field(revision).finish()
            }
            Condition::ModRevision(key, revision) => f.debug_tuple("ModRevision").field(key).field(revision).finish(),
            Condition::Value(key, value) => f.debug_tuple("Value").field(key).field(&Length(value)).finish(),
        }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Put { key, value, lease } => {
                let mut shown = f.debug_struct("Put");
                shown.field("key", key).field("value", &Length(value)).field("lease", lease).finish()
            }
            Action::Delete(key) => f.debug_tuple("Delete").field(key).finish(),
            Action::DeletePrefix(prefix) => f.debug_tuple("DeletePrefix").field(prefix).finish(),
        }
    }
}
