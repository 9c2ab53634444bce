//! The executor: futures that are polled when their owner says so, and never wake anybody.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::{Outcome, SimClient, TxnPlan, txn};

type Script<T> = Pin<Box<dyn Future<Output = T>>>;

/// Scripts under way, in the order in which they were started.
pub struct Scripts<T = Outcome> {
    last_id: u64,
    running: Vec<(u64, Script<T>)>,
}

impl<T> Default for Scripts<T> {
    fn default() -> Self {
        Scripts { last_id: 0, running: Vec::new() }
    }
}

impl Scripts<Outcome> {
    /// Begins a transaction; it does nothing before its first poll. Returns its id, from 1.
    pub fn start(&mut self, client: &SimClient, plan: TxnPlan) -> u64 {
        self.spawn(txn::run(client.clone(), plan))
    }
}

impl<T> Scripts<T> {
    /// Begins any script; see [`Scripts::start`].
    pub fn spawn(&mut self, script: impl Future<Output = T> + 'static) -> u64 {
        self.last_id += 1;
        self.running.push((self.last_id, Box::pin(script)));
        self.last_id
    }

    /// Polls every script once, in the order of their ids; returns, and forgets, those that are over.
    pub fn poll_all(&mut self) -> Vec<(u64, T)> {
        let mut over = Vec::new();
        self.running.retain_mut(|(id, script)| match poll_once(script.as_mut()) {
            Some(end) => {
                over.push((*id, end));
                false
            }
            None => true,
        });
        over
    }

    /// Polls the `n`th script that is under way; returns its id and end, and forgets it, if it is over.
    pub fn poll(&mut self, n: usize) -> Option<(u64, T)> {
        let (id, script) = self.running.get_mut(n)?;
        let end = (*id, poll_once(script.as_mut())?);
        drop(self.running.remove(n));
        Some(end)
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// True if none is under way.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The ids of those under way, ascending.
    pub fn ids(&self) -> Vec<u64> {
        self.running.iter().map(|(id, _)| *id).collect()
    }

    /// The clients die. What they sent stays sent, and their locks stay.
    pub fn kill_all(&mut self) {
        self.running.clear();
    }
}

impl<T> std::fmt::Debug for Scripts<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scripts").field("running", &self.ids()).finish_non_exhaustive()
    }
}

/// Polls a future once, with a waker that does nothing.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(end) => Some(end),
        Poll::Pending => None,
    }
}

/// Is ready when it was polled `n` times in vain.
pub fn polls(n: u32) -> impl Future<Output = ()> {
    let mut left = n;
    std::future::poll_fn(move |_| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        Poll::Pending
    })
}
