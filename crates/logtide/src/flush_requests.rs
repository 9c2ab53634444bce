//! Flushes that the command asks for through the coordinator: seen here, handed to the task's runner, and answered with
//! what became of them.

use std::collections::BTreeMap;

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use logtide_coordinator::{FlushAnswer, FlushTicket};
use logtide_model::{Incarnation, Task, TaskName};
use tracing::{debug, info};

use crate::node::Node;
use crate::runner::{Command, Published};
use crate::supervisor::TaskBoard;

/// What was asked for, and what is not answered yet. Bounded by the number of tasks.
#[derive(Default)]
pub(crate) struct FlushRequests {
    seen: BTreeMap<TaskName, (Incarnation, FlushTicket)>,
    pending: Vec<Pending>,
}

struct Pending {
    task: Task,
    ticket: FlushTicket,
    answer: Receiver<Published>,
    /// What is to be told; it could not be written yet.
    told: Option<Published>,
}

impl FlushRequests {
    /// Looks for new requests, and answers those that are done.
    pub(crate) fn poll(&mut self, node: &Node, board: &TaskBoard) {
        let tasks: Vec<Task> = board.progress().iter().map(|(task, _)| (**task).clone()).collect();
        self.seen.retain(|name, _| tasks.iter().any(|task| task.name == *name));
        for task in &tasks {
            self.look(node, board, task);
        }
        self.pending.retain_mut(|pending| !pending.is_answered(node));
    }

    fn look(&mut self, node: &Node, board: &TaskBoard, task: &Task) {
        let requested = match node.tasks.flush_requested(task) {
            Ok(Some(ticket)) => ticket,
            Ok(None) => return,
            Err(error) => return debug!(task = %task.name, %error, "requests to flush cannot be read now"),
        };
        let known = self.seen.get(&task.name).is_some_and(|seen| *seen >= (task.incarnation, requested));
        if known || self.was_answered(node, task, requested) {
            return;
        }
        let (sender, answer) = bounded(1);
        if board.ask(&task.name, Command::Flush(sender)) {
            info!(task = %task.name, "a flush is asked for");
            self.seen.insert(task.name.clone(), (task.incarnation, requested));
            self.pending.push(Pending { task: task.clone(), ticket: requested, answer, told: None });
        }
    }

    /// By an earlier process of this store.
    fn was_answered(&mut self, node: &Node, task: &Task, ticket: FlushTicket) -> bool {
        let answered = node.tasks.flush_answers(task, ticket);
        let answered = answered.is_ok_and(|answers| answers.contains_key(&node.host.store_id()));
        if answered {
            self.seen.insert(task.name.clone(), (task.incarnation, ticket));
        }
        answered
    }
}

impl Pending {
    fn is_answered(&mut self, node: &Node) -> bool {
        if self.told.is_none() {
            self.told = match self.answer.try_recv() {
                Ok(published) => Some(published),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => Some(Err("the task ended on this store".to_owned())),
            };
        }
        let Some(told) = &self.told else { return false };
        let (generation, error) = (told.as_ref().ok().copied(), told.as_ref().err().cloned());
        let answer = FlushAnswer { ticket: self.ticket, store_id: node.host.store_id(), generation, error };
        match node.tasks.answer_flush(&self.task, &answer) {
            Ok(()) => true,
            // Nobody waits for an answer about a task that is no more.
            Err(logtide_coordinator::CoordinatorError::NoSuchTask(_)) => true,
            Err(error) => {
                debug!(task = %self.task.name, %error, "the answer to a request to flush is told again");
                false
            }
        }
    }
}
