//! Puts as a shard gets them.

use logtide_model::{Ts, append_ts, encode_raw_key};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngCore, SeedableRng};

/// Puts in one batch: it touches as many segments, if there are as many.
const BATCH: usize = 64;

/// A put of the default column family.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The region, one for each segment.
    pub region_id: u64,
    /// The encoded key with its ts.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

/// Events in one allocation, so that reading them costs a benchmark little.
#[derive(Debug)]
pub struct Workload {
    bytes: Vec<u8>,
    events: Vec<(u64, usize)>,
    key_len: usize,
    value_len: usize,
}

impl Workload {
    /// About `total` bytes of key and value in values of `value_len` bytes that compress about 2:1, spread evenly over
    /// `segments` regions from `first_region` on; each batch of 64 goes to 64 segments chosen at random.
    pub fn new(seed: u64, first_region: u64, segments: usize, value_len: usize, total: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let key_len = key(0, 0).len();
        let count = (total / (key_len + value_len)).next_multiple_of(BATCH);
        let mut workload = Workload {
            bytes: Vec::with_capacity(count * (key_len + value_len)),
            events: Vec::with_capacity(count),
            key_len,
            value_len,
        };
        let mut order: Vec<u64> = (0..segments as u64).collect();
        for n in 0..count {
            if n % segments == 0 {
                order.shuffle(&mut rng);
            }
            let region_id = first_region + order[n % segments];
            workload.events.push((region_id, workload.bytes.len()));
            workload.bytes.extend_from_slice(&key(rng.random_range(0..1 << 40), n as u64 + 1));
            write_value(&mut rng, value_len, &mut workload.bytes);
        }
        workload
    }

    /// The events, in order.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        self.events.iter().map(|&(region_id, at)| {
            let (key, rest) = self.bytes[at..].split_at(self.key_len);
            Event { region_id, key, value: &rest[..self.value_len] }
        })
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// A row key of table 1 (TiDB's layout).
fn key(handle: u64, ts: u64) -> Vec<u8> {
    let mut raw = b"t\x80\0\0\0\0\0\0\x01_r".to_vec();
    raw.extend_from_slice(&(handle ^ (1 << 63)).to_be_bytes());
    let mut key = encode_raw_key(&raw);
    append_ts(&mut key, Ts::compose(1_760_000_000_000, ts));
    key
}

/// A value whose second half repeats its first, which is random: 2:1, as `db_bench` of RocksDB makes them.
fn write_value(rng: &mut SmallRng, len: usize, out: &mut Vec<u8>) {
    let begin = out.len();
    out.resize(begin + len / 2, 0);
    rng.fill_bytes(&mut out[begin..]);
    out.extend_from_within(begin..);
    out.resize(begin + len, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_compress_about_two_to_one_and_batches_touch_many_segments() {
        let workload = Workload::new(1, 10, 1000, 64, 1 << 20);
        for value_len in [64, 4096] {
            let workload = Workload::new(1, 10, 1000, value_len, 1 << 20);
            let values: Vec<u8> = workload.events().flat_map(|event| event.value).copied().collect();
            let ratio = values.len() as f64 / zstd::bulk::compress(&values, 1).unwrap().len() as f64;
            assert!((1.7..2.1).contains(&ratio), "{ratio}");
        }
        let mut touched: Vec<u64> = workload.events().take(BATCH).map(|event| event.region_id).collect();
        touched.sort_unstable();
        touched.dedup();
        assert_eq!(touched.len(), BATCH);
        assert!(touched.iter().all(|id| (10..1010).contains(id)));
    }
}
