//! Real data to load: the source files of the project's own dependencies, or of any folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Table id of the files' keys; they look like TiDB record keys: `t{table}_r{path}`.
pub(crate) const FILE_TABLE: i64 = 1;
/// Larger files are left out: they would have to be split into several keys.
const LARGEST_FILE: u64 = 1 << 20;

/// A file to load.
pub(crate) struct SourceFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its name below the folder.
    pub(crate) name: String,
    /// Its size in bytes.
    pub(crate) size: u64,
}

/// The files below a folder in the order of their names, up to about `limit` bytes.
pub(crate) struct Source {
    /// The files.
    pub(crate) files: Vec<SourceFile>,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl Source {
    /// Lists `folder`, or cargo's registry folder.
    pub(crate) fn list(folder: Option<PathBuf>, limit: u64) -> io::Result<Source> {
        let folder = folder.unwrap_or_else(registry);
        let mut files = Vec::new();
        walk(&folder, &folder, &mut files)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}; set DEMO_DATA to a folder", folder.display())))?;
        if files.is_empty() {
            let message = format!("{} holds no files to load; set DEMO_DATA to a folder", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        files.sort_by(|a: &SourceFile, b: &SourceFile| a.name.cmp(&b.name));
        let mut bytes = 0;
        let fits = |f: &SourceFile| {
            bytes += f.size;
            bytes <= limit
        };
        let kept: Vec<_> = files.into_iter().take_while(fits).collect();
        let bytes = kept.iter().map(|f| f.size).sum();
        Ok(Source { files: kept, bytes })
    }

    /// Raw keys that cut the files into `parts` of about equal bytes.
    pub(crate) fn split_keys(&self, parts: usize) -> Vec<Vec<u8>> {
        let each = self.bytes / parts as u64 + 1;
        let mut sum = 0;
        let mut keys = Vec::new();
        for file in &self.files {
            if sum / each != (sum + file.size) / each {
                keys.push(file_key(&file.name));
            }
            sum += file.size;
        }
        keys.truncate(parts.saturating_sub(1));
        keys
    }
}

/// The raw key of a file.
pub(crate) fn file_key(name: &str) -> Vec<u8> {
    let mut key = table_prefix(FILE_TABLE);
    key.extend_from_slice(name.as_bytes());
    key
}

/// `t{table}_r`, as TiDB has it: the id's sign bit is flipped, so that ids sort as numbers.
pub(crate) fn table_prefix(table: i64) -> Vec<u8> {
    let mut key = vec![b't'];
    key.extend_from_slice(&(table as u64 ^ (1 << 63)).to_be_bytes());
    key.extend_from_slice(b"_r");
    key
}

fn registry() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cargo")));
    home.unwrap_or_default().join("registry/src")
}

fn walk(root: &Path, dir: &Path, files: &mut Vec<SourceFile>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let path = entry.path();
        if kind.is_dir() {
            walk(root, &path, files)?;
        } else if kind.is_file() {
            let size = entry.metadata()?.len();
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if (1..=LARGEST_FILE).contains(&size) {
                files.push(SourceFile { path, name, size });
            }
        }
    }
    Ok(())
}
