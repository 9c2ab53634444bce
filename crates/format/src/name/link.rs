//! What names of our metadata objects say beyond the format, so that a reader notices what is damaged or gone: a checksum
//! of the content, and which object of the same store and boot came before.
//!
//! Generations are numbered without a gap, but one without data writes no object: so each object names its
//! predecessor, and says which ts that one has, for only then can a reader tell an object that is lost from one that
//! was truncated since nobody needs it any more. Of objects that were merged, the one that took their place has the
//! predecessor of the first and the generation of the last: it covers what they covered. Other readers pass over
//! these tags (`reference/log-backup-format.md` §1).

use logtide_model::Ts;
use logtide_model::planted::Bug;

use super::MetaName;
use super::meta::{bad_name, hex16};
use crate::{FormatError, NameFault};

/// Tags of a [`MetaLink`]; `d`, `l`, `u`, `p`, `b` and `g` are taken.
const CRC: char = 'k';
const PREVIOUS: char = 'c';
const PREVIOUS_MIN: char = 'x';
const PREVIOUS_MAX: char = 'y';
/// Only where several objects were merged into one.
const MERGED: char = 'n';

/// What the name of one of our metadata objects says of its content, and of the object before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaLink {
    /// [`content_crc`] of the object.
    pub crc: u64,
    /// The object before it; `None` for the first of a boot.
    pub previous: Option<Previous>,
    /// The metadata objects of so many generations were merged into it; 0 for that of one generation.
    pub merged: u64,
}

impl MetaLink {
    /// The object holds the metadata of all generations above this one, up to its own: those that have none wrote
    /// nothing.
    pub fn above(&self) -> u64 {
        self.previous.map_or(0, |previous| previous.generation)
    }

    /// True if several objects were merged into this one.
    pub fn is_merged(&self) -> bool {
        self.merged > 0
    }
}

/// The last metadata object before another one, of the same store and boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Previous {
    /// Its generation, at least 1.
    pub generation: u64,
    /// Smallest ts of its records.
    pub min_ts: Ts,
    /// Largest ts of its records.
    pub max_ts: Ts,
}

/// The checksum of a metadata object: CRC-64/XZ of its bytes as they are stored.
pub fn content_crc(bytes: &[u8]) -> u64 {
    let mut digest = crc64fast::Digest::new();
    digest.write(bytes);
    digest.sum64()
}

impl MetaName {
    /// The object's path, with a link.
    pub fn linked_path(&self, link: &MetaLink) -> String {
        if Bug::EqualNames.is_planted() {
            let max_ts = Ts::MAX;
            let same = MetaName {
                flush_ts: Ts::ZERO,
                min_begin_ts: Ts::ZERO,
                min_ts: Ts::ZERO,
                max_ts,
                flags: 0,
                tag: None,
                ..*self
            };
            return same.path();
        }
        let mut path = self.path();
        path.truncate(path.len() - ".meta".len());
        let (generation, min, max) = link
            .previous
            .map_or((0, 0, 0), |previous| (previous.generation, previous.min_ts.get(), previous.max_ts.get()));
        let crc = link.crc;
        let merged = if link.is_merged() { format!("{MERGED}{:016X}", link.merged) } else { String::new() };
        format!(
            "{path}{CRC}{crc:016X}{PREVIOUS}{generation:016X}{PREVIOUS_MIN}{min:016X}{PREVIOUS_MAX}{max:016X}{merged}.meta"
        )
    }
}

impl MetaLink {
    /// The link in the name of a metadata object; `None` if it has none.
    ///
    /// # Errors
    /// [`FormatError::BadName`] if only a part of a link is there.
    pub fn parse(object_path: &str) -> Result<Option<MetaLink>, FormatError> {
        let stem = object_path.rsplit('/').next().and_then(|file| file.strip_suffix(".meta"));
        let Some((_, tags)) = stem.and_then(|stem| stem.split_once('-')) else { return Ok(None) };
        let find = |tag| {
            let mut segments = tags.as_bytes().chunks(super::meta::SEGMENT);
            let of_tag = segments.find(|segment| segment.first() == Some(&(tag as u8)));
            of_tag.and_then(|segment| hex16(std::str::from_utf8(segment.get(1..)?).ok()?))
        };
        let Some(crc) = find(CRC) else { return Ok(None) };
        let must = |tag| find(tag).ok_or_else(|| bad_name(object_path, NameFault::Missing(tag)));
        let (generation, min_ts, max_ts) = (must(PREVIOUS)?, must(PREVIOUS_MIN)?, must(PREVIOUS_MAX)?);
        let previous = Previous { generation, min_ts: Ts::new(min_ts), max_ts: Ts::new(max_ts) };
        let merged = find(MERGED).unwrap_or(0);
        Ok(Some(MetaLink { crc, previous: (generation > 0).then_some(previous), merged }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectTag;

    fn name() -> MetaName {
        let ts = Ts::new;
        let tag = Some(ObjectTag { boot: 2, generation: 7 });
        MetaName { flush_ts: ts(9), store_id: 1, min_begin_ts: ts(3), min_ts: ts(4), max_ts: ts(5), flags: 1, tag }
    }

    #[test]
    fn a_link_is_read_back_and_the_rest_of_the_name_is_as_ever() {
        let previous = Previous { generation: 5, min_ts: Ts::new(1), max_ts: Ts::new(2) };
        for (previous, merged) in [(None, 0), (Some(previous), 0), (None, 3), (Some(previous), 16)] {
            let link = MetaLink { crc: 0xfeed, previous, merged };
            assert_eq!((link.above(), link.is_merged()), (previous.map_or(0, |_| 5), merged > 0));
            let path = name().linked_path(&link);
            assert_eq!(MetaLink::parse(&path).unwrap(), Some(link));
            assert_eq!(MetaName::parse(&path).unwrap(), name(), "readers that know nothing of links read the name");
            let file = path.rsplit('/').next().unwrap();
            assert!(file.len() <= 255, "file systems allow no longer name: {}", file.len());
        }
        assert_eq!(MetaLink::parse(&name().path()).unwrap(), None);
        for other in ["v1/backupmeta/anything.meta", "v1/backupmeta/a-k.meta", "a/b"] {
            assert_eq!(MetaLink::parse(other).unwrap(), None);
        }
    }

    #[test]
    fn half_a_link_is_none() {
        let path = name().linked_path(&MetaLink { crc: 1, previous: None, merged: 0 });
        for tag in [PREVIOUS, PREVIOUS_MIN, PREVIOUS_MAX] {
            let at = path.rfind(tag).unwrap();
            let without = format!("{}{}", &path[..at], &path[at + 17..]);
            let error = MetaLink::parse(&without).unwrap_err().to_string();
            assert!(error.contains(&format!("'{tag}' is missing")), "{error}");
        }
    }

    #[test]
    fn the_checksum_is_that_of_crc_64_xz() {
        // The check value of the catalogue of parametrised CRC algorithms.
        assert_eq!(content_crc(b"123456789"), 0x995d_c9bb_df19_39fa);
    }
}
