//! What was changed past MVCC is told, and a restore that it matters to is refused unless it is allowed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod lab;

use lab::backup::{copy, put};
use lab::history::{Cluster, History};
use lab::{block_on, restore_in_memory};
use logtide_format::{Mark, MarkKind, ObjectTag, encode_marks, marks_path};
use logtide_model::{Cf, Diagnose, KeyRange, Ts, encode_raw_key};
use logtide_restore::{InexactRanges, RestoreError, Silent, inexact_ranges, plan_restore};
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
