//! Object names (`reference/log-backup-format.md` §1).

mod data;
mod link;
mod meta;

pub use data::{DataName, TAG_BOOT_BITS, TAG_GENERATION_BITS, data_path, parse_uuid, utc_text, uuid_of};
pub use link::{MetaLink, Previous, content_crc};
pub(crate) use meta::hex16;
pub use meta::{FLAG_NO_GROUPS, FLAG_NO_SCHEMA, MetaName, NameForm};

/// Where metadata objects are.
pub const METADATA_PREFIX: &str = "v1/backupmeta";
/// Where checkpoint objects are.
pub const CHECKPOINT_PREFIX: &str = "v1/global_checkpoint";

/// The object that holds a store's view of the global checkpoint.
pub fn checkpoint_path(store_id: u64) -> String {
    format!("{CHECKPOINT_PREFIX}/{store_id}.ts")
}

/// What makes a name of ours unique by construction, together with the store id (invariant I5): a store takes a new
/// boot epoch from the coordinator whenever it starts, and counts its generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectTag {
    /// The boot epoch, below 2^[`TAG_BOOT_BITS`].
    pub boot: u64,
    /// The generation within it, below 2^[`TAG_GENERATION_BITS`].
    pub generation: u64,
}
