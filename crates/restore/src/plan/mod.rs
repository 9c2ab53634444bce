//! What of a backup a restore needs: decided from names and metadata alone.

mod check;
mod object;
mod part;
mod planner;
mod select;
mod spool;

pub(crate) use check::check;
pub(crate) use object::PlannedObject;
pub use object::{PlanObject, PlanSummary};
pub(crate) use planner::Planner;
pub(crate) use select::{Read, reads};
pub use select::{Skip, Window};
pub(crate) use spool::{PlanError, Planned};
