//! The proof: two sorted streams of keys and values, compared in both directions.

use std::cmp::Ordering;

/// A raw key and its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// What the comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Keys in both with the same value.
    pub(crate) equal: u64,
    /// Keys of the source that the restored state lacks.
    pub(crate) missing: u64,
    /// Keys of the restored state that the source lacks.
    pub(crate) extra: u64,
    /// Keys in both with different values.
    pub(crate) different: u64,
    /// The first few keys that are not equal.
    pub(crate) examples: Vec<Vec<u8>>,
}

impl Verdict {
    /// True if nothing differs.
    pub(crate) fn holds(&self) -> bool {
        self.missing + self.extra + self.different == 0
    }

    fn note(&mut self, key: &[u8]) {
        if self.examples.len() < 5 {
            self.examples.push(key.to_vec());
        }
    }
}

/// Compares two streams that are sorted by key.
pub(crate) fn compare<E>(
    source: impl Iterator<Item = Result<Pair, E>>,
    restored: impl Iterator<Item = Result<Pair, E>>,
) -> Result<Verdict, E> {
    let (mut source, mut restored) = (source, restored);
    let (mut s, mut r) = (source.next().transpose()?, restored.next().transpose()?);
    let mut verdict = Verdict::default();
    loop {
        let order = match (&s, &r) {
            (None, None) => return Ok(verdict),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.0.cmp(&b.0),
        };
        match order {
            Ordering::Less => verdict.missing += 1,
            Ordering::Greater => verdict.extra += 1,
            Ordering::Equal if s == r => verdict.equal += 1,
            Ordering::Equal => verdict.different += 1,
        }
        if order != Ordering::Equal || s != r {
            let odd = if order == Ordering::Greater { &r } else { &s };
            if let Some((key, _)) = odd {
                verdict.note(key);
            }
        }
        if order != Ordering::Greater {
            s = source.next().transpose()?;
        }
        if order != Ordering::Less {
            r = restored.next().transpose()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(pairs: &[(&str, &str)]) -> impl Iterator<Item = Result<Pair, ()>> + use<> {
        let owned: Vec<_> = pairs.iter().map(|(k, v)| Ok((k.as_bytes().to_vec(), v.as_bytes().to_vec()))).collect();
        owned.into_iter()
    }

    #[test]
    fn counts_each_kind_of_difference() {
        let source = stream(&[("a", "1"), ("b", "1"), ("d", "1"), ("e", "1")]);
        let restored = stream(&[("a", "1"), ("b", "2"), ("c", "1"), ("e", "1"), ("f", "1")]);
        let verdict = compare(source, restored).unwrap();
        let counts = (verdict.equal, verdict.missing, verdict.extra, verdict.different);
        assert_eq!(counts, (2, 1, 2, 1));
        assert!(!verdict.holds());
    }

    #[test]
    fn equal_streams_hold() {
        let pairs = [("a", "1"), ("b", "2")];
        assert!(compare(stream(&pairs), stream(&pairs)).unwrap().holds());
    }
}
