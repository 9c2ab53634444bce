//! Raw tails, in chunks of one size that segments hand to each other: no copies while a tail grows, no fragmentation
//! when thousands of them grow and empty.

use logtide_format::encode_record;

/// Bytes of a chunk. Half a chunk per segment is lost on average.
pub(crate) const CHUNK: usize = 4 << 10;
/// Free chunks that are kept at most: 1 MiB.
const KEEP: usize = 256;

/// Free chunks.
#[derive(Debug, Default)]
pub(crate) struct ChunkPool {
    free: Vec<Vec<u8>>,
}

impl ChunkPool {
    /// How many chunks must be made new for `wanted` ones.
    pub(crate) fn missing(&self, wanted: usize) -> usize {
        wanted.saturating_sub(self.free.len())
    }

    /// Bytes of the free chunks.
    pub(crate) fn bytes(&self) -> usize {
        self.free.len() * CHUNK
    }

    fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK))
    }

    /// Takes the chunks of a tail back; returns how many of them were given back to the system.
    #[must_use]
    pub(crate) fn put(&mut self, tail: &mut Tail) -> usize {
        tail.len = 0;
        let mut released = 0;
        for mut chunk in tail.full.drain(..).chain(Some(std::mem::take(&mut tail.last))) {
            if chunk.capacity() == 0 {
                continue;
            }
            if self.free.len() < KEEP {
                chunk.clear();
                self.free.push(chunk);
            } else {
                released += 1;
            }
        }
        released
    }
}

/// The records of a segment that are in no block and no run yet.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    last: Vec<u8>,
    full: Vec<Vec<u8>>,
    len: usize,
}

impl Tail {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends a record of `len` bytes, if there is room for it in the last chunk.
    #[inline]
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8], len: usize) -> bool {
        // A tail without chunk has no capacity, a chunk may have got more than it asked for.
        let fits = len <= CHUNK.min(self.last.capacity()).saturating_sub(self.last.len());
        if fits {
            encode_record(key, value, &mut self.last);
            self.len += len;
        }
        fits
    }

    /// How many chunks more `len` bytes need.
    pub(crate) fn chunks_for(&self, len: usize) -> usize {
        let room = CHUNK.min(self.last.capacity()).saturating_sub(self.last.len());
        len.saturating_sub(room).div_ceil(CHUNK)
    }

    /// Appends a record across chunks.
    pub(crate) fn push_across(&mut self, key: &[u8], value: &[u8], pool: &mut ChunkPool) {
        for part in [key, value] {
            self.put(&(part.len() as u32).to_le_bytes(), pool);
            self.put(part, pool);
        }
    }

    fn put(&mut self, mut bytes: &[u8], pool: &mut ChunkPool) {
        self.len += bytes.len();
        loop {
            let room = CHUNK.min(self.last.capacity()).saturating_sub(self.last.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.last.extend_from_slice(now);
            if later.is_empty() {
                return;
            }
            let full = std::mem::replace(&mut self.last, pool.take());
            if full.capacity() > 0 {
                self.full.push(full);
            }
            bytes = later;
        }
    }

    /// The parts of it, in order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.full.iter().chain(Some(&self.last)).map(|chunk| &chunk[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_format::record_len;

    #[test]
    fn records_across_chunks_are_the_records() {
        let (mut pool, mut tail, mut expected) = (ChunkPool::default(), Tail::default(), Vec::new());
        for round in 0..3 {
            for len in [0, 1, 100, CHUNK - 20, CHUNK, CHUNK + 1, 3 * CHUNK] {
                let (key, value) = (vec![b'k'; 9], vec![len as u8; len]);
                let bytes = record_len(key.len(), value.len());
                let chunks = tail.chunks_for(bytes);
                let before = tail.full.len() + usize::from(tail.last.capacity() > 0);
                if !tail.push(&key, &value, bytes) {
                    tail.push_across(&key, &value, &mut pool);
                }
                assert_eq!(tail.full.len() + 1, before + chunks, "chunks_for tells what is taken");
                encode_record(&key, &value, &mut expected);
            }
            assert_eq!(tail.len(), expected.len());
            assert_eq!(tail.parts().collect::<Vec<_>>().concat(), expected, "round {round}");
            assert_eq!(pool.put(&mut tail), 0);
            assert_eq!((tail.len(), tail.parts().map(<[u8]>::len).sum::<usize>()), (0, 0));
            expected.clear();
        }
    }

    #[test]
    fn the_pool_keeps_a_bounded_part() {
        let (mut pool, mut tail) = (ChunkPool::default(), Tail::default());
        tail.push_across(b"", &vec![0; (KEEP + 10) * CHUNK], &mut pool);
        assert_eq!(pool.put(&mut tail), 11);
        assert_eq!(pool.missing(KEEP + 5), 5);
    }
}
