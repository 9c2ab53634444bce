//! RocksDB options.

use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, Options};

/// Bytes of a data block before compression.
const BLOCK: usize = 16 << 10;
/// Block cache of a directory that is read once, front to back; it holds index blocks too.
const CACHE: usize = 8 << 20;

/// Options of SST files and of the column families that they go to.
pub(crate) fn column_family() -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_block_based_table_factory(&table());
    // Nothing is written but by ingesting.
    options.set_write_buffer_size(1 << 20);
    options
}

/// Options of a directory to be made.
pub(crate) fn new_directory() -> Options {
    let mut options = column_family();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // Table readers would be kept for every file.
    options.set_max_open_files(64);
    options.set_max_background_jobs(1);
    options.set_disable_auto_compactions(true);
    options.set_keep_log_file_num(1);
    options
}

/// Options to read a directory that may belong to a running node: all files are opened at the beginning, so that
/// those that the node removes later can still be read.
pub(crate) fn read_only(logs: &Path) -> Options {
    let mut options = Options::default();
    options.set_block_based_table_factory(&table());
    options.set_max_open_files(-1);
    options.set_db_log_dir(logs);
    options
}

fn table() -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_size(BLOCK);
    table.set_block_cache(&Cache::new_lru_cache(CACHE));
    table.set_cache_index_and_filter_blocks(true);
    table.set_format_version(5);
    table
}
