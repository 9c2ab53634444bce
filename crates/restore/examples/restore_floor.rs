//! How fast a restore is against its floor: read, decompress, sort and write as SST files the same records, in one pass
//! and one thread, without verifying, joining or bounding anything.
//!
//! `cargo run --release -p logtide-restore --example restore_floor -- [MB of records] [memory MiB] [value bytes] [alone]`

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example that prints figures")]

use std::path::Path;
use std::time::Instant;

use logtide_format::{
    Compressor, EntryKind, FileKey, LogicalFile, MetaName, ObjectTag, Records, checkpoint_path, data_file_info,
    data_path, decode_metadata, encode_checkpoint, encode_metadata, encode_record, group, metadata, summarize,
};
use logtide_model::mvcc::{Write, WriteKind};
use logtide_model::{Cf, Compression, Ts, append_ts, encode_raw_key};
use logtide_restore::{RestoreOptions, Silent, restore_point};

/// Plain bytes of a logical file, and logical files of an object: as the node writes them.
const BLOCK: usize = 256 << 10;
const FILES: usize = 64;

fn main() {
    let arg = |i: usize, default: usize| std::env::args().nth(i).map_or(default, |a| a.parse().unwrap());
    let (megabytes, memory, value) = (arg(1, 400), arg(2, 256), arg(3, 512));
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup");
    let plain = write_backup(&backup, megabytes * 1_000_000, value);
    println!("backup: {:.0} MB of records with values of {value} bytes", plain as f64 / 1e6);
    // Without the floor, which holds everything in memory, the process shows what a restore takes.
    let alone = std::env::args().nth(4).is_some();
    for round in 0..3 {
        let floor = if alone { f64::NAN } else { floor(&backup, &dir.path().join("floor")) };
        let began = Instant::now();
        let target = dir.path().join(format!("node{round}"));
        let mut options = RestoreOptions::new(&target);
        options.memory = memory << 20;
        let storage = logtide_storage::open(backup.to_str().unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let summary = runtime.block_on(restore_point(&storage, &options, &Silent)).unwrap();
        let took = began.elapsed().as_secs_f64();
        let rate = |seconds: f64| plain as f64 / 1e6 / seconds;
        println!(
            "floor {:.0} MB/s, restore {:.0} MB/s, ratio {:.2}; plan {:.2} s, fetch {:.2} s, merge {:.2} s, ingest {:.2} s; \
             peak {} MiB, spilled {:.0} MB",
            rate(floor),
            rate(took),
            floor / took,
            summary.took.plan.as_secs_f64(),
            summary.took.fetch.as_secs_f64(),
            summary.took.merge.as_secs_f64(),
            summary.took.ingest.as_secs_f64(),
            summary.peak_memory >> 20,
            summary.spilled_bytes as f64 / 1e6,
        );
        std::fs::remove_dir_all(&target).unwrap();
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("process: {line}"));
}

/// Writes a backup of random commits; bytes of its records.
fn write_backup(dir: &Path, bytes: usize, value: usize) -> usize {
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 11).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    let (mut plain, mut generation, mut ts) = (0, 0, 10);
    while plain < bytes {
        let mut blocks: Vec<(Cf, Vec<u8>)> = Vec::new();
        let mut open = [Vec::with_capacity(BLOCK), Vec::with_capacity(BLOCK)];
        while blocks.len() < FILES {
            let raw = [b"t\x80\0\0\0\0\0\0\x05_r".as_slice(), &(next() % 100_000_000).to_be_bytes()].concat();
            let mut key = encode_raw_key(&raw);
            let user = key.len();
            append_ts(&mut key, Ts::new(ts));
            let half: Vec<u8> = (0..value / 16).flat_map(|_| next().to_le_bytes()).collect();
            encode_record(&key, &[&half[..], &half[..]].concat(), &mut open[0]);
            key.truncate(user);
            append_ts(&mut key, Ts::new(ts + 1));
            encode_record(&key, &Write::new(WriteKind::Put, Ts::new(ts), None).to_bytes(), &mut open[1]);
            ts += 2;
            for (i, cf) in [Cf::Default, Cf::Write].into_iter().enumerate() {
                if open[i].len() + value + 100 > BLOCK {
                    blocks.push((cf, std::mem::replace(&mut open[i], Vec::with_capacity(BLOCK))));
                }
            }
        }
        // The rest of both goes into one generation, so that no value is torn from its commit for ever.
        blocks.extend([Cf::Default, Cf::Write].into_iter().zip(open).filter(|(_, block)| !block.is_empty()));
        plain += blocks.iter().map(|(_, block)| block.len()).sum::<usize>();
        generation += 1;
        write_generation(dir, generation, &blocks);
    }
    write(dir, &checkpoint_path(1), &encode_checkpoint(Ts::new(ts)));
    plain
}

fn write_generation(dir: &Path, generation: u64, blocks: &[(Cf, Vec<u8>)]) {
    let (mut object, mut infos) = (Vec::new(), Vec::new());
    let mut compressor = Compressor::new(Compression::Zstd).unwrap();
    for (cf, plain) in blocks {
        let first = Records::new(plain).next().unwrap().unwrap();
        let key = FileKey::of(1, *cf, EntryKind::Put, first.key);
        let summary = summarize(&key, plain).unwrap();
        let before = object.len();
        compressor.compress(plain, &mut object).unwrap();
        let stored_length = (object.len() - before) as u64;
        let (resolved_ts, compression) = (Ts::new(1), Compression::Zstd);
        let file =
            LogicalFile { key, summary, resolved_ts, stored_length, compression, encryption: None, region: None };
        infos.push(data_file_info(&file, before as u64));
    }
    let tag = ObjectTag { boot: 1, generation };
    let path = data_path(1, Ts::new(1), Ts::new(1), false, tag, 0);
    write(dir, &path, &object);
    let meta = metadata(1, vec![group(path, infos)], Ts::new(1));
    write(dir, &MetaName::of(&meta, Ts::new(generation), Some(tag)).path(), &encode_metadata(&meta));
}

fn write(dir: &Path, path: &str, bytes: &[u8]) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Seconds of the floor.
fn floor(backup: &Path, out: &Path) -> f64 {
    std::fs::create_dir_all(out).unwrap();
    let began = Instant::now();
    let mut plain: Vec<(bool, Vec<u8>)> = Vec::new();
    for entry in std::fs::read_dir(backup.join("v1/backupmeta")).unwrap() {
        let meta = decode_metadata("m", &std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
        for group in meta.file_groups {
            let object = std::fs::read(backup.join(&group.path)).unwrap();
            for info in group.data_files_info {
                let stored = &object[info.range_offset as usize..(info.range_offset + info.range_length) as usize];
                let bytes = zstd::bulk::decompress(stored, info.length as usize).unwrap();
                plain.push((info.cf == "write", bytes));
            }
        }
    }
    for write in [true, false] {
        let files = plain.iter().filter(|(of, _)| *of == write);
        let records = files.flat_map(|(_, bytes)| Records::new(bytes).map(|r| r.unwrap()));
        let mut records: Vec<(&[u8], &[u8])> = records.map(|r| (r.key, r.value)).collect();
        records.sort_unstable();
        write_ssts(out, write, &records);
    }
    let took = began.elapsed().as_secs_f64();
    std::fs::remove_dir_all(out).unwrap();
    took
}

fn write_ssts(out: &Path, write: bool, records: &[(&[u8], &[u8])]) {
    let mut options = rocksdb::Options::default();
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    let mut table = rocksdb::BlockBasedOptions::default();
    table.set_block_size(16 << 10);
    table.set_format_version(5);
    options.set_block_based_table_factory(&table);
    let (mut rest, mut n) = (records, 0);
    while !rest.is_empty() {
        let mut writer = rocksdb::SstFileWriter::create(&options);
        writer.open(out.join(format!("{write}-{n}.sst"))).unwrap();
        let mut bytes = 0;
        let mut key = vec![b'z'];
        while let Some(((k, v), tail)) = rest.split_first().filter(|_| bytes < 64 << 20) {
            key.truncate(1);
            key.extend_from_slice(k);
            writer.put(&key, v).unwrap();
            bytes += key.len() + v.len();
            rest = tail;
        }
        writer.finish().unwrap();
        n += 1;
    }
}
