//! I4: facts merge by maximum over ranges; nothing goes down.

use logtide_checkpoint::Cover;
use logtide_model::{KeyRange, Ts};
use proptest::prelude::*;

fn range(start: &str, end: &str) -> KeyRange {
    KeyRange::new(start.to_owned(), end.to_owned())
}

fn ts(n: u64) -> Ts {
    Ts::new(n)
}

#[test]
fn a_range_without_a_fact_holds_the_checkpoint_at_the_start() {
    let mut cover = Cover::new();
    cover.insert(&range("", "m"), ts(50));
    assert_eq!(cover.min_over(&[KeyRange::ALL], ts(7)), ts(7));
    cover.insert(&range("m", ""), ts(40));
    assert_eq!(cover.min_over(&[KeyRange::ALL], ts(7)), ts(40));
    assert_eq!(cover.min_over(&[range("a", "m"), range("x", "y")], ts(7)), ts(40));
    assert_eq!(cover.min_over(&[range("a", "m")], ts(60)), ts(60), "the start ts is a fact by itself");
    assert_eq!(cover.min_over(&[], ts(7)), ts(7));
}

#[test]
fn a_split_and_a_merge_lose_nothing() {
    let mut cover = Cover::new();
    cover.insert(&range("a", "z"), ts(10));
    // The children of a split speak for themselves, one of them later.
    cover.insert(&range("a", "m"), ts(20));
    assert_eq!(cover.start_ts(&range("a", "z"), ts(1)), ts(10));
    assert_eq!(cover.start_ts(&range("m", "z"), ts(1)), ts(10));
    // Merged again: an old statement of the whole, whatever its epoch, takes nothing back.
    cover.insert(&range("a", "z"), ts(15));
    assert_eq!(cover.start_ts(&range("a", "m"), ts(1)), ts(20));
    assert_eq!(cover.start_ts(&range("a", "z"), ts(1)), ts(15));
}

#[test]
fn equal_neighbours_are_one() {
    let mut cover = Cover::new();
    for n in 0..1000u32 {
        let bounds = (n.to_be_bytes().to_vec(), (n + 1).to_be_bytes().to_vec());
        cover.insert(&KeyRange::new(bounds.0, bounds.1), ts(9));
    }
    assert_eq!(cover.len(), 3, "before, the facts, after");
    assert_eq!(cover.iter().count(), 1);
}

/// Bounds are letters of this alphabet; a naive cover is an array over single-letter keys.
const KEYS: &[u8] = b"abcdefgh";

fn fact() -> impl Strategy<Value = (KeyRange, Ts)> {
    ("[a-h]?", "[a-h]?", 0u64..12).prop_map(|(start, end, n)| (KeyRange::new(start, end), ts(n)))
}

fn naive(facts: &[(KeyRange, Ts)]) -> Vec<Ts> {
    let known = |key: &u8| facts.iter().filter(|(range, _)| range.contains(&[*key])).map(|(_, ts)| *ts).max();
    KEYS.iter().map(|key| known(key).unwrap_or(Ts::ZERO)).collect()
}

fn by_key(cover: &Cover) -> Vec<Ts> {
    let key = |key: &u8| cover.min_over(&[KeyRange::new(vec![*key], vec![*key, 0])], Ts::ZERO);
    KEYS.iter().map(key).collect()
}

proptest! {
    #[test]
    fn equals_an_array_over_all_keys(
        facts in prop::collection::vec(fact(), 0..24),
        asked in prop::collection::vec(fact(), 0..4), default in 0u64..12,
    ) {
        let mut cover = Cover::new();
        let mut before = by_key(&cover);
        for (n, (range, ts)) in facts.iter().enumerate() {
            cover.insert(range, *ts);
            let now = by_key(&cover);
            prop_assert_eq!(&now, &naive(&facts[..=n]));
            prop_assert!(now.iter().zip(&before).all(|(now, before)| now >= before), "never down");
            before = now;
        }
        let ranges: Vec<KeyRange> = asked.into_iter().map(|(range, _)| range).collect();
        // Keys before "a" ("" up to it) and behind "h" are in no single-letter key but in an unbounded range.
        let low: Vec<KeyRange> = vec![KeyRange::new("", "a"), KeyRange::new("h\0", "")];
        let inner = KEYS.iter().map(|key| KeyRange::new(vec![*key], vec![*key, 0]));
        let atoms: Vec<KeyRange> = inner.chain(low).collect();
        let expected = atoms
            .iter()
            .filter(|atom| ranges.iter().any(|range| range.covers(atom)))
            .map(|atom| facts.iter().filter(|(range, _)| range.covers(atom)).map(|(_, ts)| *ts).max().unwrap_or_default())
            .min();
        prop_assert_eq!(cover.min_over(&ranges, ts(default)), expected.map_or(ts(default), |min| min.max(ts(default))));
        prop_assert_eq!(&cover.iter().collect::<Cover>(), &cover);
    }

    #[test]
    fn it_can_be_gone_through_from_any_key(facts in prop::collection::vec(fact(), 0..24), from in "[a-h]?") {
        let cover: Cover = facts.into_iter().collect();
        let rest = KeyRange::new(from.clone(), "");
        let clipped = |(range, ts): (KeyRange, Ts)| Some((range.intersect(&rest)?, ts));
        let expected: Vec<(KeyRange, Ts)> = cover.iter().filter_map(clipped).collect();
        prop_assert_eq!(cover.iter_from(from.as_bytes()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_first_part_that_is_no_further_is_found(
        facts in prop::collection::vec(fact(), 0..24), asked in fact(),
    ) {
        let cover: Cover = facts.into_iter().collect();
        let (range, limit) = asked;
        prop_assume!(!range.is_empty());
        let single = |key: u8| KeyRange::new(vec![key], vec![key, 0]);
        let is_behind = |key: &&u8| cover.min_over(&[single(**key)], Ts::ZERO) <= limit;
        match cover.first_up_to(&range, limit) {
            None => prop_assert!(KEYS.iter().filter(|key| range.contains(&[**key])).find(is_behind).is_none()),
            Some(found) => {
                prop_assert!(range.covers(&found) && !found.is_empty());
                let before = KeyRange { start: range.start.clone(), end: found.start.clone() };
                let is_before = |key: &&u8| !found.start.is_empty() && before.contains(&[**key]);
                prop_assert!(KEYS.iter().filter(is_before).find(is_behind).is_none(), "{found:?} is the first");
                let inside = KEYS.iter().filter(|key| found.contains(&[**key]));
                prop_assert!(inside.clone().all(|key| is_behind(&key)));
                let next = found.end.first().filter(|_| found.end != range.end);
                prop_assert!(next.is_none_or(|key| !is_behind(&key)), "{found:?} ends where more is known");
            }
        }
    }

    #[test]
    fn is_as_small_as_what_it_knows(facts in prop::collection::vec(fact(), 0..24), default in 0u64..12) {
        let mut cover: Cover = facts.iter().cloned().collect();
        let steps: Vec<Ts> = cover.iter().map(|(_, ts)| ts).collect();
        let ranges: Vec<KeyRange> = cover.iter().map(|(range, _)| range).collect();
        for (pair, of) in ranges.windows(2).zip(steps.windows(2)) {
            prop_assert!(pair[0].end < pair[1].start || of[0] != of[1], "neighbours {pair:?} are equal");
        }
        let before: Vec<Ts> = by_key(&cover).into_iter().map(|known| known.max(ts(default))).collect();
        let len = cover.len();
        cover.prune(ts(default));
        prop_assert!(cover.len() <= len);
        prop_assert_eq!(by_key(&cover).into_iter().map(|known| known.max(ts(default))).collect::<Vec<_>>(), before);
        prop_assert_eq!(cover.iter().collect::<Cover>(), cover);
    }

    #[test]
    fn the_order_of_facts_does_not_matter(facts in prop::collection::vec(fact(), 0..12), seed: u64) {
        let mut shuffled = facts.clone();
        let len = shuffled.len();
        for n in 1..len {
            shuffled.swap(n, (seed.rotate_left(n as u32 * 5) % (n as u64 + 1)) as usize);
        }
        prop_assert_eq!(facts.into_iter().collect::<Cover>(), shuffled.into_iter().collect::<Cover>());
    }
}
