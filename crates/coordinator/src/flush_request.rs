//! Asking the stores of a task to flush now.

use std::collections::BTreeMap;

use logtide_model::{StoreId, Task};
use serde::{Deserialize, Serialize};

use crate::error::CoordinatorError;
use crate::keys;
use crate::store::{Revision, Txn};
use crate::tasks::{Tasks, alive, read_json, write_json};

/// Tells one request from another; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlushTicket(Revision);

/// What a store did about a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlushAnswer {
    /// The request.
    pub ticket: FlushTicket,
    /// The store.
    pub store_id: StoreId,
    /// The generation that was published; `None` if there is an error.
    pub generation: Option<u64>,
    /// Why nothing was published.
    pub error: Option<String>,
}

impl Tasks {
    /// Asks all stores to flush a task.
    ///
    /// # Errors
    /// [`CoordinatorError::NoSuchTask`], [`CoordinatorError::Store`].
    pub fn request_flush(&self, task: &Task) -> Result<FlushTicket, CoordinatorError> {
        let outcome = self.store().commit(Txn::new().when(alive(task)).put(keys::flush_request(task), ""))?;
        if !outcome.succeeded {
            return Err(CoordinatorError::NoSuchTask(task.name.clone()));
        }
        Ok(FlushTicket(outcome.revision))
    }

    /// The last request, if there was one: a store flushes when it is greater than the last one it answered.
    ///
    /// # Errors
    /// [`CoordinatorError::Store`].
    pub fn flush_requested(&self, task: &Task) -> Result<Option<FlushTicket>, CoordinatorError> {
        Ok(self.store().get(&keys::flush_request(task))?.map(|kv| FlushTicket(kv.mod_revision)))
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`CoordinatorError::NoSuchTask`], [`CoordinatorError::Store`].
    pub fn answer_flush(&self, task: &Task, answer: &FlushAnswer) -> Result<(), CoordinatorError> {
        let key = keys::flush_answer(task, answer.store_id);
        self.for_living(task, Txn::new().put(key, write_json(answer)?))
    }

    /// The answers to a request (or a later one) so far.
    ///
    /// # Errors
    /// [`CoordinatorError::Malformed`], [`CoordinatorError::Store`].
    pub fn flush_answers(
        &self,
        task: &Task,
        ticket: FlushTicket,
    ) -> Result<BTreeMap<StoreId, FlushAnswer>, CoordinatorError> {
        let records = self.store().list(&keys::flush_answers(task))?.0;
        let answers: Result<Vec<FlushAnswer>, _> = records.iter().map(read_json).collect();
        Ok(answers?.into_iter().filter(|a| a.ticket >= ticket).map(|a| (a.store_id, a)).collect())
    }
}
