//! Generations that the flusher has: in order, with who waits for them.

use std::collections::VecDeque;
use std::time::Instant;

use logtide_flusher::{FlushError, Flushed};
use tokio::sync::oneshot;

use super::FlushAnswer;

/// A generation that the flusher has.
pub(crate) struct Flight {
    pub(crate) generation: u64,
    pub(crate) answer: oneshot::Receiver<Result<Flushed, FlushError>>,
    /// Who asked for it.
    pub(crate) asked: Vec<FlushAnswer>,
    pub(crate) sealed_at: Instant,
    /// The objects that the rhythm took it for.
    pub(crate) taken_for: f64,
}

/// See the module. How many there may be is the runner's to bound.
#[derive(Default)]
pub(crate) struct Flights(VecDeque<Flight>);

impl Flights {
    pub(crate) fn push(&mut self, flight: Flight) {
        self.0.push_back(flight);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The oldest one, if it is done, and what became of it, which who asked for it is told.
    pub(crate) fn landed(&mut self) -> Option<(Flight, Result<Flushed, FlushError>)> {
        let oldest = self.0.front_mut()?;
        let result = match oldest.answer.try_recv() {
            Ok(result) => result,
            Err(oneshot::error::TryRecvError::Empty) => return None,
            Err(oneshot::error::TryRecvError::Closed) => Err(FlushError::Stopped { generation: oldest.generation }),
        };
        let told = result.as_ref().map(|flushed| flushed.generation).map_err(ToString::to_string);
        let mut done = self.0.pop_front()?;
        done.asked.drain(..).for_each(|asked| drop(asked.send(told.clone())));
        Some((done, result))
    }
}
