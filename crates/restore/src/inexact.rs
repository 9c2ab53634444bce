//! What the log cannot tell: key ranges that were changed past MVCC, and so cannot be restored exactly.
//!
//! A mark says that keys were removed (or added) after everything up to `after` was resolved and before `before`. Up to
//! `after` nothing is changed by it; from a log that begins at or above `before`, put on a base, neither. To any other
//! ts the log brings removed keys back, and lacks added ones: a restore refuses that unless it is allowed. What is done then about
//! commits whose values are gone is in [`crate::lost`].

use std::collections::BTreeSet;
use std::fmt;

use futures::TryStreamExt;
use logtide_format::{MARKS_PREFIX, Mark, MarkKind, decode_marks};
use logtide_storage::Storage;
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use crate::RestoreError;
use crate::error::KeyText;
use crate::log_info::{list, unreadable};
use crate::lost::{Gather, Removed};
use crate::memory::Means;
use crate::plan::Window;

/// As many are kept and shown; the others are counted.
const SHOWN: usize = 100;
/// Objects of marks that are read at once.
const AT_ONCE: usize = 8;

/// Something that the log cannot tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Inexact {
    /// A ts up to this one is exact.
    pub after: u64,
    /// It had happened when this ts was taken.
    pub before: u64,
    /// What happened.
    pub what: String,
    /// The store that saw it.
    pub store: u64,
    /// The region.
    pub region: u64,
    /// The column family.
    pub cf: String,
    /// First raw key, in hexadecimal.
    pub start_key: String,
    /// Behind the last raw key, in hexadecimal; empty for none.
    pub end_key: String,
    /// The object that says so.
    pub object: String,
}

/// What the log cannot tell: the first, by their ts, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InexactRanges {
    /// Those with the smallest `after`: at most 100.
    pub first: Vec<Inexact>,
    /// All of them.
    pub count: u64,
}

impl fmt::Display for Inexact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inexact { after, before, what, store, region, cf, start_key, end_key, object } = self;
        let end_key = if end_key.is_empty() { "the end" } else { end_key };
        write!(
            f,
            "{what} in {cf} of region {region}, keys {start_key} to {end_key}, between {after} and {before} (seen by \
             store {store}, {object})"
        )
    }
}

/// All that the log of a storage cannot tell.
///
/// # Errors
/// [`RestoreError::Storage`]; [`RestoreError::Metadata`] for a damaged object of marks.
pub async fn inexact_ranges(storage: &Storage) -> Result<InexactRanges, RestoreError> {
    ranges(storage, |_| Ok(true)).await
}

/// What matters to a window, with the ranges in which values may be lost; or the refusal of it.
pub(crate) async fn check(
    storage: &Storage,
    window: &Window,
    is_allowed: bool,
    means: &Means,
) -> Result<(InexactRanges, Option<Removed>), RestoreError> {
    let mut removed = Gather::new(means);
    let wanted = |mark: &Mark| {
        let matters = matters(mark, window);
        if matters && is_allowed {
            removed.add(mark)?;
        }
        Ok(matters)
    };
    let ranges = ranges(storage, wanted).await?;
    match ranges.first.first() {
        Some(first) if !is_allowed => {
            Err(RestoreError::Inexact { asked: window.upto, first: Box::new(first.clone()), more: ranges.count - 1 })
        }
        _ => Ok((ranges, removed.finish()?)),
    }
}

fn matters(mark: &Mark, window: &Window) -> bool {
    mark.after < window.upto && mark.before > window.start && mark.range.overlaps(&window.range)
}

async fn ranges(
    storage: &Storage,
    mut wanted: impl FnMut(&Mark) -> Result<bool, RestoreError>,
) -> Result<InexactRanges, RestoreError> {
    let read = |meta: ObjectMeta| async move {
        let object = meta.location.as_ref();
        let failed = |e| unreadable(storage, object, e);
        let bytes = storage.store.get(&meta.location).await.map_err(failed)?.bytes().await.map_err(failed)?;
        let (store, marks) = decode_marks(object, &bytes)?;
        Ok::<_, RestoreError>((object.to_owned(), store, marks))
    };
    let (mut first, mut count) = (BTreeSet::new(), 0);
    let objects = list(storage, MARKS_PREFIX).map_ok(read).try_buffer_unordered(AT_ONCE);
    let mut objects = std::pin::pin!(objects);
    while let Some((object, store, marks)) = objects.try_next().await? {
        for mark in &marks {
            if wanted(mark)? {
                count += 1;
                first.insert(inexact(mark, store, &object));
                if first.len() > SHOWN {
                    first.pop_last();
                }
            }
        }
    }
    Ok(InexactRanges { first: first.into_iter().collect(), count })
}

fn inexact(mark: &Mark, store: u64, object: &str) -> Inexact {
    let what = match mark.kind {
        MarkKind::RangeDelete => "a range delete".to_owned(),
        MarkKind::Ingest => "an ingested file".to_owned(),
        MarkKind::BadRecord => "a record that is none of MVCC".to_owned(),
        MarkKind::Other(kind) => format!("a change of kind {kind}, which this version does not know,"),
    };
    Inexact {
        after: mark.after.get(),
        before: mark.before.get(),
        what,
        store,
        region: mark.region_id,
        cf: mark.cf.name().to_owned(),
        start_key: KeyText::of(&mark.range.start).to_string(),
        end_key: KeyText::of(&mark.range.end).to_string(),
        object: object.to_owned(),
    }
}
