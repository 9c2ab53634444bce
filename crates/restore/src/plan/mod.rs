//! What of a backup a restore needs: decided from names and metadata alone.

mod check;
mod select;
mod spool;

pub(crate) use check::check;
pub(crate) use select::{Read, reads};
pub use select::{Skip, Window};
pub(crate) use spool::{PlanError, Planned, PlannedObject, Planner};
pub use spool::{PlanObject, PlanSummary};
