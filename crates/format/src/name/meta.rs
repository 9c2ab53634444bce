//! Names of metadata objects.

use logtide_model::Ts;

use super::{METADATA_PREFIX, ObjectTag};
use crate::{FormatError, NameFault, proto};

/// [`MetaName::flags`]: no schema files are referenced.
pub const FLAG_NO_SCHEMA: u64 = 1;
/// [`MetaName::flags`]: there are no data objects at all.
pub const FLAG_NO_GROUPS: u64 = 2;

/// What the name of a metadata object says, so that a reader can pass over objects without fetching them:
/// `{flush_ts:016X}{store_id:016X}-d{min_begin_ts}l{min_ts}u{max_ts}p{flags}.meta`, and of ours `b{boot}g{generation}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetaName {
    /// When the store flushed. No bound of its records.
    pub flush_ts: Ts,
    /// The store; 0 in a [`NameForm::Ranged`] name, which does not say.
    pub store_id: u64,
    /// Smallest `min_begin_ts_in_default_cf`.
    pub min_begin_ts: Ts,
    /// Smallest ts of its records.
    pub min_ts: Ts,
    /// Largest ts of its records.
    pub max_ts: Ts,
    /// [`FLAG_NO_SCHEMA`], [`FLAG_NO_GROUPS`]; 0 if the name has none.
    pub flags: u64,
    /// Ours: which boot and generation wrote it.
    pub tag: Option<ObjectTag>,
}

/// The forms that names of metadata objects have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameForm {
    /// Today's.
    Tagged(MetaName),
    /// `{flush_ts}-{min_begin_ts}-{min_ts}-{max_ts}.meta`: no store, no flags.
    Ranged(MetaName),
    /// Any other `….meta`: only its content counts.
    Opaque,
}

impl MetaName {
    /// The name of a metadata object.
    pub fn of(meta: &proto::Metadata, flush_ts: Ts, tag: Option<ObjectTag>) -> Self {
        let groups = || meta.file_groups.iter().flat_map(|g| &g.data_files_info);
        let files = || groups().chain(&meta.files);
        let no_schema = !files().any(|f| f.is_meta);
        let no_groups = meta.file_groups.is_empty() && meta.files.is_empty();
        MetaName {
            flush_ts,
            store_id: meta.store_id as u64,
            min_begin_ts: Ts::new(files().map(|f| f.min_begin_ts_in_default_cf).min().unwrap_or(0)),
            min_ts: Ts::new(meta.min_ts),
            max_ts: Ts::new(meta.max_ts),
            flags: if no_schema { FLAG_NO_SCHEMA } else { 0 } | if no_groups { FLAG_NO_GROUPS } else { 0 },
            tag,
        }
    }

    /// The object's path.
    pub fn path(&self) -> String {
        let MetaName { flush_ts, store_id, min_begin_ts, min_ts, max_ts, flags, tag } = self;
        let (flush, begin, min, max) = (flush_ts.get(), min_begin_ts.get(), min_ts.get(), max_ts.get());
        let tag = tag.map(|t| format!("b{:016X}g{:016X}", t.boot, t.generation)).unwrap_or_default();
        format!(
            "{METADATA_PREFIX}/{flush:016X}{store_id:016X}-d{begin:016X}l{min:016X}u{max:016X}p{flags:016X}{tag}.meta"
        )
    }

    /// Reads a name that says something: today's form or the one before. `object_path` may have folders before it.
    ///
    /// # Errors
    /// [`FormatError::BadName`]; with [`NameFault::Opaque`] for a form in which only the content counts.
    pub fn parse(object_path: &str) -> Result<Self, FormatError> {
        match NameForm::parse(object_path)? {
            NameForm::Tagged(name) | NameForm::Ranged(name) => Ok(name),
            NameForm::Opaque => Err(bad_name(object_path, NameFault::Opaque)),
        }
    }
}

impl NameForm {
    /// Reads any name of a metadata object.
    ///
    /// # Errors
    /// [`FormatError::BadName`] if it does not end with `.meta`, or has today's form with a malformed, repeated or
    /// missing tag.
    pub fn parse(object_path: &str) -> Result<Self, FormatError> {
        let file = object_path.rsplit('/').next().unwrap_or(object_path);
        let form = match file.strip_suffix(".meta") {
            None => Err(NameFault::Suffix),
            Some(stem) => match (ranged(stem), tagged_head(stem)) {
                (Some(name), _) => Ok(NameForm::Ranged(name)),
                (None, Some((flush_ts, store_id, tags))) => tagged(flush_ts, store_id, tags).map(NameForm::Tagged),
                (None, None) => Ok(NameForm::Opaque),
            },
        };
        form.map_err(|fault| bad_name(object_path, fault))
    }
}

pub(super) fn bad_name(name: &str, fault: NameFault) -> FormatError {
    FormatError::BadName { name: name.to_owned(), fault }
}

/// 16 hexadecimal digits, either case.
pub(crate) fn hex16(digits: &str) -> Option<u64> {
    let good = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    good.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

fn ranged(stem: &str) -> Option<MetaName> {
    let mut parts = stem.split('-').map(|part| hex16(part).map(Ts::new));
    let (flush_ts, min_begin_ts) = (parts.next()??, parts.next()??);
    let (min_ts, max_ts) = (parts.next()??, parts.next()??);
    let name = MetaName { flush_ts, store_id: 0, min_begin_ts, min_ts, max_ts, flags: 0, tag: None };
    parts.next().is_none().then_some(name)
}

/// Flush ts, store id and the rest of a name that has today's form.
fn tagged_head(stem: &str) -> Option<(u64, u64, &str)> {
    let (head, tags) = stem.split_once('-')?;
    let (flush_ts, store_id) = head.split_at_checked(16)?;
    Some((hex16(flush_ts)?, hex16(store_id)?, tags))
}

/// Bytes of a tag and its value.
pub(super) const SEGMENT: usize = 17;

fn tagged(flush_ts: u64, store_id: u64, mut tags: &str) -> Result<MetaName, NameFault> {
    let mut seen: Vec<(char, u64)> = Vec::new();
    while !tags.is_empty() {
        let (segment, rest) = tags.split_at_checked(SEGMENT).unwrap_or((tags, ""));
        let (tag, value) = parse_segment(segment).ok_or_else(|| NameFault::Segment(segment.to_owned()))?;
        if seen.iter().any(|(t, _)| *t == tag) {
            return Err(NameFault::Duplicate(tag));
        }
        seen.push((tag, value));
        tags = rest;
    }
    let find = |tag| seen.iter().find(|(t, _)| *t == tag).map(|(_, value)| *value);
    let must = |tag| find(tag).ok_or(NameFault::Missing(tag)).map(Ts::new);
    Ok(MetaName {
        flush_ts: Ts::new(flush_ts),
        store_id,
        min_begin_ts: must('d')?,
        min_ts: must('l')?,
        max_ts: must('u')?,
        flags: find('p').unwrap_or(0),
        tag: find('b').zip(find('g')).map(|(boot, generation)| ObjectTag { boot, generation }),
    })
}

fn parse_segment(segment: &str) -> Option<(char, u64)> {
    let tag = segment.chars().next().filter(char::is_ascii_alphanumeric)?;
    Some((tag, hex16(&segment[1..])?))
}
