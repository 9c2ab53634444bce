//! Opens the coordinator.

use std::sync::Arc;

use logtide_coordinator::{DirectoryStore, Tasks};

use crate::args::CoordinatorArgs;
use crate::report::Failure;

/// The tasks in the coordinator's directory, which must exist: the nodes make it.
pub(crate) fn open(args: &CoordinatorArgs) -> Result<Tasks, Failure> {
    let dir = &args.coordinator;
    if !dir.is_dir() {
        return Err(Failure::failed(
            format!("{} is no coordinator's directory", dir.display()),
            "pass the directory that the storage nodes use as --coordinator",
        ));
    }
    Ok(Tasks::new(Arc::new(DirectoryStore::open(dir)?)))
}
