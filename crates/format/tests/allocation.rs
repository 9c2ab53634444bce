//! Decoders do not allocate more than their input justifies, whatever lengths it claims.
//!
//! The only test binary with unsafe code: an allocator that counts cannot be written without. One test, so that nobody
//! else allocates meanwhile.
#![allow(unsafe_code, clippy::unwrap_used)]

#[path = "golden/sample.rs"]
#[allow(dead_code)]
mod sample;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use logtide_format::{MAX_ZSTD_RATIO, Records, decode_metadata, encode_metadata, open_file, proto};
use logtide_model::Compression;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were allocated at once by `work`, beyond what was there before.
fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let value = work();
    (PEAK.load(Relaxed) - before, value)
}

/// For error messages and the like.
const SLACK: usize = 8 << 10;

/// `count` fields of `number` without content, inside of the fields around.
fn empty_messages(count: usize, number: u8, around: &[u8]) -> Vec<u8> {
    let mut bytes = [number << 3 | 2, 0].repeat(count);
    for number in around {
        let mut outer = vec![number << 3 | 2];
        logtide_model::codec::encode_var_u64(bytes.len() as u64, &mut outer);
        outer.extend_from_slice(&bytes);
        bytes = outer;
    }
    bytes
}

fn file(stored: &[u8], length: u64, compression: proto::CompressionType) -> proto::DataFileInfo {
    let mut info = sample::flush(Compression::None, 0).0.file_groups[0].data_files_info[0].clone();
    (info.range_offset, info.range_length, info.length) = (0, stored.len() as u64, length);
    info.compression_type = compression as i32;
    info
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    logtide_format::Compressor::new(Compression::Zstd).unwrap().compress(plain, &mut out).unwrap();
    out
}

#[test]
fn allocations_are_bounded_by_the_input() {
    // Metadata that is honest costs a few times its size.
    let honest = encode_metadata(&sample::flush(Compression::Zstd, 0).0);
    let (peak, meta) = peak_of(|| decode_metadata("honest", &honest));
    assert!(meta.is_ok() && peak <= 16 * honest.len(), "{peak} of {}", honest.len());

    // Messages of no bytes that become large structs.
    for (number, around) in [(1, &[][..]), (6, &[]), (2, &[6])] {
        let bytes = empty_messages(100_000, number, around);
        let (peak, meta) = peak_of(|| decode_metadata("hollow", &bytes));
        assert!(meta.is_err() && peak <= SLACK, "field {number}: {peak} for {}", bytes.len());
    }

    // Lengths that are not there.
    for claim in [1 << 20, 1 << 31, u64::MAX >> 1] {
        let mut bytes = vec![6 << 3 | 2];
        logtide_model::codec::encode_var_u64(claim, &mut bytes);
        let (peak, meta) = peak_of(|| decode_metadata("claim", &bytes));
        assert!(meta.is_err() && peak <= SLACK, "{claim}: {peak}");
    }
    let (peak, count) = peak_of(|| Records::new(&[0xff; 64]).count());
    assert_eq!((peak, count), (0, 1));

    // A frame that is small, and said to be as large as zstd can make it.
    let small = zstd(&[7; 100]);
    let info = file(&small, small.len() as u64 * MAX_ZSTD_RATIO, proto::CompressionType::Zstd);
    let (peak, plain) = peak_of(|| open_file("large", &info, &small));
    assert!(plain.is_err() && peak <= 8 * small.len() + SLACK, "{peak}");

    // A frame that is large, and said to be small.
    let bomb = zstd(&vec![7; 64 << 20]);
    let info = file(&bomb, 1000, proto::CompressionType::Zstd);
    let (peak, plain) = peak_of(|| open_file("bomb", &info, &bomb));
    assert!(plain.is_err() && peak <= 1000 + SLACK, "{peak}");

    // Garbage behind a frame's magic number.
    let garbage = [&[0x28, 0xb5, 0x2f, 0xfd, 0xa4][..], &[0xff; 4000]].concat();
    let info = file(&garbage, garbage.len() as u64 * MAX_ZSTD_RATIO, proto::CompressionType::Zstd);
    let (peak, plain) = peak_of(|| open_file("garbage", &info, &garbage));
    assert!(plain.is_err() && peak <= 8 * garbage.len() + SLACK, "{peak}");
}
