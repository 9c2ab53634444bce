//! The same bytes, put by `object_store` alone: in the objects and parts that a flush has, as many requests at once.
//! Where the flush reads them from the disk, so does this: from one plain file, in parts, without checksums.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use logtide_flusher::SealedGeneration;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::sync::Semaphore;
use url::Url;

use crate::AT_ONCE;

/// Bytes of a part: the default of the flusher.
const PART: usize = 8 << 20;
/// Larger objects go in parts: as the flusher does it.
const SINGLE: usize = 2 * PART;

/// The data objects of a generation: here one, as a generation has fewer bytes than `file-size-limit`.
pub(crate) struct Objects {
    bytes: Source,
    length: usize,
    name: Path,
}

enum Source {
    Memory(Vec<Bytes>),
    Disk(Arc<File>),
}

impl Objects {
    pub(crate) fn of(generation: &SealedGeneration) -> Self {
        let files = || generation.spools.iter().flat_map(|spool| &spool.files);
        let on_disk = files().any(|file| file.is_on_disk());
        let blocks: Vec<Bytes> = files().map(|file| file.read().unwrap()).collect();
        let length = blocks.iter().map(Bytes::len).sum();
        let name = Path::from(format!("floor/{}/data.log", generation.generation));
        let bytes = if on_disk { Source::Disk(Arc::new(written(&blocks))) } else { Source::Memory(blocks) };
        Objects { bytes, length, name }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.length as u64
    }

    /// Where its requests begin and end: parts of exactly as many bytes, but for the last.
    fn parts(&self) -> Vec<Range<usize>> {
        let part = if self.length <= SINGLE { self.length } else { PART };
        (0..self.length).step_by(part).map(|from| from..self.length.min(from + part)).collect()
    }

    /// The payload of a request.
    async fn payload(&self, part: Range<usize>) -> PutPayload {
        match &self.bytes {
            Source::Memory(blocks) => slices(blocks, part).collect(),
            Source::Disk(file) => {
                let file = file.clone();
                let read = move || {
                    let mut bytes = vec![0; part.len()];
                    file.read_exact_at(&mut bytes, part.start as u64).unwrap();
                    bytes
                };
                tokio::task::spawn_blocking(read).await.unwrap().into()
            }
        }
    }
}

/// What lies in a range of the blocks' concatenation.
fn slices(blocks: &[Bytes], range: Range<usize>) -> impl Iterator<Item = Bytes> {
    let mut at = 0;
    blocks.iter().filter_map(move |block| {
        let begin = at;
        at += block.len();
        let (from, to) = (range.start.max(begin), range.end.min(at));
        (from < to).then(|| block.slice(from - begin..to - begin))
    })
}

fn written(blocks: &[Bytes]) -> File {
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    blocks.iter().for_each(|block| file.write_all(block).unwrap());
    file
}

/// Puts all of it.
pub(crate) async fn put_all(store: &dyn ObjectStore, objects: &[Objects]) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let puts = objects.iter().map(|object| put(store, object, slots.clone()));
    futures::stream::iter(puts).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

async fn put(store: &dyn ObjectStore, object: &Objects, slots: Arc<Semaphore>) {
    let mut parts = object.parts();
    if parts.len() == 1 {
        let payload = object.payload(parts.remove(0)).await;
        let _slot = slots.acquire().await.unwrap();
        store.put(&object.name, payload).await.unwrap();
        return;
    }
    let mut upload = store.put_multipart(&object.name).await.unwrap();
    let mut requests = tokio::task::JoinSet::new();
    for part in parts {
        let payload = object.payload(part).await;
        let slot = slots.clone().acquire_owned().await.unwrap();
        let request = upload.put_part(payload);
        requests.spawn(async move {
            request.await.unwrap();
            drop(slot);
        });
    }
    requests.join_all().await;
    upload.complete().await.unwrap();
}

/// Removes everything.
pub(crate) async fn clear(store: &dyn ObjectStore) {
    let all: Vec<_> = store.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    let all = futures::stream::iter(all.into_iter().map(Ok)).boxed();
    store.delete_stream(all).try_collect::<Vec<_>>().await.unwrap();
}

/// `object_store`'s S3 client, with nothing of ours around it.
pub(crate) fn bare_s3(url: &str) -> Box<dyn ObjectStore> {
    // Its HTTP client asks for a provider of TLS even where it needs none. There is no other one yet.
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let url = Url::parse(url).unwrap();
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(url.host_str().unwrap())
        .with_client_options(ClientOptions::new().with_allow_http(true));
    for (name, value) in url.query_pairs() {
        builder = match &*name {
            "endpoint" => builder.with_endpoint(value),
            "region" => builder.with_region(value),
            "access-key" => builder.with_access_key_id(value),
            "secret-access-key" => builder.with_secret_access_key(value),
            _ => builder,
        };
    }
    Box::new(builder.build().unwrap())
}
