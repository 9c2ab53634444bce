//! Finds the regions of keys and sends them commands, again and again while regions split and leaders change.

use logtide_mock_raftstore::cluster::Ticket;
use logtide_mock_raftstore::rpc::{Command, KvRequest, KvResponse, Mutation, RegionError};
use logtide_model::{Region, StoreId, encode_raw_key};

use super::script::polls;
use super::{SimClient, Stop};

/// Something that belongs to one raw key.
pub(super) trait Keyed {
    fn key(&self) -> &[u8];
}

impl Keyed for Vec<u8> {
    fn key(&self) -> &[u8] {
        self
    }
}

impl Keyed for Mutation {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

/// Where a command goes.
pub(super) struct Target {
    pub(super) region: Region,
    pub(super) store: StoreId,
}

/// The attempts at one thing.
pub(super) struct Tries {
    client: SimClient,
    what: &'static str,
    tries: u32,
}

impl Tries {
    pub(super) fn new(client: &SimClient, what: &'static str) -> Self {
        Tries { client: client.clone(), what, tries: 0 }
    }

    /// Something went well: what comes next begins anew.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }

    /// Pauses before the next attempt.
    ///
    /// # Errors
    /// [`Stop::GaveUp`].
    pub(super) async fn again(&mut self, error: &impl std::fmt::Display) -> Result<(), Stop> {
        self.tries += 1;
        let patience = self.client.0.patience.get();
        if self.tries >= patience.attempts {
            return Err(Stop::GaveUp(format!("gave up to {} after {} attempts: {error}", self.what, self.tries)));
        }
        polls(patience.pause).await;
        Ok(())
    }
}

impl SimClient {
    /// Where a raw key is, as far as is known.
    pub(super) fn target(&self, key: &[u8]) -> Target {
        let (region, leader) = self.0.cluster.pd().locate_raw(key);
        let store = self.0.leaders.borrow().get(&region.id).copied().unwrap_or(leader);
        Target { region, store }
    }

    /// Where the first item is, and how many of the first `limit` items are in the same region.
    pub(super) fn group<T: Keyed>(&self, items: &[T], limit: usize) -> Option<(Target, usize)> {
        let target = self.target(items.first()?.key());
        let inside = |item: &&T| target.region.range.contains(&encode_raw_key(item.key()));
        let n = items.iter().take(limit.max(1)).take_while(inside).count();
        Some((target, n.max(1)))
    }

    /// Sends a command once. An answer that does not come in time is [`RegionError::Undetermined`].
    pub(super) async fn call(&self, target: &Target, command: Command) -> Result<KvResponse, RegionError> {
        let region_id = target.region.id;
        let outcome = match self.refusal(target) {
            Some(error) => Err(error),
            None => {
                let request = KvRequest { region_id, epoch: target.region.epoch, command };
                self.answer(&self.0.cluster.submit(target.store, request)).await
            }
        };
        let mut leaders = self.0.leaders.borrow_mut();
        match &outcome {
            Err(RegionError::NotLeader { leader: Some(other), .. }) if *other != target.store => {
                leaders.insert(region_id, *other);
            }
            Err(_) => drop(leaders.remove(&region_id)),
            Ok(_) => {}
        }
        outcome
    }

    /// Why a command would not reach its store. The ticket of a store that does not run would say that its outcome is
    /// not known, which is more than there is to doubt.
    fn refusal(&self, target: &Target) -> Option<RegionError> {
        let Target { region, store } = target;
        if self.0.reach.borrow().as_ref().is_some_and(|reach| !reach.contains(store)) {
            return Some(RegionError::Busy(format!("store {store} is out of reach")));
        }
        self.0.cluster.log_bounds(*store, region.id).is_none().then(|| RegionError::RegionNotFound(region.id))
    }

    async fn answer(&self, ticket: &Ticket) -> Result<KvResponse, RegionError> {
        for _ in 0..self.0.patience.get().answer {
            if let Some(answer) = ticket.take() {
                return answer;
            }
            polls(1).await;
        }
        let lost = || Err(RegionError::Undetermined("no answer in time".to_owned()));
        ticket.take().unwrap_or_else(lost)
    }

    /// Sends a command about one key until its region takes it.
    pub(super) async fn call_key(
        &self,
        tries: &mut Tries,
        key: &[u8],
        command: &Command,
    ) -> Result<(Region, KvResponse), Stop> {
        loop {
            let target = self.target(key);
            match self.call(&target, command.clone()).await {
                Ok(response) => {
                    tries.reset();
                    return Ok((target.region, response));
                }
                Err(error) => tries.again(&error).await?,
            }
        }
    }

    /// Sends `command` for groups of at most `limit` keys, in order, and shows `done` the answers.
    pub(super) async fn each_group(
        &self,
        tries: &mut Tries,
        keys: &[Vec<u8>],
        limit: usize,
        command: impl Fn(Vec<Vec<u8>>) -> Command,
        mut done: impl FnMut(KvResponse) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut rest = keys;
        while let Some((target, n)) = self.group(rest, limit) {
            match self.call(&target, command(rest[..n].to_vec())).await {
                Ok(response) => {
                    tries.reset();
                    done(response)?;
                    rest = &rest[n..];
                }
                Err(error) => tries.again(&error).await?,
            }
        }
        Ok(())
    }
}
