//! What goes past MVCC: ingested files are scanned, what no record can tell is marked.

use logtide_format::{Mark, MarkKind};
use logtide_model::message::{ScanEvent, ShardMessage};
use logtide_model::{Cf, KeyRange, Op, RegionChange, Ts};

use crate::fixture::*;

const CONFIRMED: [logtide_model::Confirmed; 1] =
    [logtide_model::Confirmed { region_id: 1, term: 5, version: 1, applied_index: 10 }];

/// Task "t" over that range, region 1 over ["a", "z"), scanned from 100, seen since index 10.
fn observing(start: &str, end: &str) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[(start, end)]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    fixture.scan(100, 10, &[], vec![]);
    fixture
}

fn removed(cf: Cf, start: &str, end: &str) -> Op {
    let KeyRange { start, end } = raw_range(start, end);
    Op::DeleteRange { cf, start, end }
}

fn ingested(cf: Cf, min_ts: u64) -> Op {
    Op::IngestSst { cf, path: "/x.sst".to_owned(), min_ts: Ts::new(min_ts) }
}

fn mark(range: KeyRange, after: u64, before: u64) -> Mark {
    let (kind, cf, after, before) = (MarkKind::RangeDelete, Cf::Write, Ts::new(after), Ts::new(before));
    Mark { kind, region_id: 1, version: 1, cf, range, after, before }
}

#[test]
fn an_ingested_file_is_scanned_and_the_checkpoint_stays_until_then() {
    for cf in [Cf::Default, Cf::Write, Cf::Lock] {
        let mut fixture = observing("", "");
        assert_eq!(facts(&fixture.seal("t", 1, 500, &CONFIRMED)), [(raw_range("a", "z"), 500, 10)]);
        fixture.apply(1, 11, 12, vec![write("b", 510, 511), ingested(cf, 520)]);
        let part = fixture.seal("t", 2, 1000, &[confirmed(1, 5, 1, 12)]);
        assert_eq!((facts(&part), written(&part)), (vec![], vec![versioned("b", 511)]), "500 stays what is known");
        assert_eq!((fixture.scans.len(), fixture.scans[0].failures, fixture.shard.stats().ingestions), (1, 0, 1));
        let id = fixture.scans[0].id.clone();
        fixture.scan_step(&id, ScanEvent::Started { start_ts: Ts::new(500), applied_index: 12 });
        fixture.scan_step(&id, ScanEvent::LocksDone);
        assert_eq!(facts(&fixture.seal("t", 3, 1100, &[confirmed(1, 5, 1, 12)])), [(raw_range("a", "z"), 500, 0)]);
        // The versions of the file.
        let entries = vec![scan_entry(value("k", 520)), scan_entry(write("k", 520, 521))];
        let permit = fixture.in_flight.force_acquire(1);
        fixture.scan_step(&id, ScanEvent::Data { entries, permit });
        fixture.scan_step(&id, ScanEvent::Finished);
        let part = fixture.seal("t", 4, 1200, &[confirmed(1, 5, 1, 12)]);
        assert_eq!(facts(&part), [(raw_range("a", "z"), 1200, 12)]);
        assert_eq!(written(&part), [versioned("k", 521)]);
        assert_eq!((fixture.unsupported.len(), part.marks), (0, vec![]), "nothing is missing");
    }
}

#[test]
fn a_snapshot_from_before_the_ingestion_is_of_no_use() {
    // One that was asked for before the ingestion.
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("", "")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    let early = fixture.scans[0].id.clone();
    fixture.apply(1, 11, 12, vec![ingested(Cf::Write, 520)]);
    assert!(fixture.cancelled.contains(&early));
    fixture.scan_step(&early, ScanEvent::Started { start_ts: Ts::new(100), applied_index: 10 });
    // One that was asked for after it, of a host that is late.
    let late = fixture.scans[0].id.clone();
    fixture.scan_step(&late, ScanEvent::Started { start_ts: Ts::new(100), applied_index: 11 });
    assert_eq!((fixture.scans.len(), fixture.cancelled.len()), (1, 2), "it begins anew");
    fixture.apply(1, 13, 13, vec![lock("c", 300)]);
    fixture.scan(100, 12, &[], vec![]);
    assert_eq!(facts(&fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 13)])), [(raw_range("a", "z"), 300, 13)]);
}

fn old_file(after: u64, before: u64) -> Mark {
    Mark { kind: MarkKind::Ingest, ..mark(raw_range("a", "z"), after, before) }
}

#[test]
fn an_ingested_file_that_may_be_older_than_what_was_stated_is_marked_from_its_first_version_on() {
    for (min_ts, expected) in [(501, None), (500, Some(499)), (400, Some(399)), (0, Some(0))] {
        let mut fixture = observing("", "");
        assert_eq!(facts(&fixture.seal("t", 1, 500, &CONFIRMED)).len(), 1);
        fixture.apply(1, 11, 11, vec![ingested(Cf::Default, 1), ingested(Cf::Lock, 1), ingested(Cf::Write, min_ts)]);
        let part = fixture.seal("t", 2, 1000, &[]);
        assert_eq!(part.marks, expected.map(|after| old_file(after, 1000)).into_iter().collect::<Vec<_>>());
        assert_eq!(fixture.unsupported.len(), part.marks.len());
        assert_eq!(fixture.scans.len(), 1, "it is scanned all the same");
    }
}

#[test]
fn a_file_that_comes_before_the_first_scan_is_compared_with_where_that_begins() {
    for (min_ts, expected) in [(201, None), (200, Some(199)), (150, Some(149))] {
        let mut fixture = Fixture::new();
        fixture.start_task(&task("t", &[("", "")]));
        fixture.lead(&region(1, 1, "a", "z"), 5);
        fixture.apply(1, 11, 11, vec![ingested(Cf::Write, min_ts)]);
        assert_eq!(fixture.seal("t", 1, 500, &[]).marks, []);
        fixture.scan(200, 11, &[], vec![]);
        let expected: Vec<_> = expected.map(|after| old_file(after, 1000)).into_iter().collect();
        assert_eq!(fixture.seal("t", 2, 1000, &[]).marks, expected);
    }
}

#[test]
fn a_range_delete_is_marked_from_the_last_statement_to_the_barrier() {
    let mut fixture = observing("", "");
    assert_eq!(fixture.seal("t", 1, 500, &CONFIRMED).marks, []);
    fixture.apply(1, 11, 12, vec![write("b", 510, 511), removed(Cf::Write, "b", "c"), lock("d", 520)]);
    assert_eq!(fixture.unsupported, ["delete-range"]);
    let part = fixture.seal("t", 2, 1000, &[confirmed(1, 5, 1, 12)]);
    assert_eq!(part.marks, [mark(raw_range("b", "c"), 500, 1000)]);
    assert_eq!(facts(&part), [(raw_range("a", "z"), 520, 12)], "the region goes on");
    // A lock holds the region: only up to there is everything in what was sealed.
    fixture.apply(1, 13, 13, vec![removed(Cf::Default, "e", "f")]);
    let part = fixture.seal("t", 3, 2000, &[confirmed(1, 5, 1, 13)]);
    assert_eq!(part.marks, [Mark { cf: Cf::Default, ..mark(raw_range("e", "f"), 520, 2000) }]);
    assert_eq!(fixture.seal("t", 4, 3000, &[]).marks, [], "told once");
}

#[test]
fn only_what_task_and_region_share_of_a_range_is_marked() {
    for (start, end, expected) in [
        ("a", "z", Some(("b", "k"))),
        ("", "", Some(("b", "k"))),
        ("c", "d", Some(("c", "d"))),
        ("i", "", Some(("i", "k"))),
        ("a", "b", None),
        ("k", "z", None),
        ("", "a", None),
    ] {
        let mut fixture = observing("b", "k");
        fixture.apply(1, 11, 11, vec![removed(Cf::Write, start, end)]);
        let marks = fixture.seal("t", 1, 1000, &[]).marks;
        let expected: Vec<_> = expected.iter().map(|(start, end)| mark(raw_range(start, end), 100, 1000)).collect();
        assert_eq!(marks, expected, "{start}..{end}");
    }
    let mut fixture = observing("", "");
    fixture.apply(1, 11, 11, vec![removed(Cf::Write, "", "")]);
    assert_eq!(fixture.seal("t", 1, 1000, &[]).marks, [mark(raw_range("a", "z"), 100, 1000)], "the whole region");
}

#[test]
fn locks_removed_at_once_are_read_anew() {
    let mut fixture = observing("b", "k");
    fixture.apply(1, 11, 11, vec![removed(Cf::Lock, "m", "n")]);
    assert_eq!(fixture.scans.len(), 0, "none of the task's");
    fixture.apply(1, 12, 12, vec![removed(Cf::Lock, "b", "c")]);
    assert_eq!((fixture.scans.len(), fixture.unsupported.len()), (1, 0), "nobody knows what is locked now");
    assert_eq!(fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 12)]).marks, []);
}

#[test]
fn a_record_that_no_backup_can_hold_is_marked_and_left_out() {
    let mut fixture = observing("", "");
    let short = Op::Put { cf: Cf::Default, key: "k".into(), value: "v".into() };
    let garbage = Op::Put { cf: Cf::Write, key: versioned("k", 21), value: "?".into() };
    fixture.apply(1, 11, 11, vec![short, garbage, write("k", 20, 22)]);
    assert_eq!(fixture.unsupported, ["bad-record", "bad-record"]);
    let part = fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 11)]);
    assert_eq!((written(&part), part.lost, fixture.poisoned), (vec![versioned("k", 22)], false, 0));
    let keys = [(Cf::Default, b"k".to_vec()), (Cf::Write, versioned("k", 21).to_vec())];
    let expected = keys.map(|(cf, key)| {
        let range = KeyRange::new(key.clone(), [&key[..], &[0]].concat());
        Mark { kind: MarkKind::BadRecord, cf, ..mark(range, 100, 1000) }
    });
    assert_eq!(part.marks, expected);
}

#[test]
fn marks_outlive_a_generation_that_is_lost() {
    let mut fixture = Fixture::with_memory(1, 1 << 20);
    fixture.start_task(&fixture.encrypted("t", &[("", "")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    fixture.scan(100, 10, &[], vec![]);
    assert_eq!(facts(&fixture.seal("t", 1, 500, &CONFIRMED)).len(), 1);
    fixture.apply(1, 11, 11, vec![removed(Cf::Write, "b", "c")]);
    // What is removed while nothing can be appended is marked, too.
    fixture.break_spool();
    let big = |n| Op::Put { cf: Cf::Default, key: versioned("k", n), value: vec![b'v'; 16 << 10].into() };
    fixture.apply(1, 12, 12, (0..200).map(big).collect());
    assert_eq!(fixture.poisoned, 1);
    fixture.apply(1, 13, 13, vec![removed(Cf::Write, "d", "e")]);
    let part = fixture.seal("t", 2, 1000, &[confirmed(1, 5, 1, 13)]);
    assert_eq!((part.lost, part.marks), (true, vec![]));
    fixture.mend_spool();
    let part = fixture.seal("t", 3, 2000, &[confirmed(1, 5, 1, 13)]);
    let expected = [mark(raw_range("b", "c"), 500, 2000), mark(raw_range("d", "e"), 500, 2000)];
    assert_eq!((part.lost, &part.marks[..]), (false, &expected[..]), "the next one has them");
}

#[test]
fn what_a_failed_seal_would_have_stated_is_no_beginning_of_a_mark() {
    let mut fixture = Fixture::with_memory(8 << 20, 1 << 20);
    fixture.start_task(&fixture.encrypted("t", &[("", "")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    fixture.scan(100, 10, &[], vec![]);
    fixture.apply(1, 11, 11, vec![write("b", 510, 511)]);
    fixture.break_spool();
    assert!(fixture.seal("t", 1, 1000, &[confirmed(1, 5, 1, 11)]).lost);
    fixture.apply(1, 12, 12, vec![removed(Cf::Write, "b", "c")]);
    let part = fixture.seal("t", 2, 2000, &[]);
    assert_eq!((part.lost, &part.marks[..]), (false, &[mark(raw_range("b", "c"), 100, 2000)][..]));
}

#[test]
fn a_mark_of_a_region_that_nobody_scanned_yet_waits_for_its_start() {
    let mut fixture = Fixture::new();
    fixture.start_task(&task("t", &[("", "")]));
    fixture.lead(&region(1, 1, "a", "z"), 5);
    fixture.apply(1, 11, 11, vec![removed(Cf::Write, "b", "c")]);
    let part = fixture.seal("t", 1, 500, &[confirmed(1, 5, 1, 11)]);
    assert_eq!((part.marks, part.facts), (vec![], vec![]));
    fixture.scan(200, 11, &[], vec![]);
    assert_eq!(fixture.seal("t", 2, 1000, &[]).marks, [mark(raw_range("b", "c"), 200, 1000)]);
    // A region that grew is yet to be scanned, too; and if it goes before, nothing is known but the task's start.
    let grown = RegionChange::Merge { target: region(1, 2, "a", "zz"), source: region(2, 1, "z", "zz") };
    fixture.send(ShardMessage::RegionChanged(grown));
    fixture.apply(1, 12, 12, vec![removed(Cf::Write, "z", "zz")]);
    assert_eq!(fixture.seal("t", 3, 2000, &[]).marks, []);
    fixture.send(ShardMessage::Unlead { region_id: 1, term: 6 });
    let expected = Mark { version: 2, ..mark(raw_range("z", "zz"), 10, 3000) };
    assert_eq!(fixture.seal("t", 4, 3000, &[]).marks, [expected]);
}

#[test]
fn what_a_log_tells_later_may_be_older_than_what_was_stated() {
    let mut fixture = observing("", "");
    assert_eq!(facts(&fixture.seal("t", 1, 500, &CONFIRMED)).len(), 1);
    fixture.apply(1, 21, 21, vec![]);
    // The entries 11 to 20 were not seen, and 500 is not published yet.
    let id = fixture.scans.pop().unwrap().id;
    fixture.scan_step(&id, ScanEvent::Started { start_ts: Ts::new(300), applied_index: 21 });
    fixture.scan_step(&id, ScanEvent::LocksDone);
    let permit = fixture.in_flight.force_acquire(1);
    let ops = vec![removed(Cf::Write, "b", "c")];
    fixture.scan_step(&id, ScanEvent::Replayed { index: 15, ops, permit });
    assert_eq!(fixture.seal("t", 2, 1000, &[]).marks, [mark(raw_range("b", "c"), 300, 1000)]);
}
