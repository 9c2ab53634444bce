//! Finds out what a storage can do, by doing it.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use crate::object::Created;
use crate::{OWN_PREFIX, Storage, StorageError};

/// How many create the same object at once. s3s-fs, which checks before it writes, lets 1 to 11 of 16 win.
const CREATORS: usize = 16;
/// How often they do: a race that is there must not be missed by luck.
const ROUNDS: usize = 4;
/// Large enough that a server which checks first and writes afterwards takes a while for it.
const RACE_BYTES: usize = 16 * 1024;

/// What a storage makes of a put that must not overwrite. Some servers accept the header and overwrite all the same, so
/// only the experiment counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CreateIfAbsent {
    /// It has no such put, and says so.
    #[default]
    Unsupported,
    /// It accepts it, and overwrites.
    Ignored,
    /// It refuses a second one, but of several at once more than one succeed.
    Racy,
    /// Of all that create an object, at once or later, one succeeds, and its content stays.
    Honoured,
}

/// What a storage can do, as seen. It goes into status as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// A put that must not overwrite can be relied on: `create` is [`CreateIfAbsent::Honoured`].
    pub create_if_absent: bool,
    /// What it makes of such a put.
    #[serde(default)]
    pub create: CreateIfAbsent,
}

impl Capabilities {
    fn of(create: CreateIfAbsent) -> Self {
        Capabilities { create_if_absent: create == CreateIfAbsent::Honoured, create }
    }

    /// What the storage cannot do and what follows from it, in a sentence; `None` if it can do all.
    pub fn shortcoming(&self) -> Option<&'static str> {
        match self.create {
            CreateIfAbsent::Honoured => None,
            CreateIfAbsent::Unsupported => {
                Some("it cannot create an object only if there is none: two writers are kept apart by names alone")
            }
            CreateIfAbsent::Ignored => Some(
                "it accepts 'create only if absent' and overwrites all the same: two writers are kept apart by names alone",
            ),
            CreateIfAbsent::Racy => Some(
                "of several 'create only if absent' at once it lets more than one succeed: two writers are kept apart by names alone",
            ),
        }
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shortcoming().unwrap_or("it can do all that logtide uses"))
    }
}

/// Writes, overwrites, reads, lists and deletes an object; creates another one twice; and lets many create a third at
/// once. To be called when a task starts; several stores may do it at once.
///
/// # Errors
/// [`StorageError::Object`] for an operation that is refused; [`StorageError::Unfit`] for one that does not do what
/// it says.
pub async fn probe(storage: &Storage) -> Result<Capabilities, StorageError> {
    // Random, so that stores that probe at once do not meet; nothing depends on it otherwise.
    let id = RandomState::new().hash_one(std::process::id());
    let name = |what: &str| format!("{OWN_PREFIX}/probe/{id:016x}-{what}");
    let (plain, once) = (name("put"), name("create"));
    let races: Vec<_> = (0..ROUNDS).map(|round| name(&format!("race-{round}"))).collect();
    let seen = experiments(storage, &plain, &once, &races).await;
    let cleaned = clean(storage, [&plain, &once].into_iter().chain(&races)).await;
    let capabilities = Capabilities::of(seen?);
    cleaned?;
    match capabilities.shortcoming() {
        None => info!(storage = storage.url, "probed the storage: {capabilities}"),
        Some(_) => warn!(storage = storage.url, "probed the storage: {capabilities}"),
    }
    Ok(capabilities)
}

async fn experiments(
    storage: &Storage,
    plain: &str,
    once: &str,
    races: &[String],
) -> Result<CreateIfAbsent, StorageError> {
    storage.write(plain, &b"old"[..]).await?;
    storage.write(plain, &b"probe"[..]).await?;
    if storage.read(plain).await?.as_deref() != Some(b"probe") {
        return Err(unfit(storage, format!("'{plain}' does not read back as it was written")));
    }
    let names = storage.names(&format!("{OWN_PREFIX}/probe"), usize::MAX).await?;
    if !names.iter().any(|name| name == plain) {
        return Err(unfit(storage, format!("'{plain}' was written and is not listed")));
    }
    match creates_once(storage, once).await? {
        CreateIfAbsent::Honoured => {}
        other => return Ok(other),
    }
    for object in races {
        if !one_wins(storage, object).await? {
            return Ok(CreateIfAbsent::Racy);
        }
    }
    Ok(CreateIfAbsent::Honoured)
}

/// Two in a row.
async fn creates_once(storage: &Storage, object: &str) -> Result<CreateIfAbsent, StorageError> {
    if storage.create(object, &b"first"[..]).await? == Created::Unsupported {
        return Ok(CreateIfAbsent::Unsupported);
    }
    let second = storage.create(object, &b"second"[..]).await?;
    let kept = storage.read(object).await?.as_deref() == Some(b"first");
    Ok(if second == Created::Existed && kept { CreateIfAbsent::Honoured } else { CreateIfAbsent::Ignored })
}

/// Many at once. Some storages answer such a crowd with an error instead of "exists": they count as losers, as long as
/// somebody wins.
async fn one_wins(storage: &Storage, object: &str) -> Result<bool, StorageError> {
    let content = |i: usize| Bytes::from(vec![b'a' + i as u8; RACE_BYTES]);
    let answers = join_all((0..CREATORS).map(|i| storage.create(object, content(i)))).await;
    let winners: Vec<_> = (0..CREATORS).filter(|i| matches!(answers[*i], Ok(Created::Yes))).collect();
    debug!(storage = storage.url, object, winners = winners.len(), "raced to create an object");
    match winners[..] {
        [] => match answers.into_iter().find_map(Result::err) {
            Some(error) => Err(error),
            None => Err(unfit(storage, format!("'{object}' was not there and could not be created"))),
        },
        [winner] => Ok(storage.read(object).await? == Some(content(winner))),
        _ => Ok(false),
    }
}

async fn clean(storage: &Storage, objects: impl Iterator<Item = &String>) -> Result<(), StorageError> {
    for object in objects {
        storage.delete(object).await?;
        if storage.read(object).await?.is_some() {
            return Err(unfit(storage, format!("'{object}' was deleted and is still there")));
        }
    }
    Ok(())
}

fn unfit(storage: &Storage, found: String) -> StorageError {
    StorageError::Unfit { url: storage.url.clone(), found }
}
