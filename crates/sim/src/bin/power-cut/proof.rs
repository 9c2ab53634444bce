//! What is left on the disk, held to what was promised.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::path::Path;

use bytes::Bytes;
use futures::TryStreamExt;
use logtide_model::{KeyRange, Ts};
use logtide_restore::{MemorySink, RestoreOptions, Silent, restore_to};
use logtide_storage::{CheckpointWriter, Storage, read_checkpoint};

use crate::Failure;

/// What a store did until the power went.
pub(crate) struct Life {
    /// The last first.
    pub(crate) moments: Vec<Moment>,
    pub(crate) published: u64,
    pub(crate) commits: u64,
}

/// What a reader of the cluster sees at a checkpoint that was published.
pub(crate) struct Moment {
    pub(crate) ts: Ts,
    pub(crate) truth: BTreeMap<Vec<u8>, Bytes>,
}

/// What was compared.
#[derive(Default)]
pub(crate) struct Proof {
    /// The first thing that is not as it should be.
    pub(crate) wrong: Option<String>,
    commits: u64,
    published: u64,
    restored: u64,
    keys: u64,
    bytes: u64,
}

impl AddAssign for Proof {
    fn add_assign(&mut self, other: Proof) {
        self.commits += other.commits;
        self.published += other.published;
        self.restored += other.restored;
        self.keys += other.keys;
        self.bytes += other.bytes;
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proof { commits, published, restored, keys, bytes, .. } = self;
        write!(
            f,
            "{commits} transactions, {published} checkpoints published, {restored} restored and compared ({keys} keys), \
             {bytes} bytes in the storages"
        )
    }
}

/// Restores what was promised from the storage in `dir`, and compares it with the truth in both directions.
pub(crate) fn prove(dir: &Path, life: Life) -> Proof {
    let mut proof = Proof { commits: life.commits, published: life.published, ..Proof::default() };
    proof.wrong = compare(dir, &life, &mut proof).err().map(|error| error.to_string());
    proof
}

fn compare(dir: &Path, life: &Life, proof: &mut Proof) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let storage = logtide_storage::open(&format!("local://{}", dir.display()))?;
    proof.bytes = runtime.block_on(storage.store.list(None).try_fold(0, async |sum, object| Ok(sum + object.size)))?;
    let Some(last) = life.moments.first() else { return Err("nothing was published".into()) };
    let said = runtime.block_on(read_checkpoint(&storage))?.unwrap_or(Ts::ZERO);
    if said > last.ts {
        return Err(format!("the storage says {said}, which is above {}, the last that was published", last.ts).into());
    }
    // As the next process of the store does: the coordinator knows better.
    runtime.block_on(CheckpointWriter::new(storage.clone(), 1).write(last.ts))?;
    for moment in &life.moments {
        let restored = runtime.block_on(restore(&storage, moment.ts))?;
        proof.restored += 1;
        proof.keys += moment.truth.len() as u64;
        differs(&moment.truth, &restored).map_err(|e| format!("restored to {}: {e}", moment.ts))?;
    }
    Ok(())
}

async fn restore(storage: &Storage, ts: Ts) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Failure> {
    let options = RestoreOptions { restored_ts: Some(ts), threads: Some(0), ..RestoreOptions::for_sink() };
    let (_, state) = restore_to(storage, &options, MemorySink, &Silent).await?;
    let mut restored = BTreeMap::new();
    state.dump(ts, &KeyRange::ALL, &mut |key, value| {
        restored.insert(key.to_vec(), value.to_vec());
        Ok(())
    })?;
    Ok(restored)
}

fn differs(truth: &BTreeMap<Vec<u8>, Bytes>, restored: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), Failure> {
    let text = |key: &[u8]| key.escape_ascii().to_string();
    let wrong = truth.iter().filter(|(key, value)| restored.get(*key).is_none_or(|found| found[..] != value[..]));
    let more = restored.keys().filter(|key| !truth.contains_key(*key));
    let wrong: Vec<String> = wrong.map(|(key, _)| text(key)).chain(more.map(|key| text(key))).collect();
    match wrong.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} of {} keys differ, the first is {first}", wrong.len(), truth.len()).into()),
    }
}
