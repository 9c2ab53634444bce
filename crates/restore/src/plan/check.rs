//! What a metadata object says twice must agree. Pure.
//!
//! The format has no checksum over metadata. But bounds are said for each logical file, for its group, for the whole
//! and in the name, and the version comes last: an object that is cut off at the border of a field, or has a changed
//! bound, gives itself away.

use logtide_format::{FLAG_NO_GROUPS, MetaName, encode_metadata, proto};
use logtide_model::{Cf, split_ts};

use crate::RestoreError;

/// Two statements that do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contradiction {
    field: String,
    found: u64,
    declared: u64,
}

impl Contradiction {
    pub(crate) fn of(self, object: &str) -> RestoreError {
        let Contradiction { field, found, declared } = self;
        RestoreError::Contradiction { object: object.to_owned(), field, found, declared }
    }
}

/// Compares what metadata says twice. A name may say more than there is: truncation takes objects out of the list.
/// `bytes` is what was decoded: where logtide wrote it, encoding it gives the same, so no field is one that it does not
/// know.
pub(crate) fn check(
    object: &str,
    name: Option<&MetaName>,
    bytes: &[u8],
    metadata: &proto::Metadata,
) -> Result<(), Contradiction> {
    let understood = encode_metadata(metadata);
    if name.is_some_and(|name| name.tag.is_some()) && understood != bytes {
        let field = "the length of what can be understood".to_owned();
        return Err(Contradiction { field, found: understood.len() as u64, declared: bytes.len() as u64 });
    }
    let grouped = || metadata.file_groups.iter().flat_map(|group| &group.data_files_info);
    let files = || grouped().chain(&metadata.files);
    let bounds = Bounds::of(files());
    let Some(bounds) = bounds else { return check_empty(object, name) };
    files().try_for_each(check_file)?;
    let v2 = u64::from(!metadata.file_groups.is_empty());
    equal("the version", metadata.meta_version as u64, v2)?;
    for group in &metadata.file_groups {
        let Some(of) = Bounds::of(group.data_files_info.iter()) else {
            return equal(&format!("the number of files of {}", group.path), 0, 1);
        };
        let stored = group.data_files_info.iter().map(|f| f.range_length).fold(0, u64::saturating_add);
        equal(&format!("the length of {}", group.path), stored, group.length)?;
        equal(&format!("the smallest ts of {}", group.path), of.min, group.min_ts)?;
        equal(&format!("the largest ts of {}", group.path), of.max, group.max_ts)?;
    }
    equal("the smallest ts", bounds.min, metadata.min_ts)?;
    equal("the largest ts", bounds.max, metadata.max_ts)?;
    name.map_or(Ok(()), |name| check_name(name, &bounds))
}

/// The ts in the first and in the last key lie between the smallest and the largest; values begin where they lie.
fn check_file(file: &proto::DataFileInfo) -> Result<(), Contradiction> {
    if file.cf == Cf::Default.name() {
        equal("the smallest start ts of values", file.min_ts, file.min_begin_ts_in_default_cf)?;
    }
    for key in [&file.start_key, &file.end_key] {
        let ts = split_ts(key).map_or(0, |(_, ts)| ts.get());
        equal("a ts of a first or last key", ts, ts.clamp(file.min_ts, file.max_ts.max(file.min_ts)))?;
    }
    Ok(())
}

/// Smallest and largest ts of files, and the smallest ts that their values may have.
struct Bounds {
    min: u64,
    max: u64,
    begin: u64,
}

impl Bounds {
    fn of<'a>(files: impl Iterator<Item = &'a proto::DataFileInfo>) -> Option<Self> {
        files.fold(None, |bounds: Option<Bounds>, f| {
            let begin = f.min_begin_ts_in_default_cf;
            let Bounds { min, max, begin: oldest } =
                bounds.unwrap_or(Bounds { min: u64::MAX, max: 0, begin: u64::MAX });
            Some(Bounds { min: min.min(f.min_ts), max: max.max(f.max_ts), begin: oldest.min(begin) })
        })
    }
}

/// Objects are selected by their names: what they say must hold.
fn check_name(name: &MetaName, bounds: &Bounds) -> Result<(), Contradiction> {
    let at_most =
        |field: &str, declared: u64, found: u64| if declared <= found { Ok(()) } else { equal(field, found, declared) };
    equal("the flag for no content in the name", 0, name.flags & FLAG_NO_GROUPS)?;
    at_most("the smallest ts in the name", name.min_ts.get(), bounds.min)?;
    at_most("the smallest ts of a value in the name", name.min_begin_ts.get(), bounds.begin)?;
    if name.max_ts.get() >= bounds.max {
        Ok(())
    } else {
        equal("the largest ts in the name", bounds.max, name.max_ts.get())
    }
}

/// An object without files must say so in its name.
fn check_empty(object: &str, name: Option<&MetaName>) -> Result<(), Contradiction> {
    let says_so = name.is_some_and(|name| name.flags & FLAG_NO_GROUPS != 0 || name.max_ts.is_zero());
    if says_so { Ok(()) } else { equal(&format!("the number of files of {object}"), 0, 1) }
}

fn equal(field: &str, found: u64, declared: u64) -> Result<(), Contradiction> {
    if found == declared { Ok(()) } else { Err(Contradiction { field: field.to_owned(), found, declared }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logtide_format::{ObjectTag, decode_metadata};
    use logtide_model::{Ts, append_ts, encode_raw_key};

    fn versioned(raw: &[u8], ts: u64) -> Vec<u8> {
        let mut key = encode_raw_key(raw);
        append_ts(&mut key, Ts::new(ts));
        key
    }

    fn meta() -> (MetaName, proto::Metadata) {
        let file = |ts: u64, offset| proto::DataFileInfo {
            cf: "write".into(),
            min_ts: ts,
            max_ts: ts + 5,
            min_begin_ts_in_default_cf: ts - 1,
            length: 40,
            number_of_entries: 1,
            range_length: 40,
            range_offset: offset,
            sha256: vec![1; 32],
            start_key: versioned(b"a", ts),
            end_key: versioned(b"b", ts + 3),
            ..Default::default()
        };
        let one = logtide_format::group("a.log".into(), vec![file(10, 0), file(20, 40)]);
        let two = logtide_format::group("b.log".into(), vec![file(30, 0)]);
        let meta = logtide_format::metadata(3, vec![one, two], Ts::new(50));
        (MetaName::of(&meta, Ts::new(60), None), meta)
    }

    #[test]
    fn no_cut_off_object_passes() {
        let (name, meta) = meta();
        let bytes = encode_metadata(&meta);
        assert_eq!(check("o", Some(&name), &bytes, &meta), Ok(()));
        for len in 0..bytes.len() {
            let Ok(cut) = decode_metadata("o", &bytes[..len]) else { continue };
            assert!(check("o", Some(&name), &bytes[..len], &cut).is_err(), "cut off at {len} of {}", bytes.len());
            assert!(
                check("o", None, &bytes[..len], &cut).is_err(),
                "cut off at {len} of {}, name says nothing",
                bytes.len()
            );
        }
    }

    #[test]
    fn changed_bounds_and_names_show() {
        let (name, meta) = meta();
        let bytes = encode_metadata(&meta);
        let changes: [fn(&mut proto::DataFileInfo); 4] = [
            |file| file.max_ts = 24,
            |file| file.min_ts = 21,
            |file| file.range_length = 39,
            |file| file.end_key = versioned(b"b", 26),
        ];
        for change in changes {
            let mut changed = meta.clone();
            change(&mut changed.file_groups[0].data_files_info[1]);
            assert!(check("o", None, &encode_metadata(&changed), &changed).is_err());
        }
        for wrong in [
            MetaName { min_ts: Ts::new(11), ..name },
            MetaName { max_ts: Ts::new(34), ..name },
            MetaName { min_begin_ts: Ts::new(10), ..name },
            MetaName { flags: FLAG_NO_GROUPS, ..name },
        ] {
            assert!(check("o", Some(&wrong), &bytes, &meta).is_err(), "{wrong:?}");
        }
        let wider = MetaName { min_ts: Ts::new(1), max_ts: Ts::MAX, min_begin_ts: Ts::ZERO, ..name };
        assert_eq!(check("o", Some(&wider), &bytes, &meta), Ok(()));
    }

    #[test]
    fn unknown_fields_show_where_logtide_wrote() {
        let (name, meta) = meta();
        let mut bytes = encode_metadata(&meta);
        bytes.extend_from_slice(&[14 << 3 | 2, 1, 0]);
        let ours = MetaName { tag: Some(ObjectTag { boot: 1, generation: 1 }), ..name };
        assert!(check("o", Some(&ours), &bytes, &meta).is_err());
        assert_eq!(check("o", Some(&name), &bytes, &meta), Ok(()), "a newer TiKV may have more to say");
    }
}
