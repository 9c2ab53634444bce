//! Several metadata objects of a store's boot in one, which other readers take for the metadata of a larger flush.
//!
//! Its name has the flush ts, boot and generation of the last one, and the predecessor of the first: it covers what they
//! covered, and whoever named the last of them names it. Bounds and flags are those of all. Data objects are left as they
//! are, in the order of their generations.

use std::collections::BTreeSet;

use crate::{FormatError, MetaLink, MetaName, Previous, content_crc, decode_metadata, encode_metadata, proto};

/// Merges metadata objects, given by path and content, that follow one another without a gap. `previous` is what is
/// before the first of them; `None` for what that one's name says.
///
/// # Errors
/// [`FormatError`] if there are none, if one is damaged, or not what [`MetaName::of`] and [`MetaLink`] say, or does not
/// follow the one before.
pub fn merge_metadata(objects: &[(&str, &[u8])], previous: Option<Previous>) -> Result<(String, Vec<u8>), FormatError> {
    let mut all: Option<Merged> = None;
    let mut data = BTreeSet::new();
    for (path, bytes) in objects {
        let next = read(path, bytes)?;
        for group in &next.metadata.file_groups {
            if !data.insert(group.path.clone()) {
                return Err(malformed(path, format!("{} was in one of those before", group.path)));
            }
        }
        all = Some(match all {
            None => next,
            Some(before) => before.and(path, next)?,
        });
    }
    let Merged { name, mut link, metadata } = all.ok_or_else(|| malformed("", "nothing to merge".to_owned()))?;
    let bytes = encode_metadata(&metadata);
    link.crc = content_crc(&bytes);
    link.previous = previous.or(link.previous);
    Ok((MetaName::of(&metadata, name.flush_ts, name.tag).linked_path(&link), bytes))
}

/// What was merged so far.
struct Merged {
    /// Of the last one.
    name: MetaName,
    /// Its predecessor is that of the first one.
    link: MetaLink,
    metadata: proto::Metadata,
}

impl Merged {
    fn and(self, path: &str, next: Merged) -> Result<Merged, FormatError> {
        let of = |name: &MetaName| name.tag.map(|tag| (name.store_id, tag.boot));
        if of(&self.name) != of(&next.name) || self.name.tag.map(|tag| tag.generation) != Some(next.link.above()) {
            return Err(malformed(path, "it does not follow the one before".to_owned()));
        }
        let (mut metadata, more) = (self.metadata, next.metadata);
        metadata.resolved_ts = metadata.resolved_ts.max(more.resolved_ts);
        // Without data objects there is no smallest ts.
        metadata.min_ts = match (metadata.file_groups.is_empty(), more.file_groups.is_empty()) {
            (true, _) => more.min_ts,
            (_, true) => metadata.min_ts,
            _ => metadata.min_ts.min(more.min_ts),
        };
        metadata.max_ts = metadata.max_ts.max(more.max_ts);
        metadata.file_groups.extend(more.file_groups);
        let link = MetaLink { merged: count(&self.link).saturating_add(count(&next.link)), ..self.link };
        Ok(Merged { name: next.name, link, metadata })
    }
}

fn count(link: &MetaLink) -> u64 {
    link.merged.max(1)
}

/// A metadata object of ours, as its name says it is.
fn read(path: &str, bytes: &[u8]) -> Result<Merged, FormatError> {
    let name = MetaName::parse(path)?;
    let link = MetaLink::parse(path)?.ok_or_else(|| malformed(path, "its name has no link".to_owned()))?;
    if content_crc(bytes) != link.crc {
        return Err(malformed(path, "its checksum is not the one in its name".to_owned()));
    }
    let metadata = decode_metadata(path, bytes)?;
    let is_canonical = MetaName::of(&metadata, name.flush_ts, name.tag) == name && name.linked_path(&link) == path;
    if !is_canonical || encode_metadata(&metadata) != bytes {
        return Err(malformed(path, "there is something in it that this version does not write".to_owned()));
    }
    Ok(Merged { name, link, metadata })
}

fn malformed(object: &str, what: String) -> FormatError {
    FormatError::Malformed { object: object.to_owned(), offset: 0, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FLAG_NO_SCHEMA, ObjectTag, data_path, group, metadata};
    use logtide_model::Ts;

    /// One of the generations of a boot, each of which has a predecessor with the same times.
    fn object(generation: u64, previous: u64, ts: u64, schema: bool) -> (String, Vec<u8>) {
        let tag = ObjectTag { boot: 3, generation };
        let file = proto::DataFileInfo {
            cf: "write".into(),
            sha256: vec![1; 32],
            number_of_entries: 1,
            min_ts: ts,
            max_ts: ts + 5,
            min_begin_ts_in_default_cf: ts - 1,
            length: 40,
            range_length: 40,
            is_meta: schema,
            ..Default::default()
        };
        let path = data_path(7, Ts::new(ts), Ts::new(ts + 5), schema, tag, 0);
        let meta = metadata(7, vec![group(path, vec![file])], Ts::new(ts));
        let bytes = encode_metadata(&meta);
        let before = Previous { generation: previous, min_ts: Ts::new(1), max_ts: Ts::new(2) };
        let link = MetaLink { crc: content_crc(&bytes), previous: (previous > 0).then_some(before), merged: 0 };
        (MetaName::of(&meta, Ts::new(1000 + generation), Some(tag)).linked_path(&link), bytes)
    }

    fn merge(objects: &[(String, Vec<u8>)]) -> Result<(String, Vec<u8>), FormatError> {
        let objects: Vec<_> = objects.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        merge_metadata(&objects, None)
    }

    #[test]
    fn a_merged_object_takes_the_place_of_what_it_was_made_of() {
        let parts = [object(5, 2, 60, false), object(6, 5, 20, true), object(9, 6, 70, false)];
        let (path, bytes) = merge(&parts).unwrap();
        let name = MetaName::parse(&path).unwrap();
        assert_eq!((name.tag, name.flush_ts.get()), (Some(ObjectTag { boot: 3, generation: 9 }), 1009));
        assert_eq!((name.min_begin_ts.get(), name.min_ts.get(), name.max_ts.get(), name.flags), (19, 20, 75, 0));
        let link = MetaLink::parse(&path).unwrap().unwrap();
        assert_eq!((link.above(), link.merged, link.crc), (2, 3, content_crc(&bytes)));
        let merged = decode_metadata(&path, &bytes).unwrap();
        let each = parts.iter().flat_map(|(path, bytes)| decode_metadata(path, bytes).unwrap().file_groups);
        assert_eq!(merged.file_groups, each.collect::<Vec<_>>(), "in the order of their generations");
        assert_eq!((merged.store_id, merged.resolved_ts), (7, 70));
        assert_eq!(path.rsplit('/').next().unwrap().len(), 32 + 1 + 11 * 17 + 5, "a name that file systems allow");
    }

    #[test]
    fn merging_in_steps_gives_the_same_as_at_once() {
        let parts: Vec<_> = (1..=6).map(|g| object(g, g - 1, 10 * g, false)).collect();
        let at_once = merge(&parts).unwrap();
        for cut in 2..6 {
            let first = merge(&parts[..cut]).unwrap();
            let steps: Vec<_> = std::iter::once(first).chain(parts[cut..].iter().cloned()).collect();
            assert_eq!(merge(&steps).unwrap(), at_once);
        }
        assert_eq!(MetaName::parse(&at_once.0).unwrap().flags, FLAG_NO_SCHEMA);
    }

    #[test]
    fn what_says_more_of_the_one_before_counts() {
        let parts = [object(5, 2, 60, false), object(6, 5, 20, false)];
        let parts: Vec<_> = parts.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        let exact = Previous { generation: 2, min_ts: Ts::new(1), max_ts: Ts::new(99) };
        let (path, _) = merge_metadata(&parts, Some(exact)).unwrap();
        assert_eq!(MetaLink::parse(&path).unwrap().unwrap().previous, Some(exact));
    }

    #[test]
    fn what_is_damaged_or_does_not_follow_is_refused() {
        let (a, b, c) = (object(1, 0, 10, false), object(2, 1, 20, false), object(3, 2, 30, false));
        for bad in [vec![], vec![a.clone(), c.clone()], vec![b.clone(), a.clone()], vec![a.clone(), a.clone()]] {
            assert!(merge(&bad).is_err());
        }
        for bit in 0..b.1.len() * 8 {
            let mut damaged = b.clone();
            damaged.1[bit / 8] ^= 1 << (bit % 8);
            let error = merge(&[a.clone(), damaged]).unwrap_err().to_string();
            assert!(error.contains(&b.0), "{error}");
        }
        let foreign = (MetaName::parse(&b.0).unwrap().path(), b.1.clone());
        assert!(merge(&[a.clone(), foreign]).unwrap_err().to_string().contains("no link"));
    }
}
