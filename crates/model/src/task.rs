//! Log backup tasks.

use std::fmt;

use thiserror::Error;

use crate::{KeyRange, TaskEncryption, Ts, without_credentials};

/// The name of a task: 1 to 128 characters of `[0-9a-zA-Z_]`, as `br` has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskName(String);

/// A name that no task can have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is no task name: use 1 to 128 of the characters 0-9, a-z, A-Z and _")]
pub struct InvalidTaskName(pub String);

impl TaskName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidTaskName`].
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidTaskName> {
        let name = name.into();
        let good = (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if good { Ok(TaskName(name)) } else { Err(InvalidTaskName(name)) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which life of a task: the create revision of its `info` key. A task that is stopped and started again under the
/// same name is another one, and nothing that the first published counts for the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// How data files are compressed (kvproto `CompressionType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all (`UNKNOWN`, 0).
    None,
    /// Zstandard (`ZSTD`, 3).
    #[default]
    Zstd,
}

/// A named log backup. Its `Debug` form shows neither the parameters of the storage's URL nor keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Task {
    /// Its name.
    pub name: TaskName,
    /// Which life of the name.
    pub incarnation: Incarnation,
    /// Where the backup goes, as a URL with the credentials that open it.
    pub storage: String,
    /// Everything that is committed above it is part of the backup.
    pub start_ts: Ts,
    /// The encoded key ranges that are backed up.
    pub ranges: Vec<KeyRange>,
    /// How data files are compressed.
    pub compression: Compression,
    /// How data files are encrypted, in the storage and on the local disk; `None`: not at all.
    pub encryption: Option<TaskEncryption>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Task { name, incarnation, storage, start_ts, ranges, compression, encryption } = self;
        f.debug_struct("Task")
            .field("name", name)
            .field("incarnation", incarnation)
            .field("storage", &without_credentials(storage))
            .field("start_ts", start_ts)
            .field("ranges", ranges)
            .field("compression", compression)
            .field("encryption", encryption)
            .finish()
    }
}

impl Task {
    /// True if a region of that range has something to back up.
    pub fn overlaps(&self, range: &KeyRange) -> bool {
        self.ranges.iter().any(|r| r.overlaps(range))
    }

    /// True if an encoded key (with or without timestamp) belongs to the backup.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.ranges.iter().any(|r| r.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cipher, SecretKey};

    #[test]
    fn a_task_shows_no_secret() {
        let key = SecretKey::new([0xa7; 32]);
        let task = Task {
            name: TaskName::new("t").unwrap(),
            incarnation: Incarnation(1),
            storage: "s3://b/p?secret-access-key=hunter2".to_owned(),
            start_ts: Ts::ZERO,
            ranges: vec![KeyRange::ALL],
            compression: Compression::Zstd,
            encryption: Some(TaskEncryption::DataKey { cipher: Cipher::Aes256Ctr, key }),
        };
        let text = format!("{task:?} {task:#?}");
        assert!(text.contains("SecretKey(32 bytes)") && text.contains("Aes256Ctr"), "{text}");
        assert!(text.contains("s3://b/p") && !text.contains("hunter2"), "{text}");
        assert!(!text.contains("167") && !text.to_lowercase().contains("a7"), "{text}");
    }

    #[test]
    fn names_are_checked() {
        assert!(TaskName::new("pitr_1").is_ok());
        for bad in ["", "a b", "a/b", "ü", &"x".repeat(129)] {
            assert_eq!(TaskName::new(bad), Err(InvalidTaskName(bad.to_owned())));
        }
    }
}
