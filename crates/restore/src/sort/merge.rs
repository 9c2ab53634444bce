//! Merges sorted runs into one sorted stream.

use std::cmp::Ordering;
use std::io;

use super::buffer::MemoryCursor;
use super::run::FileCursor;

/// A position in a sorted run.
pub(crate) enum Cursor {
    /// A run in memory.
    Memory(MemoryCursor),
    /// A run on disk.
    File(Box<FileCursor>),
}

impl Cursor {
    fn key(&self) -> Option<&[u8]> {
        match self {
            Cursor::Memory(cursor) => cursor.key(),
            Cursor::File(cursor) => cursor.key(),
        }
    }

    fn payload(&mut self) -> io::Result<&[u8]> {
        match self {
            Cursor::Memory(cursor) => Ok(cursor.payload()),
            Cursor::File(cursor) => cursor.payload(),
        }
    }

    fn advance(&mut self) -> io::Result<()> {
        match self {
            Cursor::Memory(cursor) => {
                cursor.advance();
                Ok(())
            }
            Cursor::File(cursor) => cursor.advance(),
        }
    }
}

/// A tournament of cursors: the smallest key first; of equal keys, the cursor that was given first.
pub(crate) struct Merge {
    cursors: Vec<Cursor>,
    /// `losers[0]` is the winner; `losers[n]` the loser of the match at inner node `n` of a binary tree whose leaves
    /// are the cursors.
    losers: Vec<usize>,
}

impl Merge {
    pub(crate) fn new(cursors: Vec<Cursor>) -> Self {
        let mut merge = Merge { losers: vec![0; cursors.len().max(1)], cursors };
        if merge.cursors.len() > 1 {
            merge.losers[0] = merge.play(1);
        }
        merge
    }

    /// Plays all matches below a node, and returns the winner.
    fn play(&mut self, node: usize) -> usize {
        let leaves = self.cursors.len();
        if node >= leaves {
            return node - leaves;
        }
        let (left, right) = (self.play(2 * node), self.play(2 * node + 1));
        let (winner, loser) = if self.beats(left, right) { (left, right) } else { (right, left) };
        self.losers[node] = loser;
        winner
    }

    fn beats(&self, a: usize, b: usize) -> bool {
        let order = match (self.cursors[a].key(), self.cursors[b].key()) {
            (Some(x), Some(y)) => x.cmp(y),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        order.then(a.cmp(&b)) == Ordering::Less
    }

    /// The smallest key, if there is one left.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.cursors.get(self.losers[0])?.key()
    }

    /// The payload that belongs to [`key`](Self::key).
    ///
    /// # Errors
    /// What reading a spilled run says.
    pub(crate) fn payload(&mut self) -> io::Result<&[u8]> {
        self.cursors.get_mut(self.losers[0]).map_or(Ok(&[]), Cursor::payload)
    }

    /// Moves past the smallest record.
    ///
    /// # Errors
    /// What reading a spilled run says.
    pub(crate) fn advance(&mut self) -> io::Result<()> {
        let mut winner = self.losers[0];
        let Some(cursor) = self.cursors.get_mut(winner) else { return Ok(()) };
        cursor.advance()?;
        let mut node = (winner + self.cursors.len()) / 2;
        while node > 0 {
            let rival = self.losers[node];
            if self.beats(rival, winner) {
                self.losers[node] = winner;
                winner = rival;
            }
            node /= 2;
        }
        self.losers[0] = winner;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::buffer::Buffer;
    use super::*;
    use logtide_model::MemoryBudget;
    use proptest::prelude::*;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn merges_any_number_of_runs(runs in prop::collection::vec(prop::collection::vec((0u8..20, any::<u8>()), 0..20), 0..9)) {
            let budget = MemoryBudget::new(0);
            let cursor = |run: &Vec<(u8, u8)>| {
                let mut buffer = Buffer::new(&budget);
                run.iter().for_each(|(key, payload)| buffer.push(&[*key], &[&[*payload]]));
                Cursor::Memory(MemoryCursor::new(Arc::new(buffer.sort()), b"", b""))
            };
            let mut merge = Merge::new(runs.iter().map(cursor).collect());
            let mut got = Vec::new();
            while let Some(key) = merge.key().map(|k| k[0]) {
                got.push((key, merge.payload().unwrap()[0]));
                merge.advance().unwrap();
            }
            prop_assert!(got.is_sorted_by_key(|(key, _)| *key));
            let mut want = runs.concat();
            want.sort_unstable();
            got.sort_unstable();
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn equal_keys_come_in_the_order_of_the_cursors() {
        let budget = MemoryBudget::new(0);
        let one = |payload: u8| {
            let mut buffer = Buffer::new(&budget);
            buffer.push(b"k", &[&[payload]]);
            Cursor::Memory(MemoryCursor::new(Arc::new(buffer.sort()), b"", b""))
        };
        let mut merge = Merge::new((0..5).map(one).collect());
        for want in 0..5 {
            assert_eq!(merge.payload().unwrap(), [want]);
            merge.advance().unwrap();
        }
        assert_eq!(merge.key(), None);
    }
}
