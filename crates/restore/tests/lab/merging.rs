//! Metadata objects merged as a store does it, one durable step at a time.

use logtide_format::{MetaLink, MetaName, encode_head, merge_metadata, merged_head_path};
use logtide_storage::Storage;
use object_store::{ObjectStoreExt, path::Path};

use super::backup::{get, paths, put};
use super::{Random, block_on};

/// A durable step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Put(String, Vec<u8>),
    Delete(String),
}

impl Step {
    pub(crate) fn apply(&self, storage: &Storage) {
        block_on(self.apply_now(storage));
    }

    pub(crate) async fn apply_now(&self, storage: &Storage) {
        match self {
            Step::Put(path, bytes) => {
                drop(storage.store.put(&Path::from(path.as_str()), bytes.clone().into()).await.unwrap())
            }
            Step::Delete(path) => storage.store.delete(&Path::from(path.as_str())).await.unwrap(),
        }
    }
}

/// Metadata objects with data of each store and boot, in order; boots with at least `least` of them.
pub(crate) fn boots(storage: &Storage, least: usize) -> Vec<Vec<String>> {
    let named = paths(storage, ".meta").into_iter().map(|path| (MetaName::parse(&path).unwrap(), path));
    let mut named: Vec<_> = named.map(|(name, path)| ((name.store_id, name.tag.unwrap()), path)).collect();
    named.sort();
    let mut boots: Vec<((u64, u64), Vec<String>)> = Vec::new();
    for ((store, tag), path) in named {
        match boots.last_mut() {
            Some((of, boot)) if *of == (store, tag.boot) => boot.push(path),
            _ => boots.push(((store, tag.boot), vec![path])),
        }
    }
    boots.into_iter().map(|(_, boot)| boot).filter(|boot| boot.len() >= least).collect()
}

/// The steps of merging a run, in the order of a store. The first one puts the merged object.
pub(crate) fn steps(storage: &Storage, run: &[String]) -> Vec<Step> {
    let contents: Vec<_> = run.iter().map(|path| get(storage, path)).collect();
    let objects: Vec<_> = run.iter().zip(&contents).map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    let (path, bytes) = merge_metadata(&objects, None).unwrap();
    let name = MetaName::parse(&path).unwrap();
    let head = Step::Put(merged_head_path(name.store_id, name.tag.unwrap()), encode_head(&path));
    let mut steps = vec![Step::Put(path, bytes), head];
    steps.extend(run.iter().rev().map(|path| Step::Delete(path.clone())));
    steps
}

/// Merges some runs of every boot to the end, a run of merged ones among them. How many were merged.
pub(crate) fn merge_some(storage: &Storage, random: &mut Random) -> usize {
    let mut merged = 0;
    for _ in 0..2 {
        for boot in boots(storage, 3) {
            let from = random.below(boot.len() as u64 - 2) as usize;
            let run = &boot[from..boot.len() - random.below(2) as usize];
            steps(storage, run).iter().for_each(|step| step.apply(storage));
            merged += run.len();
        }
    }
    merged
}

/// Merged objects of a storage.
pub(crate) fn merged(storage: &Storage) -> Vec<String> {
    let is_merged = |path: &String| MetaLink::parse(path).unwrap().is_some_and(|link| link.is_merged());
    paths(storage, ".meta").into_iter().filter(is_merged).collect()
}

/// Puts back what was there.
pub(crate) fn put_back(storage: &Storage, objects: &[(String, Vec<u8>)]) {
    objects.iter().for_each(|(path, bytes)| put(storage, path, bytes.clone()));
}
