//! What every storage must do.

use futures::{StreamExt, TryStreamExt, stream};
use logtide_model::{Incarnation, TaskName, Ts};
use logtide_storage::{
    CheckpointWriter, Identity, StorageError, Trouble, claim, classify, open, probe, read_checkpoint, read_identity,
};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::place::{MANY, Place, below, bytes, names, path, read};

/// How many requests are under way at once.
const AT_ONCE: usize = 24;

async fn put(place: &Place, name: &str, content: impl Into<PutPayload>) {
    place.storage.store.put(&path(name), content.into()).await.unwrap();
}

pub(crate) async fn objects_are_read_as_they_were_written(place: &Place) {
    let store = &place.storage.store;
    put(place, "v1/a/b", bytes(100_000, 1)).await;
    put(place, "v1/a/b", bytes(70_000, 2)).await;
    assert!(read(store, "v1/a/b").await == bytes(70_000, 2), "not what was put last");
    let meta = store.head(&path("v1/a/b")).await.unwrap();
    assert_eq!((meta.size, meta.location), (70_000, path("v1/a/b")));
    assert_eq!(names(store, None).await, ["v1/a/b"]);
}

pub(crate) async fn ranges_are_parts_of_the_object(place: &Place) {
    let (store, all) = (&place.storage.store, bytes(300_000, 3));
    put(place, "ranges", all.clone()).await;
    let at = path("ranges");
    for range in [0..1, 0..300_000, 1_000..2_000, 299_999..300_000] {
        let part = store.get_range(&at, range.clone()).await.unwrap();
        assert!(part == all[range.start as usize..range.end as usize], "{range:?}");
    }
    let parts = store.get_ranges(&at, &[5..10, 100_000..100_001, 250_000..299_000]).await.unwrap();
    assert!(parts[0] == all[5..10] && parts[1] == all[100_000..100_001] && parts[2] == all[250_000..299_000]);
    let tail = store.get_range(&at, 299_990..300_010).await.unwrap();
    assert!(tail == all[299_990..], "a range over the end is cut");
    assert!(store.get_range(&at, 300_000..300_010).await.is_err(), "a range behind the end is refused");
}

pub(crate) async fn an_object_may_be_empty(place: &Place) {
    put(place, "empty", "").await;
    assert_eq!(read(&place.storage.store, "empty").await, b"");
    assert_eq!(place.storage.store.head(&path("empty")).await.unwrap().size, 0);
    assert_eq!(names(&place.storage.store, None).await, ["empty"]);
}

pub(crate) async fn what_is_not_there_is_not_found(place: &Place) {
    let store = &place.storage.store;
    put(place, "there/x", "x").await;
    let below: &[_] = if place.directories { &[] } else { &["there", "there/x/y"] };
    for name in ["absent", "absent/x"].iter().chain(below) {
        let get = store.get(&path(name)).await.unwrap_err();
        assert_eq!(classify(&get), Trouble::NotFound, "{name}: {get}");
        let head = store.head(&path(name)).await.unwrap_err();
        assert_eq!(classify(&head), Trouble::NotFound, "{name}: {head}");
    }
    assert_eq!(names(store, Some("absent")).await, Vec::<String>::new());
    // Some say "done", some say "there was none"; logtide takes both for done.
    if let Err(error) = store.delete(&path("absent")).await {
        assert_eq!(classify(&error), Trouble::NotFound, "{error}");
    }
    assert_eq!(read(store, "there/x").await, b"x");
}

pub(crate) async fn names_keep_their_characters(place: &Place) {
    let mut given = vec![
        "v1/backupmeta/065A1B2C3D4E5F600000000000000001-d065A.l065B.u065C.p0.b3.g7.meta".to_owned(),
        "v1/20261121/10/1/schema-meta/452312848583266388373324160190187140051-0192f0c1.log".to_owned(),
    ];
    given.extend(
        ["a b", "a+b", "a=b&c", "a:b;c,d", "a@b!$'()", "ä/€/日本", "UPPER and lower", ".hidden/-x_"].map(str::to_owned),
    );
    if place.long_names {
        given.push("n".repeat(200));
    }
    for name in &given {
        put(place, name, name.clone()).await;
    }
    let mut listed = names(&place.storage.store, None).await;
    listed.sort();
    let mut expected = given.clone();
    expected.sort();
    assert_eq!(listed, expected);
    for name in &given {
        assert_eq!(read(&place.storage.store, name).await, name.as_bytes());
    }
}

pub(crate) async fn a_listing_holds_all_and_nothing_else(place: &Place) {
    let store = &place.storage.store;
    let expected: Vec<_> = (0..MANY).map(|i| format!("list/many/{i:06}")).collect();
    let puts = expected.iter().map(|name| put(place, name, "x"));
    stream::iter(puts).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    put(place, "list/many-others/000000", "x").await;
    put(place, "list/one", "x").await;

    let mut listed = names(store, Some("list/many")).await;
    if !place.lists_in_order {
        listed.sort();
    }
    assert!(listed == expected, "{} of {MANY} in order", listed.len());
    let offset = path(&expected[MANY - 3]);
    let after = store.list_with_offset(Some(&path("list/many")), &offset).map_ok(|m| m.location.to_string());
    let mut after: Vec<_> = after.try_collect().await.unwrap();
    after.sort();
    assert_eq!(after, expected[MANY - 2..]);
    let level = store.list_with_delimiter(Some(&path("list"))).await.unwrap();
    assert_eq!(level.common_prefixes, [path("list/many"), path("list/many-others")]);
    assert_eq!(level.objects.iter().map(|m| m.location.clone()).collect::<Vec<_>>(), [path("list/one")]);
}

pub(crate) async fn objects_are_deleted(place: &Place) {
    let store = &place.storage.store;
    for i in 0..20 {
        put(place, &format!("delete/{i}"), "x").await;
    }
    store.delete(&path("delete/7")).await.unwrap();
    let rest: Vec<Path> = names(store, None).await.iter().map(|name| path(name)).collect();
    assert_eq!(rest.len(), 19);
    let gone: Vec<_> = store.delete_stream(stream::iter(rest.clone()).map(Ok).boxed()).try_collect().await.unwrap();
    assert_eq!(gone.len(), 19);
    assert_eq!(names(store, None).await, Vec::<String>::new());
}

pub(crate) async fn a_large_object_is_written_at_once(place: &Place) {
    let (store, content) = (&place.storage.store, bytes(place.large, 4));
    put(place, "large", content.clone()).await;
    assert!(read(store, "large").await == content, "{} bytes", place.large);
    let middle = place.large as u64 / 2;
    let part = store.get_range(&path("large"), middle..middle + 100_000).await.unwrap();
    assert!(part == content[middle as usize..middle as usize + 100_000]);
}

/// S3 wants 5 MiB at least of every part but the last.
const PART: usize = 5 << 20;

pub(crate) async fn parts_become_one_object(place: &Place) {
    let (store, content) = (&place.storage.store, bytes(2 * PART + 12_345, 5));
    let mut upload = store.put_multipart(&path("parts/x")).await.unwrap();
    for part in content.chunks(PART) {
        upload.put_part(PutPayload::from(part.to_vec())).await.unwrap();
    }
    assert_eq!(names(store, None).await, Vec::<String>::new(), "an unfinished object is visible");
    upload.complete().await.unwrap();
    assert!(read(store, "parts/x").await == content);
    assert_eq!(store.head(&path("parts/x")).await.unwrap().size, content.len() as u64);
}

pub(crate) async fn an_upload_that_is_given_up_leaves_nothing(place: &Place) {
    let store = &place.storage.store;
    let mut upload = store.put_multipart(&path("parts/x")).await.unwrap();
    upload.put_part(PutPayload::from(bytes(PART, 6))).await.unwrap();
    upload.abort().await.unwrap();
    assert_eq!(names(store, None).await, Vec::<String>::new());
}

pub(crate) async fn the_probe_tells_the_truth(place: &Place) {
    let seen = probe(&place.storage).await.unwrap();
    assert_eq!(seen.create, place.create, "{}", place.storage.url);
    assert_eq!(seen.shortcoming().is_none(), seen.create_if_absent);
    assert_eq!(names(&place.storage.store, None).await, Vec::<String>::new(), "the probe left something");
}

pub(crate) async fn a_prefix_has_one_owner(place: &Place) {
    let owner = |task: &str| Identity::new(7, TaskName::new(task).unwrap(), Incarnation(1), Ts::new(100));
    for _ in 0..2 {
        claim(&place.storage, &owner("mine")).await.unwrap();
    }
    let refused = claim(&place.storage, &owner("other")).await.unwrap_err();
    assert!(matches!(refused, StorageError::InUse { .. }), "{refused}");
    assert_eq!(read_identity(&place.storage).await.unwrap(), Some(owner("mine")));
}

pub(crate) async fn a_prefix_is_a_storage_of_its_own(place: &Place) {
    put(place, "x", "above").await;
    let deeper = open(&below(&place.url, "deeper")).unwrap();
    deeper.store.put(&path("x"), "below".into()).await.unwrap();
    assert_eq!(names(&deeper.store, None).await, ["x"]);
    assert_eq!(read(&deeper.store, "x").await, b"below");
    assert_eq!(read(&place.storage.store, "x").await, b"above");
    assert_ne!(deeper.url, place.storage.url);
}

pub(crate) async fn the_checkpoint_only_grows(place: &Place) {
    assert_eq!(read_checkpoint(&place.storage).await.unwrap(), None);
    for (store, ts, expected) in [(1, 50, 50), (2, 70, 70), (1, 40, 50), (1, 60, 60)] {
        let written = CheckpointWriter::new(place.storage.clone(), store).write(Ts::new(ts)).await.unwrap();
        assert_eq!(written, Ts::new(expected));
    }
    assert_eq!(read_checkpoint(&place.storage).await.unwrap(), Some(Ts::new(70)));
}
