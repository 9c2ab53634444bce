//! Spools with records that can be told from each other, and what comes out of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use logtide_format::{EntryKind, Records};
use logtide_model::{Cf, Compression, MemoryBudget};
use logtide_temp_file::{Files, SealedSpool, Spool, SpoolConfig, SpoolDisk, SpoolError, SpoolRoom};

/// Region -> (key, value) in order.
pub(crate) type Content = BTreeMap<u64, Vec<(Vec<u8>, Vec<u8>)>>;

pub(crate) fn room(dir: &Path, memory: usize, quota: u64, files: Arc<dyn Files>) -> SpoolRoom {
    let disk = SpoolDisk::with_files(dir, quota, files);
    SpoolRoom { memory: MemoryBudget::new(memory), disk }
}

pub(crate) fn spool(room: &SpoolRoom) -> Spool {
    let (block_size, compression) = (16 << 10, Compression::None);
    Spool::new(SpoolConfig { room: room.clone(), block_size, compression, encryption: None }, "t").unwrap()
}

/// Bytes that zstd could not make smaller either.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Appends record `n` to a region; true if it found room.
pub(crate) fn append(spool: &mut Spool, expected: &mut Content, region: u64, n: u64, len: usize) -> bool {
    let (key, value) = (n.to_be_bytes().to_vec(), noise(n, len));
    match spool.append(region, Cf::Default, EntryKind::Put, &key, &value) {
        Ok(()) => {
            expected.entry(region).or_default().push((key, value));
            true
        }
        Err(SpoolError::NoRoom) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Appends records to regions in turn until one finds no room; how many did.
pub(crate) fn fill(spool: &mut Spool, expected: &mut Content, from: u64, len: usize, at_most: u64) -> u64 {
    (0..at_most).find(|n| !append(spool, expected, (from + n) % 7, from + n, len)).unwrap_or(at_most)
}

pub(crate) fn content(sealed: &SealedSpool) -> Content {
    let mut all = Content::new();
    for file in &sealed.files {
        let plain = file.read().unwrap();
        let records = Records::new(&plain).map(|record| record.unwrap());
        all.entry(file.key.region_id).or_default().extend(records.map(|r| (r.key.to_vec(), r.value.to_vec())));
    }
    all
}

/// Bytes of the files of a directory.
pub(crate) fn on_disk(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}
