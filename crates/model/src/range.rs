//! Half-open ranges of keys.

use std::fmt;

use bytes::Bytes;

use crate::encode_raw_key;

/// A half-open range `[start, end)` of encoded keys; an empty `end` is +∞, an empty `start` −∞.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    /// First key, inclusive.
    pub start: Bytes,
    /// Last key, exclusive; empty for +∞.
    pub end: Bytes,
}

impl KeyRange {
    /// All keys.
    pub const ALL: KeyRange = KeyRange { start: Bytes::new(), end: Bytes::new() };

    /// A range of encoded keys.
    pub fn new(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        KeyRange { start: start.into(), end: end.into() }
    }

    /// The encoded range of a range of raw user keys; empty bounds stay unbounded.
    pub fn from_raw(start: &[u8], end: &[u8]) -> Self {
        let bound = |raw: &[u8]| if raw.is_empty() { Vec::new() } else { encode_raw_key(raw) };
        KeyRange::new(bound(start), bound(end))
    }

    /// True if no key can be in it.
    pub fn is_empty(&self) -> bool {
        !self.end.is_empty() && self.start >= self.end
    }

    /// True if `key` is in it. A key with a timestamp lies where its user key lies.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && (self.end.is_empty() || key < &self.end[..])
    }

    /// True if all of `other` is in it.
    pub fn covers(&self, other: &KeyRange) -> bool {
        self.start <= other.start && end_le(&other.end, &self.end)
    }

    /// What both have; `None` if nothing.
    pub fn intersect(&self, other: &KeyRange) -> Option<KeyRange> {
        let start = self.start.clone().max(other.start.clone());
        let end = if end_le(&self.end, &other.end) { &self.end } else { &other.end };
        let both = KeyRange { start, end: end.clone() };
        (!both.is_empty()).then_some(both)
    }

    /// True if a key can be in both.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        (other.end.is_empty() || self.start < other.end)
            && (self.end.is_empty() || other.start < self.end)
            && !self.is_empty()
            && !other.is_empty()
    }
}

/// `a <= b` for exclusive ends, where empty is +∞.
fn end_le(a: &Bytes, b: &Bytes) -> bool {
    b.is_empty() || (!a.is_empty() && a <= b)
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:02x}, {:02x})", &self.start, &self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(a: &str, b: &str) -> KeyRange {
        KeyRange::new(a.to_owned(), b.to_owned())
    }

    #[test]
    fn empty_end_is_infinity() {
        assert!(KeyRange::ALL.contains(b""));
        assert!(KeyRange::ALL.covers(&range("a", "")));
        assert!(!range("a", "b").covers(&range("a", "")));
        assert_eq!(range("a", "").intersect(&range("", "c")), Some(range("a", "c")));
        assert_eq!(range("a", "b").intersect(&range("b", "")), None);
        assert!(range("b", "b").is_empty() && range("c", "b").is_empty());
        assert!(!range("a", "b").overlaps(&range("b", "c")));
    }

    #[test]
    fn raw_bounds_are_encoded() {
        let r = KeyRange::from_raw(b"a", b"");
        assert_eq!(r.start, encode_raw_key(b"a"));
        assert!(r.end.is_empty());
    }

    proptest! {
        #[test]
        fn intersection_is_what_both_contain(
            a in "[a-d]{0,2}", b in "[a-d]{0,2}", c in "[a-d]{0,2}", d in "[a-d]{0,2}", k in "[a-d]{1,3}",
        ) {
            let (x, y) = (range(&a, &b), range(&c, &d));
            let both = x.intersect(&y);
            let inside = both.as_ref().is_some_and(|r| r.contains(k.as_bytes()));
            prop_assert_eq!(inside, x.contains(k.as_bytes()) && y.contains(k.as_bytes()));
            if both.is_some() { prop_assert!(x.overlaps(&y)); }
        }
    }
}
