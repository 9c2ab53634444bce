//! Corrupted twins of the golden backup, each with one thing wrong.

use logtide_format::{
    Compressor, EntryKind, FormatError, decode_checkpoint, decode_metadata, encode_metadata, encode_record, open_file,
    proto,
};
use logtide_model::{Cf, Compression};
use sha2::{Digest, Sha256};

use crate::sample;

/// A metadata object and a data object of which one is corrupted, or a checkpoint.
pub(crate) struct Twin {
    pub(crate) name: String,
    path: String,
    bytes: Vec<u8>,
    /// The data object that is corrupted.
    data: Option<sample::Object>,
    /// The others that the metadata refers to.
    intact: Vec<sample::Object>,
}

impl Twin {
    /// The object that an error has to name.
    pub(crate) fn object(&self) -> &str {
        self.data.as_ref().map_or(&self.path, |(path, _)| path)
    }

    /// Reads all that there is.
    pub(crate) fn read(&self) -> Result<(), FormatError> {
        if self.path.ends_with(".ts") {
            return decode_checkpoint(&self.path, &self.bytes).map(drop);
        }
        let meta = decode_metadata(&self.path, &self.bytes)?;
        let Some((path, data)) = &self.data else { return Ok(()) };
        let group = meta.file_groups.iter().find(|g| g.path == *path).unwrap();
        for info in &group.data_files_info {
            let end = data.len().min((info.range_offset + info.range_length) as usize);
            let stored = data.get(info.range_offset as usize..end).unwrap_or_default();
            open_file(path, info, stored)?;
        }
        Ok(())
    }

    /// All objects of a storage that has it.
    #[allow(dead_code, reason = "not every test that includes this file needs it")]
    pub(crate) fn storage(&self) -> impl Iterator<Item = (&String, &Vec<u8>)> {
        let objects = self.data.iter().chain(&self.intact).map(|(path, bytes)| (path, bytes));
        objects.chain([(&self.path, &self.bytes)])
    }

    #[allow(dead_code, reason = "as above")]
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let extension = self.path.rsplit('.').next().unwrap();
        let mut files = vec![(format!("{}.{extension}", self.name), self.bytes.clone())];
        files.extend(self.data.iter().map(|(_, bytes)| (format!("{}.log", self.name), bytes.clone())));
        files
    }
}

pub(crate) fn all() -> Vec<Twin> {
    let mut twins = checkpoints();
    twins.extend(raw_metadata());
    twins.extend(edited_metadata());
    twins.extend(data());
    twins.extend(lies());
    twins.extend(bad_records());
    twins
}

fn checkpoints() -> Vec<Twin> {
    let path = logtide_format::checkpoint_path(sample::STORE);
    let twin = |name: &str, bytes: &[u8]| Twin {
        name: format!("checkpoint-{name}"),
        path: path.clone(),
        bytes: bytes.to_vec(),
        data: None,
        intact: Vec::new(),
    };
    vec![twin("empty", b""), twin("short", &[1; 7]), twin("long", &[1; 9])]
}

fn meta_twin(name: &str, bytes: Vec<u8>) -> Twin {
    let (_, meta_name, intact) = sample::flush(Compression::Zstd, 0);
    Twin { name: format!("meta-{name}"), path: meta_name.path(), bytes, data: None, intact }
}

/// Metadata objects that are damaged as bytes.
fn raw_metadata() -> Vec<Twin> {
    let good = encode_metadata(&sample::flush(Compression::Zstd, 0).0);
    let mut flipped = good.clone();
    // The first byte of the first logical file's length, after the tag of `data_files_info`.
    let at = good.windows(4).position(|bytes| bytes[0] == 0x12 && bytes[3..] == [0x0a]).unwrap() + 1;
    flipped[at] ^= 0x40;
    let without_version = good[..good.len() - 2].to_vec();
    let text = [&b"<?xml version=\"1.0\"?><Error>"[..], &good].concat();
    vec![
        meta_twin("empty", Vec::new()),
        meta_twin("truncated", good[..good.len() / 2].to_vec()),
        meta_twin("cut-between-fields", without_version),
        meta_twin("flipped-length", flipped),
        meta_twin("error-page", text),
        meta_twin("zeros", vec![0; good.len()]),
    ]
}

type Edit = (&'static str, fn(&mut proto::Metadata));

/// Metadata objects that are protobuf, and say what cannot be.
fn edited_metadata() -> Vec<Twin> {
    const EDITS: &[Edit] = &[
        ("version", |m| m.meta_version = 2),
        ("files-and-groups", |m| m.files = m.file_groups[0].data_files_info.clone()),
        ("negative-store", |m| m.store_id = -1),
        ("narrow-min-ts", |m| m.min_ts += 1),
        ("narrow-max-ts", |m| m.max_ts -= 1),
        ("group-narrow-ts", |m| m.file_groups[0].min_ts += 1),
        ("path-up", |m| m.file_groups[0].path = "v1/../../etc/passwd".to_owned()),
        ("path-absolute", |m| m.file_groups[0].path = "/etc/passwd".to_owned()),
        ("path-empty", |m| m.file_groups[0].path.clear()),
        ("group-too-short", |m| m.file_groups[0].length -= 1),
        ("offset-outside", |m| file(m).range_offset = 1 << 20),
        ("offset-overflows", |m| file(m).range_offset = u64::MAX),
        ("overlap", |m| m.file_groups[0].data_files_info[2].range_offset -= 1),
        ("stored-length-absurd", |m| file(m).range_length = u64::MAX),
        ("length-absurd", |m| file(m).length = u64::MAX),
        ("length-beyond-zstd", |m| file(m).length = file(m).range_length * 40_000),
        ("length-not-stored", |m| file(m).compression_type = 0),
        ("cf-lock", |m| file(m).cf = "lock".to_owned()),
        ("cf-unknown", |m| file(m).cf = "raft".to_owned()),
        ("cf-lost", |m| file(m).cf.clear()),
        ("type-unknown", |m| file(m).r#type = 2),
        ("compression-lz4", |m| file(m).compression_type = 1),
        ("compression-unknown", |m| file(m).compression_type = 9),
        ("region-negative", |m| file(m).region_id = -100),
        ("entries-negative", |m| file(m).number_of_entries = -1),
        ("entries-absurd", |m| file(m).number_of_entries = i64::MAX),
        ("entries-none", |m| file(m).number_of_entries = 0),
        ("sha256-short", |m| file(m).sha256.truncate(31)),
        ("ts-order", |m| file(m).min_ts = file(m).max_ts + 1),
        ("key-order", |m| file(m).start_key.insert(0, 0xff)),
        ("region-order", |m| file(m).region_end_key = b"a".to_vec()),
        ("encryption-unknown", |m| encrypt(m).encryption_method = 77),
        ("encryption-iv", |m| encrypt(m).file_iv.truncate(15)),
        ("encryption-checksum", |m| encrypt(m).checksum.truncate(31)),
        ("encryption-no-key", |m| encrypt(m).mode = None),
    ];
    let edited = EDITS.iter().map(|(name, edit)| {
        let (mut meta, ..) = sample::flush(Compression::Zstd, 0);
        edit(&mut meta);
        meta_twin(name, encode_metadata(&meta))
    });
    edited.collect()
}

/// The second logical file of the first object.
fn file(meta: &mut proto::Metadata) -> &mut proto::DataFileInfo {
    &mut meta.file_groups[0].data_files_info[1]
}

fn encrypt(meta: &mut proto::Metadata) -> &mut proto::FileEncryptionInfo {
    file(meta).file_encryption_info.insert(proto::FileEncryptionInfo {
        mode: Some(proto::file_encryption_info::Mode::PlainTextDataKey(proto::PlainTextDataKey {})),
        encryption_method: proto::EncryptionMethod::Aes256Ctr as i32,
        file_iv: vec![0; 16],
        checksum: vec![0; 32],
    })
}

fn data_twin(
    name: &str,
    compression: Compression,
    edit: impl FnOnce(&mut Vec<u8>, &mut Vec<proto::DataFileInfo>),
) -> Twin {
    let (mut meta, meta_name, mut intact) = sample::flush(compression, 0);
    let (path, mut bytes) = intact.remove(0);
    edit(&mut bytes, &mut meta.file_groups[0].data_files_info);
    let name = format!("data-{name}");
    Twin { name, path: meta_name.path(), bytes: encode_metadata(&meta), data: Some((path, bytes)), intact }
}

/// Data objects that are damaged as bytes.
fn data() -> Vec<Twin> {
    use Compression::{None, Zstd};
    let end_of = |info: &proto::DataFileInfo| (info.range_offset + info.range_length) as usize;
    let mut twins: Vec<Twin> = [("zstd", Zstd), ("plain", None)]
        .into_iter()
        .flat_map(|(kind, compression)| {
            let flip = |name: &str, from_end: usize| {
                data_twin(&format!("{kind}-{name}"), compression, move |bytes, infos| {
                    bytes[end_of(&infos[1]) - from_end] ^= 4;
                })
            };
            let truncated =
                data_twin(&format!("{kind}-truncated"), compression, |bytes, _| bytes.truncate(bytes.len() - 1));
            [flip("flipped-last-byte", 1), flip("flipped-byte", 20), truncated]
        })
        .collect();
    twins.push(data_twin("zstd-flipped-magic", Zstd, |bytes, infos| bytes[infos[1].range_offset as usize] ^= 1));
    twins.push(two_frames());
    twins
}

/// A logical file that is two frames: TiKV's reader would stop after the first.
fn two_frames() -> Twin {
    let mut twin = data_twin("zstd-two-frames", Compression::Zstd, |_, _| {});
    let (mut meta, ..) = sample::flush(Compression::Zstd, 0);
    let group = &mut meta.file_groups[0];
    let last = group.data_files_info.last_mut().unwrap();
    let bytes = &mut twin.data.as_mut().unwrap().1;
    let more = bytes[last.range_offset as usize..].to_vec();
    bytes.extend_from_slice(&more);
    last.range_length += more.len() as u64;
    last.length *= 2;
    group.length += more.len() as u64;
    twin.bytes = encode_metadata(&meta);
    twin
}

type Lie = (&'static str, fn(&mut proto::DataFileInfo));

/// Intact data objects about which the metadata lies.
fn lies() -> Vec<Twin> {
    const LIES: &[Lie] = &[
        ("sha256", |f| f.sha256[31] ^= 1),
        ("crc64xor", |f| f.crc64xor ^= 1),
        ("entries", |f| f.number_of_entries += 1),
        ("length", |f| f.length += 1),
        ("length-less", |f| f.length -= 1),
        ("min-ts", |f| f.min_ts += 1),
        ("max-ts", |f| f.max_ts -= 1),
        ("start-key", |f| *f.start_key.last_mut().unwrap() += 1),
        ("end-key", |f| *f.end_key.last_mut().unwrap() += 1),
        ("min-begin-ts", |f| f.min_begin_ts_in_default_cf += 1),
        ("table-id", |f| f.table_id += 1),
        ("is-meta", |f| f.is_meta = true),
        ("cf", |f| f.cf = "write".to_owned()),
        ("kind", |f| f.r#type = proto::FileType::Delete as i32),
    ];
    // The value of the default column family: the one that is longest.
    let of_value = |infos: &mut Vec<proto::DataFileInfo>, lie: fn(&mut proto::DataFileInfo)| {
        lie(infos.iter_mut().max_by_key(|f| f.length).unwrap());
    };
    let of_writes = |infos: &mut Vec<proto::DataFileInfo>, lie: fn(&mut proto::DataFileInfo)| {
        lie(infos.iter_mut().max_by_key(|f| f.number_of_entries).unwrap());
    };
    let twins = LIES.iter().map(|(name, lie)| {
        data_twin(&format!("lie-{name}"), Compression::Zstd, |_, infos| match *name {
            "cf" | "kind" => of_value(infos, *lie),
            _ => of_writes(infos, *lie),
        })
    });
    twins.collect()
}

/// Logical files whose checksums are right and whose records are not.
fn bad_records() -> Vec<Twin> {
    let record = |key: &[u8], value: &[u8]| {
        let mut out = Vec::new();
        encode_record(key, value, &mut out);
        out
    };
    let good = record(b"0123456789abcdef", b"P\x01v\x01x");
    let with = |more: &[u8]| [&good[..], more].concat();
    use EntryKind::{Delete, Put};
    vec![
        record_twin("truncated-length", Cf::Write, Put, &with(&[16, 0, 0])),
        record_twin("truncated-key", Cf::Write, Put, &with(&[16, 0, 0, 0, 1])),
        record_twin("length-absurd", Cf::Write, Put, &with(&[0xff; 4])),
        record_twin("short-key", Cf::Write, Put, &with(&record(b"1234567", b"P\x01"))),
        record_twin("no-write", Cf::Write, Put, &with(&record(b"0123456789abcdef", b"X\x01"))),
        record_twin("delete-with-value", Cf::Default, Delete, &record(b"0123456789abcdef", b"v")),
    ]
}

fn record_twin(name: &str, cf: Cf, kind: EntryKind, plain: &[u8]) -> Twin {
    let mut stored = Vec::new();
    Compressor::new(Compression::Zstd).unwrap().compress(plain, &mut stored).unwrap();
    let mut twin = data_twin(name, Compression::Zstd, |_, _| {});
    let (mut meta, ..) = sample::flush(Compression::Zstd, 0);
    let group = &mut meta.file_groups[0];
    group.length = stored.len() as u64;
    group.data_files_info.truncate(1);
    let info = &mut group.data_files_info[0];
    (info.range_offset, info.range_length, info.length) = (0, stored.len() as u64, plain.len() as u64);
    info.number_of_entries = 1;
    info.sha256 = Sha256::digest(plain).to_vec();
    cf.name().clone_into(&mut info.cf);
    info.r#type = if kind == EntryKind::Put { 1 } else { 0 };
    twin.name = format!("record-{name}");
    twin.bytes = encode_metadata(&meta);
    twin.data = Some((meta.file_groups[0].path.clone(), stored));
    twin
}
