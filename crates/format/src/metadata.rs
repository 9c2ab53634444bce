//! Metadata objects: protobuf, never compressed nor encrypted.

use prost::Message;

use crate::{DataFile, FileFault, FormatError, MAX_FILE_LENGTH, proto, wire};

/// The bytes of a metadata object.
pub fn encode_metadata(metadata: &proto::Metadata) -> Vec<u8> {
    metadata.encode_to_vec()
}

/// Reads a metadata object and checks that it can be true: every logical file passes [`DataFile::parse`], lies within
/// its object and overlaps no other. (It may leave gaps: truncation removes logical files from an object's list.)
///
/// # Errors
/// [`FormatError::Malformed`] for bytes that are no metadata, [`FormatError::BadFile`] for a logical file that cannot be.
pub fn decode_metadata(object: &str, bytes: &[u8]) -> Result<proto::Metadata, FormatError> {
    let malformed =
        |offset: usize, what: String| FormatError::Malformed { object: object.to_owned(), offset: offset as u64, what };
    wire::check_metadata(bytes).map_err(|(offset, what)| malformed(offset, what.to_owned()))?;
    let metadata = proto::Metadata::decode(bytes).map_err(|e| malformed(bytes.len(), e.to_string()))?;
    check_head(&metadata).map_err(|what| malformed(bytes.len(), what))?;
    for group in &metadata.file_groups {
        check_group(group).map_err(|(index, offset, fault)| bad_file(object, &group.path, index, offset, fault))?;
    }
    for (index, file) in metadata.files.iter().enumerate() {
        check_single(file).map_err(|fault| bad_file(object, &file.path, index, file.range_offset, fault))?;
    }
    Ok(metadata)
}

/// What is wrong with the object as a whole. The version is the last field, so that nothing else is missing behind it:
/// an object that was cut between two fields is still valid protobuf.
fn check_head(metadata: &proto::Metadata) -> Result<(), String> {
    use proto::MetaVersion::{V1, V2};
    let no_files = metadata.files.is_empty();
    match proto::MetaVersion::try_from(metadata.meta_version) {
        Err(_) => return Err(format!("meta_version {} is newer than 1 (V2)", metadata.meta_version)),
        Ok(V1) if no_files || !metadata.file_groups.is_empty() => return Err("meta_version is missing".to_owned()),
        Ok(V2) if !no_files => return Err("files are listed in the place of version 1".to_owned()),
        Ok(V1 | V2) => {}
    }
    if metadata.store_id < 0 {
        return Err(format!("store_id is {}", metadata.store_id));
    }
    if metadata.file_groups.iter().any(|g| g.min_ts < metadata.min_ts || g.max_ts > metadata.max_ts) {
        return Err(format!(
            "data objects have records outside of min_ts {} and max_ts {}",
            metadata.min_ts, metadata.max_ts
        ));
    }
    Ok(())
}

fn bad_file(metadata: &str, data: &str, index: usize, offset: u64, fault: FileFault) -> FormatError {
    FormatError::BadFile { object: format!("{metadata}: {data}"), index: Some(index), offset, fault }
}

/// Index, offset and fault of the first logical file that cannot be.
fn check_group(group: &proto::DataFileGroup) -> Result<(), (usize, u64, FileFault)> {
    check_path(&group.path).map_err(|fault| (0, 0, fault))?;
    let mut ranges = Vec::with_capacity(group.data_files_info.len());
    for (index, info) in group.data_files_info.iter().enumerate() {
        let at = |fault| (index, info.range_offset, fault);
        let file = DataFile::check(info).map_err(at)?;
        if file.end() > group.length {
            return Err(at(FileFault::Outside { length: file.stored_length, object: group.length }));
        }
        if info.min_ts < group.min_ts || info.max_ts > group.max_ts {
            return Err(at(FileFault::Bounds("its timestamps are outside of those of its object")));
        }
        ranges.push((file.offset, file.end(), index));
    }
    ranges.sort_unstable();
    let overlap = ranges.windows(2).find(|pair| pair[1].0 < pair[0].1);
    overlap.map_or(Ok(()), |pair| Err((pair[1].2, pair[1].0, FileFault::Overlap(pair[0].1))))
}

/// A logical file of [`proto::MetaVersion::V1`], which is an object of its own.
fn check_single(info: &proto::DataFileInfo) -> Result<(), FileFault> {
    check_path(&info.path)?;
    let file = DataFile::check(info)?;
    if file.end() > MAX_FILE_LENGTH { Err(FileFault::TooLong(file.end())) } else { Ok(()) }
}

/// A storage may be a directory: a path must not lead out of it.
fn check_path(path: &str) -> Result<(), FileFault> {
    let good = !path.contains(['\\', '\0']) && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if good { Ok(()) } else { Err(FileFault::Path(path.to_owned())) }
}

/// Where the first gap in the list of an object's logical files begins, if there is one. No writer leaves gaps, but
/// truncation may: a gap in a backup that nobody truncated means that metadata was lost.
pub fn first_gap(group: &proto::DataFileGroup) -> Option<u64> {
    let mut ranges: Vec<_> = group.data_files_info.iter().map(|f| (f.range_offset, f.range_length)).collect();
    ranges.sort_unstable();
    let mut end = 0u64;
    for (offset, length) in ranges {
        if offset > end {
            return Some(end);
        }
        end = end.max(offset.saturating_add(length));
    }
    (end < group.length).then_some(end)
}
