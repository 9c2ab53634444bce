//! Golden vectors: a small backup that our own writer makes, byte for byte as it was when it was put into the
//! repository, and corrupted twins of it that must be refused.
//!
//! `LOGTIDE_BLESS=1 cargo test -p logtide-format --test golden` writes the files again: for a deliberate change of
//! what is written, never for a test that fails.
#![allow(clippy::unwrap_used, clippy::panic)]

mod sample;
mod twins;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use logtide_format::{MetaName, Records, decode_checkpoint, decode_metadata, open_file};
use logtide_model::Ts;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden")
}

/// All files under a folder, by path relative to it.
fn files_under(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Compares a folder with what is made now.
fn assert_golden(folder: &str, made: &BTreeMap<String, Vec<u8>>) {
    let root = golden().join(folder);
    if std::env::var_os("LOGTIDE_BLESS").is_some() {
        fs::remove_dir_all(&root).ok();
        for (name, bytes) in made {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), bytes).unwrap();
        }
    }
    let stored = files_under(&root);
    assert_eq!(stored.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>());
    for (name, bytes) in made {
        assert_eq!(&stored[name], bytes, "{folder}/{name} is not what it was");
    }
}

#[test]
fn the_writer_writes_what_it_wrote() {
    assert_golden("backup", &sample::backup().into_iter().collect());
}

#[test]
fn the_golden_backup_is_read() {
    let objects = files_under(&golden().join("backup"));
    let mut entries = 0;
    for (path, bytes) in objects.iter().filter(|(path, _)| path.ends_with(".meta")) {
        let meta = decode_metadata(path, bytes).unwrap();
        let name = MetaName::parse(path).unwrap();
        assert_eq!(&MetaName::of(&meta, name.flush_ts, Some(sample::TAG)).path(), path);
        for group in &meta.file_groups {
            for info in &group.data_files_info {
                let stored = &objects[&group.path][info.range_offset as usize..][..info.range_length as usize];
                entries += Records::new(&open_file(&group.path, info, stored).unwrap()).map(Result::unwrap).count();
            }
        }
    }
    assert_eq!(entries, 2 * sample::records().len());
    assert_eq!(decode_checkpoint("7.ts", &objects["v1/global_checkpoint/7.ts"]).unwrap(), Ts::new(sample::CHECKPOINT));
}

#[test]
fn corrupted_twins_are_refused_by_name_and_place() {
    let mut made = BTreeMap::new();
    let mut errors = String::new();
    for twin in twins::all() {
        let error = twin.read().expect_err(&twin.name);
        let text = error.to_string();
        assert!(text.contains(twin.object()), "{}: '{text}' does not name {}", twin.name, twin.object());
        assert!(text.contains("byte "), "{}: '{text}' does not say where", twin.name);
        errors += &format!("{}: {text}\n", twin.name);
        made.extend(twin.files());
    }
    made.insert("errors.txt".to_owned(), errors.into_bytes());
    assert_golden("twins", &made);
}

#[test]
fn names_are_what_they_were() {
    let names = sample::names().join("\n") + "\n";
    assert_golden("names", &BTreeMap::from([("names.txt".to_owned(), names.into_bytes())]));
}
