//! What was changed past MVCC is told, and a restore that it matters to is refused unless it is allowed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod lab;

use lab::backup::{Entry, Style, begin, checkpoint, copy, flush, memory_storage, put};
use lab::history::{Cluster, History, versioned};
use lab::{Random, block_on, restore_in_memory};
use logtide_format::{EntryKind, Mark, MarkKind, ObjectTag, encode_marks, marks_path};
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{Cf, Compression, Diagnose, KeyRange, Ts, encode_raw_key};
use logtide_restore::{InexactRanges, MIN_MEMORY, RestoreError, RestoreOptions, Silent, inexact_ranges, plan_restore};
use logtide_storage::Storage;

fn mark(after: u64, before: u64, range: KeyRange) -> Mark {
    let (after, before) = (Ts::new(after), Ts::new(before));
    Mark { kind: MarkKind::RangeDelete, region_id: 5, version: 2, cf: Cf::Write, range, after, before }
}

/// The history with marks, each of a generation of its own.
fn marked(history: &History, marks: &[Mark]) -> Storage {
    let storage = copy(&history.storage);
    for (generation, mark) in (1..).zip(marks) {
        let path = marks_path(3, ObjectTag { boot: 1, generation });
        put(&storage, &path, encode_marks(3, std::slice::from_ref(mark)));
    }
    storage
}

fn outcome(storage: &Storage, at: u64, range: Option<KeyRange>, allow: bool) -> Result<InexactRanges, RestoreError> {
    let restored = restore_in_memory(storage, Some(at), |options| {
        (options.range, options.allow_inexact, options.threads) = (range, allow, Some(0));
    });
    restored.map(|(summary, _)| summary.inexact)
}

#[test]
fn a_restore_is_refused_where_and_only_where_the_log_cannot_tell() {
    let history = Cluster::run(8, 200);
    let (start, checkpoint) = (history.start, history.checkpoint);
    let middle = start + (checkpoint - start) / 2;
    let range = KeyRange::new(encode_raw_key(b"b"), encode_raw_key(b"d"));
    let keys = |from: &[u8], to: &[u8]| Some(KeyRange::from_raw(from, to));
    let cases = [
        // (after, before), restored ts, restored keys, refused
        ((middle, middle + 5), checkpoint, None, true),
        ((middle, middle + 5), middle + 1, None, true),
        ((middle, middle + 5), middle, None, false),
        ((middle, checkpoint + 9), checkpoint, None, true),
        ((checkpoint, checkpoint + 9), checkpoint, None, false),
        ((start.saturating_sub(9), start), checkpoint, None, false),
        ((start.saturating_sub(9), start + 1), checkpoint, None, true),
        ((middle, middle + 5), checkpoint, keys(b"a", b"b"), false),
        ((middle, middle + 5), checkpoint, keys(b"d", b""), false),
        ((middle, middle + 5), checkpoint, keys(b"c", b"cc"), true),
    ];
    for (i, ((after, before), at, asked, refused)) in cases.into_iter().enumerate() {
        let storage = marked(&history, &[mark(after, before, range.clone())]);
        let result = outcome(&storage, at, asked.clone(), false);
        assert_eq!(result.is_err(), refused, "case {i}: {result:?}");
        let Err(error) = result else { continue };
        let text = error.to_string();
        assert!(matches!(error, RestoreError::Inexact { more: 0, .. }), "{text}");
        for part in [format!("{}", Ts::new(at)), "range delete".into(), "region 5".into(), "62 to 64".into()] {
            assert!(text.contains(&part), "{part}: {text}");
        }
        assert!(text.contains(&after.to_string()) && text.contains("store 3") && text.contains("v1/logtide/marks/"));
        assert!(error.remedy().contains("allow") && error.remedy().contains(&after.to_string()), "{}", error.remedy());
        let allowed = outcome(&storage, at, asked, true).unwrap();
        assert_eq!((allowed.count, allowed.first.len(), allowed.first[0].region), (1, 1, 5));
    }
}

#[test]
fn all_is_shown_in_order_and_the_rest_is_counted() {
    let history = Cluster::run(8, 60);
    let marks: Vec<_> = (0..150).map(|n| mark(history.start + 150 - n, history.checkpoint, KeyRange::ALL)).collect();
    let storage = marked(&history, &marks);
    let shown = block_on(inexact_ranges(&storage)).unwrap();
    assert_eq!((shown.count, shown.first.len(), shown.first[0].after), (150, 100, history.start + 1));
    assert!(shown.first.is_sorted_by_key(|inexact| inexact.after));
    let mut options = logtide_restore::RestoreOptions::for_sink();
    let error = block_on(plan_restore(&storage, &options, &Silent)).unwrap_err();
    assert!(error.to_string().contains("149 more"), "{error}");
    options.allow_inexact = true;
    assert_eq!(block_on(plan_restore(&storage, &options, &Silent)).unwrap().inexact, shown);
    assert_eq!(block_on(inexact_ranges(&history.storage)).unwrap(), InexactRanges::default());
}

#[test]
fn damaged_marks_are_refused() {
    let history = Cluster::run(8, 60);
    let storage = copy(&history.storage);
    let path = marks_path(3, ObjectTag { boot: 1, generation: 1 });
    let mut bytes = encode_marks(3, &[mark(1, 2, KeyRange::ALL)]);
    bytes[3] ^= 1;
    put(&storage, &path, bytes);
    let error = outcome(&storage, history.checkpoint, None, true).unwrap_err();
    assert!(lab::chain(&error).contains(&path), "{}", lab::chain(&error));
}

/// A commit of a key at `commit`, its transaction begun right before; without its long value if that is lost.
fn commit(raw: &[u8], commit: u64, value: Option<Vec<u8>>) -> Vec<Entry> {
    let write = Write::new(WriteKind::Put, Ts::new(commit - 1), None).to_bytes();
    let entry =
        |cf, ts, value| Entry { region: 5, version: 2, cf, kind: EntryKind::Put, key: versioned(raw, ts), value };
    let value = value.map(|value| entry(Cf::Default, commit - 1, value));
    value.into_iter().chain([entry(Cf::Write, commit, write)]).collect()
}

fn storage_of(entries: &[Entry], marks: &[Mark]) -> Storage {
    let storage = memory_storage();
    begin(&storage, 1);
    checkpoint(&storage, 1, 100);
    let style = Style { compression: Compression::None, block: 500, object: 1000, tags: true, links: false };
    for (generation, entries) in (1..).zip(entries.chunks(10_000)) {
        let tag = ObjectTag { boot: 1, generation };
        flush(&storage, &mut Random(generation), style, 1, 100 + generation, tag, entries);
    }
    put(&storage, &marks_path(3, ObjectTag { boot: 1, generation: 1 }), encode_marks(3, marks));
    storage
}

fn long(byte: u8) -> Option<Vec<u8>> {
    Some(vec![byte; 300])
}

/// Key `b` was written at 20, and at 40 with a value that is lost; `a` and `c` are whole.
fn with_a_lost_value(marks: &[Mark]) -> Storage {
    let commits =
        [(b"a", 40, long(1)), (b"b", 20, long(2)), (b"b", 40, None), (b"c", 20, long(3)), (b"c", 40, long(4))];
    storage_of(&commits.map(|(raw, at, value)| commit(raw, at, value)).concat(), marks)
}

fn removed(after: u64, before: u64, from: &[u8], to: &[u8]) -> Mark {
    Mark { cf: Cf::Default, ..mark(after, before, KeyRange::from_raw(from, to)) }
}

#[test]
fn a_commit_whose_value_was_removed_is_a_delete_and_hides_what_is_older() {
    let storage = with_a_lost_value(&[removed(30, 60, b"b", b"c")]);
    assert!(matches!(outcome(&storage, 50, None, false).unwrap_err(), RestoreError::Inexact { .. }));
    let (summary, state) = restore_in_memory(&storage, Some(50), |options| options.allow_inexact = true).unwrap();
    let keys = |at| state.state_at(Ts::new(at)).unwrap().into_keys().collect::<Vec<_>>();
    assert_eq!((keys(50), keys(39)), (vec![b"a".to_vec(), b"c".to_vec()], vec![b"b".to_vec(), b"c".to_vec()]));
    let lost = Write::parse(&state.writes[&versioned(b"b", 40)]).unwrap();
    assert_eq!(lost, Write::new(WriteKind::Delete, Ts::new(39), None));
    assert_eq!((summary.records.lost_values, summary.records.writes, summary.records.values), (1, 5, 4));
    assert_eq!((state.writes.len(), state.values.len()), (5, 4));
}

#[test]
fn only_a_range_delete_that_explains_it_excuses_a_missing_value() {
    let of_kind = |kind| Mark { kind, ..removed(30, 60, b"", b"") };
    let cases = [
        (vec![removed(30, 60, b"", b"")], true),
        (vec![removed(39, 40, b"b", b"b\0")], true),
        (vec![removed(40, 60, b"", b"")], false),
        (vec![removed(30, 39, b"", b"")], false),
        (vec![removed(30, 60, b"b\0", b"")], false),
        (vec![removed(30, 60, b"", b"b")], false),
        (vec![removed(50, 60, b"", b"")], false),
        (vec![of_kind(MarkKind::BadRecord), of_kind(MarkKind::Ingest), of_kind(MarkKind::Other(7))], false),
        (vec![mark(30, 60, KeyRange::ALL)], false),
        (vec![], false),
        (vec![removed(2, 5, b"", b""), removed(30, 60, b"aa", b"bb"), removed(2, 5, b"ab", b"ac")], true),
        (vec![removed(2, 5, b"", b"aa"), removed(2, 5, b"aa", b"ab"), removed(30, 60, b"b", b"c")], true),
    ];
    for (i, (marks, is_excused)) in cases.into_iter().enumerate() {
        match (outcome(&with_a_lost_value(&marks), 50, None, true), is_excused) {
            (Ok(_), true) => {}
            (Err(RestoreError::MissingValue { key, commit_ts, .. }), false) => {
                assert_eq!((key.0, commit_ts), (b"b".to_vec(), Ts::new(40)), "case {i}");
            }
            (other, _) => panic!("case {i}: {other:?}"),
        }
    }
}

/// Of many keys, each written twice, those in every other hundred lost their newer value. Memory is the flag (I6).
#[test]
fn many_lost_values_are_told_apart_in_spilled_runs_and_several_partitions() {
    let raw = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let mut keys: Vec<_> = (0..120_000).map(raw).collect();
    keys.sort_unstable();
    let (mut entries, mut marks) = (Vec::new(), Vec::new());
    for (n, hundred) in keys.chunks(100).enumerate() {
        let is_lost = n.is_multiple_of(2);
        for raw in hundred {
            entries.extend(commit(raw, 20, long(1)));
            entries.extend(commit(raw, 40, if is_lost { None } else { long(2) }));
        }
        if is_lost {
            marks.push(removed(30, 60, &hundred[0], &[&hundred[99][..], b"\0"].concat()));
        }
    }
    let storage = storage_of(&entries, &marks);
    let allowed = |options: &mut RestoreOptions| {
        (options.allow_inexact, options.threads, options.memory) = (true, Some(2), MIN_MEMORY);
    };
    let (summary, state) = restore_in_memory(&storage, None, allowed).unwrap();
    assert_eq!(
        (summary.records.lost_values, summary.records.writes, summary.records.values),
        (60_000, 240_000, 180_000)
    );
    assert!(summary.peak_memory <= MIN_MEMORY && summary.spilled_bytes > 0, "{}", summary.peak_memory);
    let whole: Vec<_> = keys.chunks(100).skip(1).step_by(2).flatten().map(|raw| raw.to_vec()).collect();
    let (now, before) = (state.state_at(Ts::new(100)).unwrap(), state.state_at(Ts::new(39)).unwrap());
    assert!(now.keys().eq(&whole) && now.values().all(|value| value[0] == 2));
    assert!(before.keys().eq(keys.iter().map(|raw| raw.to_vec()).collect::<Vec<_>>().iter()));
    marks.remove(300);
    put(&storage, &marks_path(3, ObjectTag { boot: 1, generation: 1 }), encode_marks(3, &marks));
    let error = restore_in_memory(&storage, None, allowed).unwrap_err();
    let RestoreError::MissingValue { key, .. } = error else { panic!("{error}") };
    assert!(keys[60_000..60_100].iter().any(|raw| raw[..] == key.0));
}
