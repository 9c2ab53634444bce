//! Encryption of logical files: AES in counter mode, each file with a fresh IV, after compression.
//!
//! The data key is the task's own, or a random one that is stored in the file's metadata, encrypted with AES-256-GCM by a
//! *master key*. Facts: `reference/log-backup-format.md` §2, and TiKV's own backups (`tests/data/interop`).

mod cipher;
mod data_key;
mod fault;
mod keys;
mod master;

pub use cipher::IV_LEN;
pub use data_key::{DataKey, DataKeys, FileEncryption};
pub use fault::KeyFault;
pub use keys::Keys;
pub(crate) use keys::Opened;
pub use master::{MASTER_KEY_LEN, MasterKey};
