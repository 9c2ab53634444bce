//! Tasks, errors, checkpoints and safepoints in a shared store, and the advancer of the global checkpoint.
//!
//! [`Store`] is what nodes and the command share; [`Tasks`] gives its keys their meaning; [`TaskPublisher`] is how a
//! store's facts get there, and [`Advancer`] what becomes of them. Keys and values of tasks, pauses, errors and the
//! global checkpoint are TiDB's (`/tidb/br-stream/…`), so that its tools see our tasks; facts, covers and status
//! records are ours (`/logtide/v1/…`).

mod advancer;
mod backend;
mod base64;
mod chunks;
mod cover;
mod directory;
mod election;
mod error;
mod facts;
mod flush_request;
mod keys;
mod last_error;
mod log_index;
mod node_record;
mod pause;
mod publisher;
mod record;
mod start_point;
mod status;
pub mod store;
mod task_watch;
mod tasks;

pub use advancer::{Advancer, AdvancerConfig, GcHold, TaskTick, TickReport};
pub use directory::DirectoryStore;
pub use error::CoordinatorError;
pub use flush_request::{FlushAnswer, FlushTicket};
pub use last_error::describe_error;
pub use node_record::NodeRecord;
pub use pause::{Pause, PauseReason};
pub use publisher::TaskPublisher;
pub use record::{RawRange, TaskSpec};
pub use status::{Degraded, Holder, LastFlush, StoreStatus, TaskState, TaskStatus};
pub use store::{MemoryStore, Store, StoreError};
pub use task_watch::{TaskEvent, TaskWatch};
pub use tasks::Tasks;
