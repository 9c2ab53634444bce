//! The independent reader `read_backup.py`: it accepts what TiKV wrote and what we write, and refuses every corrupted
//! twin, so that its word counts in the tests of other crates.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../golden/sample.rs"]
#[allow(dead_code)]
mod sample;
#[path = "../golden/twins.rs"]
mod twins;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// A folder of this test, empty.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn python(args: &[&str]) -> Output {
    let done = Command::new("python3").args(["-B"]).args(args).current_dir(tests()).output();
    done.unwrap_or_else(|e| panic!("python3: {e}; the test needs it and zstd: apt-get install python3 zstd"))
}

/// Reads a backup; its counts, and its mistakes.
fn read(storage: &Path, more: &[&str]) -> (Value, String) {
    let done = python(&[&["read_backup.py", storage.to_str().unwrap(), "--json"], more].concat());
    let mistakes = String::from_utf8(done.stderr).unwrap();
    let code = done.status.code();
    assert!(matches!(code, Some(0 | 1)), "it could not run ({code:?}): {mistakes}");
    let counts: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(code == Some(0), counts["mistakes"] == 0, "{mistakes}");
    assert_eq!(mistakes.lines().count() as u64, counts["mistakes"].as_u64().unwrap());
    (counts, mistakes)
}

fn interop(variant: &str) -> PathBuf {
    tests().join("data/interop").join(variant).join("backup")
}

#[test]
fn it_reads_what_tikv_wrote() {
    // The records that TiKV was fed, as `--expect` wants them.
    let records = fs::read_to_string(tests().join("data/interop/records.jsonl")).unwrap();
    let lines = records.lines().map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        let [cf, key, value, op] = ["cf", "key", "value", "op"].map(|name| record[name].as_str().unwrap().to_owned());
        format!("{cf}\t{key}\t{value}\t{op}\n")
    });
    let expect = scratch("expect").join("records.tsv");
    fs::write(&expect, lines.collect::<String>()).unwrap();
    for variant in ["zstd", "zstd_split", "uncompressed"] {
        let (counts, mistakes) = read(&interop(variant), &["--expect", expect.to_str().unwrap(), "--no-orphans"]);
        assert_eq!(mistakes, "", "{variant}");
        // 10 of the 590 records were fed to both stores.
        for (what, count) in [("records", 590), ("expected", 580), ("metadata_objects", 7), ("empty_flushes", 1)] {
            assert_eq!(counts[what], count, "{variant}: {what}");
        }
    }
    for variant in ["zstd_aes256ctr", "uncompressed_aes128ctr", "zstd_masterkey_file"] {
        let (counts, mistakes) = read(&interop(variant), &["--no-orphans"]);
        assert_eq!((mistakes.as_str(), &counts["encrypted_files"]), ("", &Value::from(50)), "{variant}");
    }
}

#[test]
fn it_reads_what_we_write() {
    let (counts, mistakes) = read(&tests().join("data/golden/backup"), &["--no-orphans"]);
    assert_eq!(mistakes, "");
    let records = 2 * sample::records().len();
    for (what, count) in [("records", records), ("data_objects", 2), ("schema_objects", 2), ("checkpoints", 1)] {
        assert_eq!(counts[what], count, "{what}");
    }
}

#[test]
fn it_reads_what_we_merge() {
    let storage = scratch("merged");
    let parts: Vec<_> =
        [(1, 0), (4, 2)].into_iter().map(|(generation, index)| linked(&storage, generation, index)).collect();
    let count = |storage: &Path| {
        let (counts, mistakes) = read(storage, &["--no-orphans"]);
        assert_eq!(mistakes, "");
        ["records", "data_objects", "schema_objects", "metadata_objects"].map(|what| counts[what].as_u64().unwrap())
    };
    let [records, data, schema, 2] = count(&storage) else { panic!("two metadata objects") };
    let both: Vec<_> = parts.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    let (path, bytes) = logtide_format::merge_metadata(&both, None).unwrap();
    write(&storage, &path, &bytes);
    parts.iter().for_each(|(path, _)| fs::remove_file(storage.join(path)).unwrap());
    assert_eq!(count(&storage), [records, data, schema, 1]);
    let (at, value) = (path.rfind('g').unwrap(), format!("g{:016X}", 2));
    write(&storage, &format!("{}{value}{}", &path[..at], &path[at + 17..]), &bytes);
    assert!(read(&storage, &[]).1.contains("generation 4 is none of those that were merged"));
}

/// A flush whose metadata object tells of the one before; that object.
fn linked(storage: &Path, generation: u64, first_index: u32) -> (String, Vec<u8>) {
    use logtide_format::{MetaLink, MetaName, ObjectTag, Previous, content_crc, data_path, encode_metadata};
    let (mut meta, name, objects) = sample::flush(logtide_model::Compression::Zstd, first_index);
    let tag = ObjectTag { generation, ..name.tag.unwrap() };
    for (group, (index, (_, bytes))) in meta.file_groups.iter_mut().zip((first_index..).zip(&objects)) {
        let (min, max) = (logtide_model::Ts::new(group.min_ts), logtide_model::Ts::new(group.max_ts));
        group.path = data_path(name.store_id, min, max, group.path.contains("schema"), tag, index);
        write(storage, &group.path, bytes);
    }
    let bytes = encode_metadata(&meta);
    let previous = Previous { generation: 1, min_ts: name.min_ts, max_ts: name.max_ts };
    let link = MetaLink { crc: content_crc(&bytes), previous: (generation > 1).then_some(previous), merged: 0 };
    let path = MetaName::of(&meta, name.flush_ts, Some(tag)).linked_path(&link);
    write(storage, &path, &bytes);
    (path, bytes)
}

#[test]
fn it_misses_what_is_expected_and_not_there() {
    let folder = scratch("missing");
    let key = "7480000000000000ff05";
    fs::write(folder.join("expect"), format!("default\t{key}\t00\n")).unwrap();
    let expect = folder.join("expect");
    let (_, mistakes) = read(&tests().join("data/golden/backup"), &["--expect", expect.to_str().unwrap()]);
    assert!(mistakes.contains("expect:1: not in the backup: put default") && mistakes.contains(key), "{mistakes}");
}

#[test]
fn it_misses_the_value_of_a_write_record() {
    // Without the flush that has the value: only the second half of the sample's transaction on "mDB:5" is left.
    let storage = scratch("no-value");
    let (mut meta, name, objects) = sample::flush(logtide_model::Compression::None, 0);
    let mut group = meta.file_groups.remove(1);
    let value = group.data_files_info.iter().position(|f| f.cf == "default").unwrap();
    let removed = group.data_files_info.remove(value);
    assert_eq!((value, group.data_files_info.len()), (0, 1), "the value comes first");
    group.data_files_info[0].range_offset = 0;
    let group = logtide_format::group(group.path, group.data_files_info);
    write(&storage, &group.path, &objects[1].1[removed.range_length as usize..]);
    let meta = logtide_format::metadata(sample::STORE, vec![group], logtide_model::Ts::new(meta.resolved_ts));
    write(&storage, &name.path(), &logtide_format::encode_metadata(&meta));
    let (_, mistakes) = read(&storage, &[]);
    assert!(mistakes.contains("the value of a write record is nowhere in the backup"), "{mistakes}");
}

#[test]
fn it_sees_orphans_missing_objects_and_folders_without_backup() {
    let storage = scratch("damaged");
    for (path, bytes) in sample::backup() {
        write(&storage, &path, &bytes);
    }
    write(&storage, "v1/20260131/23/7/1-00000000-0300-8000-8000-000900000009.log", b"");
    let (counts, mistakes) = read(&storage, &[]);
    assert_eq!((mistakes.as_str(), &counts["orphans"]), ("", &Value::from(1)));
    assert!(read(&storage, &["--no-orphans"]).1.contains("000900000009.log: no metadata object refers to it"));
    let object = &sample::flush(logtide_model::Compression::Zstd, 0).2[0].0;
    fs::remove_file(storage.join(object)).unwrap();
    assert!(read(&storage, &[]).1.contains(&format!("{object}: cannot be read")));
    assert!(read(&scratch("empty"), &[]).1.contains("no metadata objects"));
}

fn write(storage: &Path, path: &str, bytes: &[u8]) {
    let path = storage.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn it_refuses_every_corrupted_twin() {
    let folder = scratch("twins");
    let all = twins::all();
    for twin in &all {
        assert!(twin.read().is_err(), "{}", twin.name);
        for (path, bytes) in twin.storage() {
            write(&folder.join(&twin.name), path, bytes);
        }
    }
    // One process for all: the mistakes of each twin, a line of JSON each.
    let driver = "import json, os, sys, read_backup as r\n\
        for name in sorted(os.listdir(sys.argv[1])):\n    \
            report = r.check_backup(os.path.join(sys.argv[1], name), None, True)\n    \
            print(json.dumps([name, report.mistakes]))";
    let done = python(&["-c", driver, folder.to_str().unwrap()]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let lines: Vec<(String, Vec<String>)> =
        String::from_utf8(done.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), all.len());
    for twin in all {
        let (_, mistakes) = lines.iter().find(|(name, _)| *name == twin.name).unwrap();
        let named = mistakes.iter().any(|m| m.contains(twin.object()) || m.contains("/463969714173640705-"));
        assert!(named, "{}: {mistakes:?}", twin.name);
    }
}
