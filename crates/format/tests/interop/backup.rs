//! The interop backups on disk, and the records that went into them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use logtide_format::{MetaName, decode_metadata, proto};
use logtide_model::Ts;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub(crate) const PLAIN_VARIANTS: [&str; 3] = ["zstd", "zstd_split", "uncompressed"];
pub(crate) const ENCRYPTED_VARIANTS: [&str; 3] = ["zstd_aes256ctr", "uncompressed_aes128ctr", "zstd_masterkey_file"];

pub(crate) fn variants() -> impl Iterator<Item = &'static str> {
    PLAIN_VARIANTS.into_iter().chain(ENCRYPTED_VARIANTS)
}

pub(crate) fn interop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/interop")
}

/// A record that was fed to TiKV, or that was read; ordered so that multisets can be compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Fed {
    pub(crate) flush: u64,
    pub(crate) store: u64,
    pub(crate) region: u64,
    pub(crate) cf: String,
    pub(crate) op: String,
    #[serde(deserialize_with = "from_hex")]
    pub(crate) key: Vec<u8>,
    #[serde(deserialize_with = "from_hex")]
    pub(crate) value: Vec<u8>,
}

fn from_hex<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<u8>, D::Error> {
    hex::decode(String::deserialize(input)?).map_err(serde::de::Error::custom)
}

/// The 590 records, in the order fed.
pub(crate) fn fed() -> Vec<Fed> {
    let text = fs::read_to_string(interop().join("records.jsonl")).unwrap();
    let records: Vec<Fed> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 590);
    records
}

/// A metadata object, and all that it refers to.
pub(crate) struct Meta {
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) body: proto::Metadata,
    pub(crate) name: MetaName,
    /// By path.
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
}

impl Meta {
    /// Which flush of its store, 1 to 4.
    pub(crate) fn flush(&self) -> u64 {
        let since = self.name.flush_ts.physical_ms() - 1_760_000_000_000 - 160_000;
        assert_eq!((since % 180_000, self.name.flush_ts.logical()), (0, self.name.store_id));
        since / 180_000
    }

    /// Its logical files, each with its object and its stored bytes.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, usize, &proto::DataFileInfo, &[u8])> {
        self.body.file_groups.iter().flat_map(|group| {
            let object = &self.objects[&group.path];
            group.data_files_info.iter().enumerate().map(|(index, info)| {
                let stored = &object[info.range_offset as usize..][..info.range_length as usize];
                (group.path.as_str(), index, info, stored)
            })
        })
    }
}

/// All metadata objects of a variant, in the order of their names.
pub(crate) fn load(variant: &str) -> Vec<Meta> {
    let root = interop().join(variant).join("backup");
    let names =
        fs::read_dir(root.join("v1/backupmeta")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut paths: Vec<String> = names.map(|name| format!("v1/backupmeta/{name}")).collect();
    paths.sort();
    assert_eq!(paths.len(), 7, "{variant}");
    paths.into_iter().map(|path| load_meta(&root, path)).collect()
}

fn load_meta(root: &Path, path: String) -> Meta {
    let bytes = fs::read(root.join(&path)).unwrap();
    let body = decode_metadata(&path, &bytes).unwrap();
    let name = MetaName::parse(&path).unwrap();
    let objects = body.file_groups.iter().map(|g| (g.path.clone(), fs::read(root.join(&g.path)).unwrap())).collect();
    Meta { path, bytes, body, name, objects }
}

/// What kvproto decoded, from the dump that is beside the backup.
pub(crate) fn dump(variant: &str) -> Value {
    serde_json::from_slice(&fs::read(interop().join(variant).join("metadata_dump.json")).unwrap()).unwrap()
}

/// The store's resolved ts at a flush (README.txt).
pub(crate) fn resolved_ts(flush: u64) -> Ts {
    Ts::compose(1_760_000_000_000 + flush * 180_000 + 150_000, 0)
}
