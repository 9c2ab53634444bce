//! Raw tails, in chunks of one size that segments hand to each other: no copies while a tail grows, no fragmentation
//! and no allocator when thousands of them grow and empty.

/// Bytes of a chunk. Half a chunk per segment is lost on average.
pub(crate) const CHUNK: usize = 4 << 10;
/// Bytes that are taken from the system at once.
pub(crate) const SLAB: usize = 256 << 10;

const CHUNKS_OF_SLAB: usize = SLAB / CHUNK;

/// Chunks, by number, and which are free.
#[derive(Debug, Default)]
pub(crate) struct ChunkPool {
    slabs: Vec<Box<[u8]>>,
    free: Vec<u32>,
}

impl ChunkPool {
    /// Bytes that it holds, whether free or not.
    pub(crate) fn bytes(&self) -> usize {
        self.slabs.len() * SLAB
    }

    /// Bytes that it must grow by for `wanted` chunks.
    pub(crate) fn missing(&self, wanted: usize) -> usize {
        wanted.saturating_sub(self.free.len()).div_ceil(CHUNKS_OF_SLAB) * SLAB
    }

    /// Bytes of free chunks.
    pub(crate) fn free_bytes(&self) -> usize {
        self.free.len() * CHUNK
    }

    /// Gives all but one slab back, if every chunk is free.
    pub(crate) fn shrink(&mut self) {
        if self.slabs.len() > 1 && self.free.len() == self.slabs.len() * CHUNKS_OF_SLAB {
            self.slabs.truncate(1);
            self.free = ids_of(0);
        }
    }

    /// Takes the chunks of a tail back.
    pub(crate) fn put(&mut self, tail: &mut Tail) {
        self.free.append(&mut tail.full);
        self.free.extend(tail.last.take());
        *tail = Tail { full: std::mem::take(&mut tail.full), ..Tail::default() };
    }

    fn take(&mut self) -> u32 {
        loop {
            if let Some(id) = self.free.pop() {
                return id;
            }
            self.free.extend(ids_of(self.slabs.len()));
            self.slabs.push(vec![0; SLAB].into());
        }
    }

    fn chunk(&self, id: u32) -> &[u8] {
        let (slab, at) = place(id);
        &self.slabs[slab][at..at + CHUNK]
    }

    fn chunk_mut(&mut self, id: u32) -> &mut [u8] {
        let (slab, at) = place(id);
        &mut self.slabs[slab][at..at + CHUNK]
    }
}

/// The numbers of a slab's chunks; the first is on top.
fn ids_of(slab: usize) -> Vec<u32> {
    (slab * CHUNKS_OF_SLAB..(slab + 1) * CHUNKS_OF_SLAB).rev().map(|id| id as u32).collect()
}

fn place(id: u32) -> (usize, usize) {
    let id = id as usize;
    (id / CHUNKS_OF_SLAB, id % CHUNKS_OF_SLAB * CHUNK)
}

/// The records of a segment that are in no block and no run yet.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    len: usize,
    last: Option<u32>,
    /// Bytes in the last chunk.
    last_len: usize,
    full: Vec<u32>,
}

impl Tail {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn room(&self) -> usize {
        if self.last.is_some() { CHUNK - self.last_len } else { 0 }
    }

    /// How many chunks more `len` bytes need.
    pub(crate) fn chunks_for(&self, len: usize) -> usize {
        len.saturating_sub(self.room()).div_ceil(CHUNK)
    }

    /// Appends a record of `len` bytes (see `logtide_format::encode_record`), if the last chunk has room for it.
    #[inline]
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8], len: usize, pool: &mut ChunkPool) -> bool {
        let Some(id) = self.last.filter(|_| len <= CHUNK - self.last_len) else { return false };
        let mut rest = &mut pool.chunk_mut(id)[self.last_len..self.last_len + len];
        for part in [key, value] {
            let (length, after) = rest.split_at_mut(4);
            length.copy_from_slice(&(part.len() as u32).to_le_bytes());
            let (bytes, after) = after.split_at_mut(part.len());
            bytes.copy_from_slice(part);
            rest = after;
        }
        self.last_len += len;
        self.len += len;
        true
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
            let (now, later) = bytes.split_at(self.room().min(bytes.len()));
            if let Some(id) = self.last {
                pool.chunk_mut(id)[self.last_len..self.last_len + now.len()].copy_from_slice(now);
                self.last_len += now.len();
            }
            if later.is_empty() {
                return;
            }
            self.full.extend(self.last.replace(pool.take()));
            self.last_len = 0;
            bytes = later;
        }
    }

    /// The parts of it, in order.
    pub(crate) fn parts<'a>(&'a self, pool: &'a ChunkPool) -> impl Iterator<Item = &'a [u8]> + Clone {
        let last = self.last.map(|id| &pool.chunk(id)[..self.last_len]);
        self.full.iter().map(|&id| pool.chunk(id)).chain(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_format::{encode_record, record_len};

    #[test]
    fn records_across_chunks_are_the_records() {
        let (mut pool, mut tail, mut expected) = (ChunkPool::default(), Tail::default(), Vec::new());
        for round in 0..3 {
            for len in [0, 1, 100, CHUNK - 20, CHUNK, CHUNK + 1, 3 * CHUNK] {
                let (key, value) = (vec![b'k'; 9], vec![len as u8; len]);
                let bytes = record_len(key.len(), value.len());
                let chunks = tail.chunks_for(bytes);
                let before = tail.full.len() + usize::from(tail.last.is_some());
                if !tail.push(&key, &value, bytes, &mut pool) {
                    tail.push_across(&key, &value, &mut pool);
                }
                assert_eq!(tail.full.len() + 1, before + chunks, "chunks_for tells what is taken");
                encode_record(&key, &value, &mut expected);
            }
            assert_eq!(tail.len(), expected.len());
            assert_eq!(tail.parts(&pool).collect::<Vec<_>>().concat(), expected, "round {round}");
            pool.put(&mut tail);
            assert_eq!((tail.len(), tail.parts(&pool).count(), pool.free_bytes()), (0, 0, pool.bytes()));
            expected.clear();
        }
    }

    #[test]
    fn chunks_are_used_again_and_slabs_go_when_all_are_free() {
        let (mut pool, mut tails) = (ChunkPool::default(), [Tail::default(), Tail::default()]);
        let value = vec![1; 2 * SLAB];
        assert_eq!(pool.missing(1), SLAB);
        tails.iter_mut().for_each(|tail| tail.push_across(b"", &value, &mut pool));
        assert_eq!(pool.bytes(), 5 * SLAB, "8 bytes more than four slabs");
        pool.put(&mut tails[0]);
        pool.shrink();
        assert_eq!(pool.bytes(), 5 * SLAB, "chunks of the other tail are in it");
        assert_eq!(pool.missing(pool.free.len() + 1), SLAB);
        tails[0].push_across(b"", &value, &mut pool);
        assert_eq!(pool.bytes(), 5 * SLAB);
        tails.iter_mut().for_each(|tail| pool.put(tail));
        pool.shrink();
        assert_eq!((pool.bytes(), pool.free_bytes()), (SLAB, SLAB));
    }
}
