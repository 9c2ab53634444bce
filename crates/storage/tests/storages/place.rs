//! Where a test of the suite works.

use futures::TryStreamExt;
use logtide_storage::{CreateIfAbsent, Storage, open};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// An empty storage, and what is known of it.
pub(crate) struct Place {
    pub(crate) storage: Storage,
    /// The URL by which it was opened, perhaps with credentials.
    pub(crate) url: String,
    /// What the storage makes of create-if-absent.
    pub(crate) create: CreateIfAbsent,
    /// Whether listings come in the order of names.
    pub(crate) lists_in_order: bool,
    /// Whether a part of a name may be of 200 bytes.
    pub(crate) long_names: bool,
    /// Whether what stands before a `/` in a name is a thing of its own, of which a get may fail otherwise.
    pub(crate) directories: bool,
    /// Bytes of a large object.
    pub(crate) large: usize,
    pub(crate) _directory: Option<tempfile::TempDir>,
}

/// More than a page of a listing: S3, GCS and Azure give at most 1,000 or 5,000 at once.
pub(crate) const MANY: usize = 1100;

pub(crate) fn directory(_test: &str) -> Place {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("local://{}/log", directory.path().canonicalize().unwrap().display());
    let storage = open(&url).unwrap();
    let create = CreateIfAbsent::Honoured;
    Place {
        storage,
        url,
        create,
        lists_in_order: false,
        large: 64 << 20,
        long_names: true,
        directories: false,
        _directory: Some(directory),
    }
}

pub(crate) fn memory(test: &str) -> Place {
    let url = format!("memory://{test}");
    let storage = open(&url).unwrap();
    let create = CreateIfAbsent::Honoured;
    Place {
        storage,
        url,
        create,
        lists_in_order: true,
        large: 64 << 20,
        long_names: true,
        directories: false,
        _directory: None,
    }
}

/// The same place, deeper.
pub(crate) fn below(url: &str, name: &str) -> String {
    match (url.split_once('?'), url.strip_prefix("memory://")) {
        (_, Some(above)) => format!("memory://{above}.{name}"),
        (Some((head, query)), None) => format!("{head}/{name}?{query}"),
        (None, None) => format!("{url}/{name}"),
    }
}

/// A name that no other test and no other run uses.
#[cfg(feature = "test-server")]
pub(crate) fn unique(test: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{test}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn path(name: &str) -> Path {
    Path::parse(name).unwrap()
}

/// Bytes that differ from place to place, so that a shifted or torn object is seen.
pub(crate) fn bytes(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    (0..length).map(step).collect()
}

pub(crate) async fn read(store: &dyn ObjectStore, name: &str) -> Vec<u8> {
    store.get(&path(name)).await.unwrap().bytes().await.unwrap().to_vec()
}

/// Names below a prefix, in the order in which they are listed.
pub(crate) async fn names(store: &dyn ObjectStore, prefix: Option<&str>) -> Vec<String> {
    let prefix = prefix.map(path);
    store.list(prefix.as_ref()).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap()
}
