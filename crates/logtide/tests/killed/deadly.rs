//! A storage, a coordinator and a host that end the process at a step of log backup: before it is done, or right after.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use logtide_coordinator::StoreError;
use logtide_coordinator::store::{Action, KeyValue, LeaseId, Revision, Store, Txn, TxnOutcome, Watch};
use logtide_mock_raftstore::HostLayer;
use logtide_model::{Host, HostError, Ts};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// A durable step, or a seal, which is what the next ones follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Whose the storage is.
    Claim,
    /// The probe of the storage, and the removal of what it left.
    Probe,
    Unprobe,
    /// The boot epoch in the coordinator.
    Boot,
    Seal,
    Data,
    /// The commit point.
    Metadata,
    /// The object that names the newest metadata object.
    Head,
    /// Facts in the coordinator. The spool is removed right after.
    Publish,
    /// Facts become the cover and the global checkpoint.
    Advance,
    /// The checkpoint in the storage.
    Checkpoint,
    /// The storage is one's own for a merge of metadata objects, and not any more.
    Lock,
    Unlock,
    /// Metadata objects become one, and go.
    Merge,
    Unmerge,
}

/// All of them, in the order in which they come.
pub(crate) const STEPS: [Step; 15] = [
    Step::Claim,
    Step::Probe,
    Step::Unprobe,
    Step::Boot,
    Step::Seal,
    Step::Data,
    Step::Metadata,
    Step::Head,
    Step::Publish,
    Step::Advance,
    Step::Checkpoint,
    Step::Lock,
    Step::Unlock,
    Step::Merge,
    Step::Unmerge,
];

impl Step {
    /// How often it happens in the life of a process, where that is not again and again.
    pub(crate) fn at_most(self) -> u64 {
        match self {
            Step::Claim | Step::Unprobe | Step::Boot | Step::Merge => 1,
            Step::Probe => 3,
            _ => u64::MAX,
        }
    }

    fn of_object(path: &Path) -> Option<Step> {
        let path = path.as_ref();
        let begins = |prefix: &str| path.starts_with(prefix);
        Some(match () {
            () if begins("v1/backupmeta/") && is_merged(path) => Step::Merge,
            () if begins("v1/backupmeta/") => Step::Metadata,
            () if begins("v1/LOCK") || begins("truncating.lock") => Step::Lock,
            () if begins("v1/logtide/probe/") => Step::Probe,
            () if begins("v1/logtide/heads/") => Step::Head,
            () if begins("v1/global_checkpoint/") => Step::Checkpoint,
            () if path == "v1/logtide/identity.json" => Step::Claim,
            () if path.ends_with(".log") => Step::Data,
            () => return None,
        })
    }

    fn of_removal(path: &Path) -> Option<Step> {
        match Step::of_object(path)? {
            Step::Probe => Some(Step::Unprobe),
            Step::Lock => Some(Step::Unlock),
            Step::Metadata | Step::Merge => Some(Step::Unmerge),
            _ => None,
        }
    }

    fn of_txn(txn: &Txn) -> Option<Step> {
        let keys = txn.then.iter().map(|action| match action {
            Action::Put { key, .. } | Action::Delete(key) | Action::DeletePrefix(key) => key,
        });
        let of_key = |key: &bytes::Bytes| {
            let key = String::from_utf8_lossy(key);
            match () {
                () if key.starts_with("/logtide/v1/boot/") => Some(Step::Boot),
                () if key.contains("/cover") => Some(Step::Advance),
                () if key.contains("/fact/") => Some(Step::Publish),
                () => None,
            }
        };
        // Folding removes facts and writes the cover: the later step of the two.
        keys.filter_map(of_key).max()
    }
}

/// True if the name of a metadata object has the tag of those that were merged.
fn is_merged(path: &str) -> bool {
    let tags = path.trim_end_matches(".meta").split_once('-').map_or("", |(_, tags)| tags);
    tags.as_bytes().chunks(17).any(|tag| tag[0] == b'n')
}

/// When the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    pub(crate) step: Step,
    /// Which time, from 1.
    pub(crate) nth: u64,
    /// When it is done; else before.
    pub(crate) done: bool,
}

impl Death {
    pub(crate) fn parse(text: &str) -> Death {
        let mut parts = text.split('-');
        let done = parts.next().unwrap() == "after";
        let name = parts.next().unwrap();
        let step = STEPS.into_iter().find(|step| format!("{step:?}") == name).unwrap();
        Death { step, nth: parts.next().unwrap().parse().unwrap(), done }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:?}-{}", if self.done { "after" } else { "before" }, self.step, self.nth)
    }
}

/// Ends the process when its time has come. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    death: Option<Death>,
    begun: Arc<Mutex<BTreeMap<Step, u64>>>,
    done: Arc<Mutex<BTreeMap<Step, u64>>>,
}

impl Fate {
    pub(crate) fn new(death: Option<Death>) -> Self {
        Fate { death, begun: Arc::default(), done: Arc::default() }
    }

    /// A step begins.
    fn before(&self, step: Option<Step>) {
        self.happens(step, false, &self.begun);
    }

    /// A step is done, and nobody knows of it yet.
    fn after(&self, step: Option<Step>) {
        self.happens(step, true, &self.done);
    }

    fn happens(&self, step: Option<Step>, done: bool, counts: &Mutex<BTreeMap<Step, u64>>) {
        let Some(step) = step else { return };
        let mut counts = counts.lock().unwrap();
        let nth = counts.entry(step).or_default();
        *nth += 1;
        if self.death == Some(Death { step, nth: *nth, done }) {
            die();
        }
    }
}

/// No destructor runs, nothing is flushed: as when the kernel kills a process.
fn die() {
    let pid = std::process::id().to_string();
    drop(std::process::Command::new("kill").args(["-9", &pid]).status());
    loop {
        std::thread::park();
    }
}

/// The storage.
#[derive(Debug)]
pub(crate) struct DeadlyObjects(pub(crate) Arc<dyn ObjectStore>, pub(crate) Fate);

impl fmt::Display for DeadlyObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeadlyObjects")
    }
}

#[async_trait]
impl ObjectStore for DeadlyObjects {
    async fn put_opts(&self, to: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.1.before(Step::of_object(to));
        let answer = self.0.put_opts(to, payload, options).await;
        self.1.after(Step::of_object(to));
        answer
    }

    async fn put_multipart_opts(&self, to: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(from, options).await
    }

    fn delete_stream(&self, objects: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (before, after) = (self.1.clone(), self.1.clone());
        let asked = objects.inspect_ok(move |path| before.before(Step::of_removal(path)));
        let deleted = self.0.delete_stream(asked.boxed());
        deleted.inspect_ok(move |path| after.after(Step::of_removal(path))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

/// The coordinator.
pub(crate) struct DeadlyStore(pub(crate) Arc<dyn Store>, pub(crate) Fate);

impl Store for DeadlyStore {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.0.get(key)
    }

    fn list(&self, prefix: &[u8]) -> Result<(Vec<KeyValue>, Revision), StoreError> {
        self.0.list(prefix)
    }

    fn commit(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        let step = Step::of_txn(&txn);
        self.1.before(step);
        let answer = self.0.commit(txn);
        self.1.after(step);
        answer
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.0.watch(prefix, from)
    }

    fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.0.grant(ttl)
    }

    fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.keep_alive(lease)
    }

    fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.revoke(lease)
    }
}

/// The host: its barrier begins a seal.
pub(crate) struct DeadlyHost(pub(crate) Arc<dyn Host>, pub(crate) Fate);

impl HostLayer for DeadlyHost {
    fn below(&self) -> &dyn Host {
        &*self.0
    }

    fn commit_barrier(&self) -> Result<Ts, HostError> {
        self.1.before(Some(Step::Seal));
        let barrier = self.0.commit_barrier();
        self.1.after(Some(Step::Seal));
        barrier
    }
}
