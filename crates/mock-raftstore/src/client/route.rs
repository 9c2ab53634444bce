//! Finds the regions of keys and sends them commands, again and again while regions split and leaders change.

use std::collections::VecDeque;

use logtide_model::{Region, StoreId, encode_raw_key};

use super::retry::{Attempts, RetryReason};
use super::{Client, ClientError};
use crate::rpc::{Command, KvRequest, KvResponse, RegionError};

/// Something that belongs to one raw key.
pub(crate) trait Keyed {
    /// The raw key.
    fn key(&self) -> &[u8];
    /// Bytes that it adds to a command.
    fn bytes(&self) -> usize;
}

impl Keyed for Vec<u8> {
    fn key(&self) -> &[u8] {
        self
    }

    fn bytes(&self) -> usize {
        self.len()
    }
}

/// Keys of one command at most, beside its bytes.
const BATCH_KEYS: usize = 1024;

/// What goes into one command.
pub(crate) struct Group<T> {
    region: Region,
    leader: StoreId,
    items: Vec<T>,
    bytes: usize,
}

impl<T: Keyed> Group<T> {
    /// True if an item belongs to it: it lies in its region, and the command stays within `limit` bytes.
    fn takes(&self, item: &T, limit: usize) -> bool {
        self.bytes + item.bytes() <= limit
            && self.items.len() < BATCH_KEYS
            && self.region.range.contains(&encode_raw_key(item.key()))
    }
}

impl Client {
    /// Splits items, best ascending by key, by region and into commands of at most `limit` bytes (or one item).
    pub(crate) fn group<T: Keyed>(&self, items: Vec<T>, limit: usize) -> VecDeque<Group<T>> {
        let mut groups: VecDeque<Group<T>> = VecDeque::new();
        for item in items {
            let bytes = item.bytes();
            match groups.back_mut().filter(|group| group.takes(&item, limit)) {
                Some(group) => {
                    group.bytes += bytes;
                    group.items.push(item);
                }
                None => {
                    let (region, leader) = self.rpc.locate(item.key());
                    groups.push_back(Group { region, leader, items: vec![item], bytes });
                }
            }
        }
        groups
    }

    /// Sends `command` for each group of items, in order. What a region did not take is grouped anew, and so is what
    /// `done`, which gets the answer, returns.
    pub(crate) fn each_group<T: Keyed>(
        &self,
        attempts: &mut Attempts<'_>,
        items: Vec<T>,
        limit: usize,
        command: &mut dyn FnMut(&[T]) -> Command,
        done: &mut dyn FnMut(Vec<T>, KvResponse) -> Result<Vec<T>, ClientError>,
    ) -> Result<(), ClientError> {
        let mut groups = self.group(items, limit);
        while let Some(group) = groups.pop_front() {
            let again = match self.call(&group.region, group.leader, command(&group.items)) {
                Ok(response) => {
                    attempts.reset();
                    done(group.items, response)?
                }
                Err(error) => {
                    attempts.again(RetryReason::Region(&error))?;
                    group.items
                }
            };
            for group in self.group(again, limit).into_iter().rev() {
                groups.push_front(group);
            }
        }
        Ok(())
    }

    /// Sends `command` once, for the first group of items.
    pub(crate) fn call_first<T: Keyed>(
        &self,
        items: Vec<T>,
        limit: usize,
        command: impl FnOnce(Vec<T>) -> Command,
    ) -> Option<Result<KvResponse, RegionError>> {
        let group = self.group(items, limit).pop_front()?;
        Some(self.call(&group.region, group.leader, command(group.items)))
    }

    /// Sends a command about one key until its region takes it.
    pub(crate) fn call_key(
        &self,
        attempts: &mut Attempts<'_>,
        key: &[u8],
        command: &Command,
    ) -> Result<(Region, KvResponse), ClientError> {
        loop {
            let (region, leader) = self.rpc.locate(key);
            match self.call(&region, leader, command.clone()) {
                Ok(response) => {
                    attempts.reset();
                    return Ok((region, response));
                }
                Err(error) => attempts.again(RetryReason::Region(&error))?,
            }
        }
    }

    /// Sends a command once, to the store that is said to lead the region.
    fn call(&self, region: &Region, leader: StoreId, command: Command) -> Result<KvResponse, RegionError> {
        let store = self.leaders.lock().get(&region.id).copied().unwrap_or(leader);
        let request = KvRequest { region_id: region.id, epoch: region.epoch, command };
        let outcome = self.rpc.call(store, request);
        match &outcome {
            Err(RegionError::NotLeader { leader: Some(other), .. }) if *other != store => {
                self.leaders.lock().insert(region.id, *other);
            }
            Err(_) => {
                self.leaders.lock().remove(&region.id);
            }
            Ok(_) => {}
        }
        outcome
    }
}
