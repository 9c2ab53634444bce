//! Fuzz targets: every decoder of bytes that come from a storage, a coordinator or a node, as a function that must not
//! panic whatever it is given, and that checks what has to hold of what was accepted.
//!
//! `tests/corpus.rs` replays `corpus/` in every test run; `make fuzz` runs libFuzzer over the same functions (`runner/`,
//! which is no part of the workspace, so that nobody else compiles libFuzzer).

mod coordinator;
mod format;
mod model;

/// A target.
pub type Target = fn(&[u8]);

/// All targets by name; the name is that of the corpus folder.
pub const TARGETS: &[(&str, Target)] = &[
    ("records", format::records),
    ("metadata", format::metadata),
    ("names", format::names),
    ("data_file", format::data_file),
    ("checkpoint", format::checkpoint),
    ("head", format::head),
    ("write", model::write),
    ("lock", model::lock),
    ("keys", model::keys),
    ("secret", model::secret),
    ("task", coordinator::task),
    ("journal", coordinator::journal),
];

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(of, _)| *of == name).map(|(_, target)| *target)
}
