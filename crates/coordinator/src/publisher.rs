//! Publishing the facts of committed generations.

use std::sync::Arc;

use logtide_model::{Diagnose, Publication, PublishError, Publisher};

use crate::error::CoordinatorError;
use crate::facts;
use crate::keys;
use crate::store::{Store, Txn};
use crate::tasks::Tasks;

/// Publishes facts into a shared store: refused if that life of the task is over, or if a newer process of the same
/// store has taken a boot epoch. The advancer believes a publication once all its chunks are there.
#[derive(Clone)]
pub struct TaskPublisher(Arc<dyn Store>);

impl TaskPublisher {
    /// A publisher into `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        TaskPublisher(store)
    }

    fn try_publish(&self, publication: &Publication) -> Result<(), CoordinatorError> {
        let Publication { task, incarnation, store_id, boot, generation, facts } = publication;
        for (index, chunk) in facts::encode(facts).into_iter().enumerate() {
            let key = keys::fact(task, *incarnation, *store_id, *boot, *generation, index);
            Tasks::act(&*self.0, (task, *incarnation), (*store_id, *boot), Txn::new().put(key, chunk))?;
        }
        Ok(())
    }
}

impl Publisher for TaskPublisher {
    fn publish(&self, publication: &Publication) -> Result<(), PublishError> {
        self.try_publish(publication).map_err(|e| match e {
            CoordinatorError::NoSuchTask(task) => PublishError::TaskGone(task),
            CoordinatorError::Superseded { store_id, boot } => PublishError::Superseded { store_id, boot },
            e => PublishError::Unavailable { cause: with_remedy(&e), retry_after: None },
        })
    }
}

fn with_remedy(error: &CoordinatorError) -> String {
    match error.remedy() {
        remedy if remedy.is_empty() => error.to_string(),
        remedy => format!("{error} ({remedy})"),
    }
}
