//! What is damaged, cut off or missing is named, with what is lost; nothing of it is restored, and no target appears.

#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod lab;

use futures::executor::block_on;
use lab::backup::{copy, get, paths, put};
use lab::history::{Cluster, History};
use lab::{Random, State, chain, restore, state_at};
use logtide_format::proto::DataFileInfo;
use logtide_format::{DataFile, decode_metadata, encode_metadata};
use logtide_model::{Class, Diagnose};
use logtide_restore::RestoreError;
use logtide_storage::Storage;
use object_store::{ObjectStoreExt, path::Path};

/// Bits of metadata that are flipped, one at a time.
const FLIPS: usize = 250;

fn history() -> History {
    Cluster::run(7, 120)
}

/// The restored state; whatever happens, there is a complete target or none.
fn outcome(storage: &Storage, at: u64) -> Result<State, RestoreError> {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("node");
    let result = restore(storage, &target, Some(at), |_| ());
    assert_eq!(result.is_ok(), target.exists());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), usize::from(result.is_ok()), "nothing else is left");
    result.map(|_| state_at(&target, at).0)
}

/// Every logical file of the backup, with its data object.
fn files(storage: &Storage) -> Vec<(String, DataFile)> {
    let mut all = Vec::new();
    for path in paths(storage, ".meta") {
        for group in decode_metadata(&path, &get(storage, &path)).unwrap().file_groups {
            let parse = |(i, info)| (group.path.clone(), DataFile::parse(&group.path, i, info).unwrap());
            all.extend(group.data_files_info.iter().enumerate().map(parse));
        }
    }
    all
}

fn changed(storage: &Storage, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> Storage {
    let copy = copy(storage);
    let mut bytes = get(&copy, path);
    change(&mut bytes);
    put(&copy, path, bytes);
    copy
}

#[test]
fn a_flipped_byte_of_data_is_named_with_its_object_and_offset() {
    let history = history();
    let mut tried = 0;
    for (object, file) in files(&history.storage).iter().filter(|(_, f)| f.stored_length > 0) {
        for at in [file.offset, file.offset + file.stored_length / 2, file.end() - 1] {
            let damaged = changed(&history.storage, object, |bytes| bytes[at as usize] ^= 1 << (at % 8));
            let error = match outcome(&damaged, history.checkpoint) {
                Err(error) => error,
                Ok(state) => {
                    assert_eq!(state, history.at(history.checkpoint));
                    assert!(file.min_ts.get() > history.checkpoint || file.max_ts.get() <= history.start, "it is read");
                    continue;
                }
            };
            let text = chain(&error);
            assert!(matches!(error, RestoreError::Damaged { .. }) && error.class() == Class::Corrupt, "{text}");
            assert!(text.contains(object) && text.contains(&format!("offset {}", file.offset)), "{text}");
            assert!(text.contains(&format!("{} {} records", file.entries, file.key.cf.name())), "{text}");
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn a_missing_or_cut_off_data_object_is_named() {
    let history = history();
    for object in paths(&history.storage, ".log") {
        let of_object: Vec<_> =
            files(&history.storage).into_iter().filter(|(o, _)| *o == object).map(|(_, f)| f).collect();
        let needed = |f: &&DataFile| f.min_ts.get() <= history.checkpoint && f.max_ts.get() > history.start;
        let Some(end) = of_object.iter().filter(needed).map(DataFile::end).max() else { continue };
        let missing = copy(&history.storage);
        block_on(missing.store.delete(&Path::from(object.as_str()))).unwrap();
        let cut = changed(&history.storage, &object, |bytes| bytes.truncate(end as usize - 1));
        for storage in [missing, cut] {
            let error = outcome(&storage, history.checkpoint).unwrap_err();
            let text = chain(&error);
            assert!(matches!(error, RestoreError::Missing { .. }), "{text}");
            assert!(text.contains(&object) && text.contains("lost") && text.contains("region"), "{text}");
            assert!(!error.remedy().is_empty());
        }
    }
}

#[test]
fn cut_off_metadata_is_named() {
    let history = Cluster::run(12, 60);
    for object in paths(&history.storage, ".meta") {
        let len = get(&history.storage, &object).len();
        let bytes = get(&history.storage, &object);
        // Wherever the rest still decodes: at the borders of fields.
        let decodes = (0..len).filter(|keep| decode_metadata(&object, &bytes[..*keep]).is_ok());
        for keep in decodes.chain([1, len / 2, len - 1]) {
            let damaged = changed(&history.storage, &object, |bytes| bytes.truncate(keep));
            match outcome(&damaged, history.checkpoint) {
                Err(error) => {
                    let text = chain(&error);
                    assert!(text.contains(&object) && error.class() == Class::Corrupt, "{text}");
                }
                // An empty flush, or one above the checkpoint: its name says that nothing of it is needed.
                Ok(state) => assert_eq!(state, history.at(history.checkpoint), "{object} cut off at {keep} of {len}"),
            }
        }
    }
}

/// Damage that leaves well-formed metadata behind.
#[test]
fn metadata_that_lost_or_changed_a_file_is_refused() {
    let history = Cluster::run(11, 60);
    let edits: [fn(&mut Vec<DataFileInfo>, usize); 4] = [
        |files, at| drop(files.remove(at)),
        |files, at| files[at].r#type ^= 1,
        |files, at| files[at].min_ts = files[at].max_ts.saturating_add(1),
        |files, at| files[at].cf = if files[at].cf == "write" { "default".into() } else { "write".into() },
    ];
    let mut tried = 0;
    for object in paths(&history.storage, ".meta") {
        let original = decode_metadata(&object, &get(&history.storage, &object)).unwrap();
        for (g, group) in original.file_groups.iter().enumerate() {
            for (f, edit) in (0..group.data_files_info.len()).flat_map(|f| edits.iter().map(move |edit| (f, edit))) {
                let mut edited = original.clone();
                edit(&mut edited.file_groups[g].data_files_info, f);
                let damaged = changed(&history.storage, &object, |bytes| *bytes = encode_metadata(&edited));
                match outcome(&damaged, history.checkpoint) {
                    Err(error) => assert_eq!(error.class(), Class::Corrupt, "{}", chain(&error)),
                    Ok(state) => assert!(
                        state == history.at(history.checkpoint),
                        "{object}: unseen in {:?}",
                        edited.file_groups[g]
                    ),
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn a_flipped_bit_of_metadata_changes_no_state() {
    let history = Cluster::run(5, 40);
    let want = history.at(history.checkpoint);
    let objects = paths(&history.storage, ".meta");
    let mut random = Random(1);
    for _ in 0..FLIPS {
        let object = &objects[random.below(objects.len() as u64) as usize];
        let bit = random.below(get(&history.storage, object).len().max(1) as u64 * 8) as usize;
        let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
        let damaged = changed(&history.storage, object, flip);
        if let Ok(state) = outcome(&damaged, history.checkpoint) {
            assert!(state == want, "bit {bit} of {object}: the damage went unseen");
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let history = history();
    let object = &paths(&history.storage, ".ts")[0];
    let damaged = changed(&history.storage, object, |bytes| bytes.truncate(7));
    let text = chain(&outcome(&damaged, history.checkpoint).unwrap_err());
    assert!(text.contains(object), "{text}");
}
