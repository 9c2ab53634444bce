//! Names of data objects.

use logtide_model::Ts;

use super::ObjectTag;

/// Bits of [`ObjectTag::boot`] that the name of a data object holds.
pub const TAG_BOOT_BITS: u32 = 40;
/// Bits of [`ObjectTag::generation`] that the name of a data object holds.
pub const TAG_GENERATION_BITS: u32 = 50;

/// The path of a data object: `v1/{date}/{hour}/{store}/[schema-meta/]{min_ts}-{uuid}.log`, date and hour in UTC of
/// `max_ts`. Where TiKV has a random UUID this has a version 8 one that says which boot, generation and object it is.
pub fn data_path(store_id: u64, min_ts: Ts, max_ts: Ts, schema: bool, tag: ObjectTag, index: u32) -> String {
    let hours = max_ts.physical_ms() / 3_600_000;
    let (year, month, day) = civil(hours / 24);
    let hour = hours % 24;
    let schema = if schema { "schema-meta/" } else { "" };
    let uuid = uuid(tag, index);
    format!("v1/{year:04}{month:02}{day:02}/{hour:02}/{store_id}/{schema}{min_ts}-{uuid}.log")
}

/// A UUID that is unique and sorts as objects were made: from the top 40 bits of the boot epoch, 50 of the generation, 32
/// of the index; so that within a store no two are equal.
fn uuid(tag: ObjectTag, index: u32) -> String {
    let low = |n: u64, bits: u32| u128::from(n & ((1 << bits) - 1));
    uuid_of(low(tag.boot, TAG_BOOT_BITS) << 82 | low(tag.generation, TAG_GENERATION_BITS) << 32 | u128::from(index))
}

/// A UUID of version 8 (RFC 9562 §5.8) with these 122 bits.
pub fn uuid_of(free: u128) -> String {
    let (a, b, c) = (free >> 74 & ((1 << 48) - 1), free >> 62 & 0xfff, free & ((1 << 62) - 1));
    let bits = a << 80 | 8 << 76 | b << 64 | 0b10 << 62 | c;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// What [`uuid_of`] was made of: `None` for what is no UUID, `Some(None)` for one of another version. Either case.
pub fn parse_uuid(text: &str) -> Option<Option<u128>> {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let digits = groups.concat();
    if lengths != [8, 4, 4, 4, 12] || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let bits = u128::from_str_radix(&digits, 16).ok()?;
    let free = bits >> 80 << 74 | (bits >> 64 & 0xfff) << 62 | bits & ((1 << 62) - 1);
    Some((bits >> 76 & 0xf == 8).then_some(free))
}

/// A time in UTC, given in milliseconds since 1970, as RFC 3339 has it.
pub fn utc_text(ms: u64) -> String {
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let ((year, month, day), of_day) = (civil(seconds / 86_400), seconds % 86_400);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// What the name of a data object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataName {
    /// The store that wrote it.
    pub store_id: u64,
    /// The smallest ts of its records.
    pub min_ts: Ts,
    /// True for records of schema keys.
    pub schema: bool,
    /// Which boot and generation wrote it, and which object of that generation it is; `None` for a name with a random
    /// UUID, as TiKV has them.
    pub origin: Option<(ObjectTag, u32)>,
}

impl DataName {
    /// Reads the name of a data object; `None` for anything else.
    pub fn parse(object_path: &str) -> Option<Self> {
        let mut parts = object_path.strip_prefix("v1/")?.split('/');
        let (date, hour, store) = (parts.next()?, parts.next()?, parts.next()?);
        let (schema, file) = match (parts.next()?, parts.next()) {
            ("schema-meta", Some(file)) => (true, file),
            (file, None) => (false, file),
            _ => return None,
        };
        if parts.next().is_some() || date.len() != 8 || hour.len() != 2 {
            return None;
        }
        decimal(date).and(decimal(hour))?;
        let (min_ts, uuid) = file.strip_suffix(".log")?.split_once('-')?;
        let (store_id, min_ts) = (decimal(store)?, Ts::new(decimal(min_ts)?));
        Some(DataName { store_id, min_ts, schema, origin: origin(uuid)? })
    }
}

/// Digits and nothing else.
fn decimal(digits: &str) -> Option<u64> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// What a [`uuid`] was made of: `Some(None)` for a UUID of another version.
fn origin(text: &str) -> Option<Option<(ObjectTag, u32)>> {
    let free = parse_uuid(text)?;
    let generation = |free: u128| (free >> 32) as u64 & ((1 << TAG_GENERATION_BITS) - 1);
    let of = |free| (ObjectTag { boot: (free >> 82) as u64, generation: generation(free) }, free as u32);
    Some(free.map(of))
}

/// Year, month and day of a number of days since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms",
/// `civil_from_days`, for days that are not negative).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + era * 400 + u64::from(month <= 2), month, of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_are_utc_of_the_largest_ts() {
        let path = |ms: u64| data_path(1, Ts::ZERO, Ts::compose(ms, 5), false, ObjectTag { boot: 0, generation: 0 }, 0);
        for (ms, date) in [
            (0, "19700101/00"),
            (951_782_399_999, "20000228/23"),
            (951_782_400_000, "20000229/00"),
            (951_868_800_000, "20000301/00"),
            (4_107_542_400_000, "21000301/00"),
            (4_107_542_399_999, "21000228/23"),
            (1_760_000_150_000, "20251009/08"),
            (Ts::MAX.physical_ms(), "41991124/01"),
        ] {
            let path = path(ms);
            assert!(path.starts_with(&format!("v1/{date}/1/0-")), "{ms}: {path}");
        }
    }

    #[test]
    fn a_path_of_each_sort() {
        let (min, max) = (Ts::new(461373488758784002), Ts::compose(1_760_000_150_000, 0));
        let tag = ObjectTag { boot: 3, generation: 7 };
        assert_eq!(
            data_path(2, min, max, false, tag, 1),
            "v1/20251009/08/2/461373488758784002-00000000-0300-8000-8000-000700000001.log"
        );
        assert_eq!(
            data_path(2, min, max, true, tag, 0),
            "v1/20251009/08/2/schema-meta/461373488758784002-00000000-0300-8000-8000-000700000000.log"
        );
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        assert_eq!(utc_text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc_text(951_868_799_999), "2000-02-29T23:59:59.999Z");
        assert_eq!(parse_uuid(&uuid_of(7 << 100 | 9).to_uppercase()), Some(Some(7 << 100 | 9)));
    }

    #[test]
    fn names_of_others_are_read_or_refused() {
        let of_tikv = "v1/20251009/08/2/461373488758784002-f47ac10b-58cc-4372-a567-0e02b2c3d479.log";
        let name = DataName::parse(of_tikv).unwrap();
        assert_eq!((name.store_id, name.min_ts.get(), name.schema, name.origin), (2, 461373488758784002, false, None));
        for other in [
            "v1/backupmeta/x.meta",
            "v1/20251009/08/2/a/461373488758784002-f47ac10b-58cc-4372-a567-0e02b2c3d479.log",
            "v1/20251009/08/2/461373488758784002-f47ac10b-58cc-4372-a567.log",
            "v1/20251009/8/2/461373488758784002-f47ac10b-58cc-4372-a567-0e02b2c3d479.log",
            "v1/20251009/08/+2/1-f47ac10b-58cc-4372-a567-0e02b2c3d479.log",
            "v1/20251009/08/2/schema-meta/",
        ] {
            assert_eq!(DataName::parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_back(
            store: u64, min: u64, max: u64, schema: bool,
            boot in 0..1u64 << TAG_BOOT_BITS, generation in 0..1u64 << TAG_GENERATION_BITS, index: u32,
        ) {
            let tag = ObjectTag { boot, generation };
            let path = data_path(store, Ts::new(min), Ts::new(max), schema, tag, index);
            let name = DataName { store_id: store, min_ts: Ts::new(min), schema, origin: Some((tag, index)) };
            prop_assert_eq!(DataName::parse(&path), Some(name));
        }

        #[test]
        fn uuids_are_unique_ordered_and_of_version_8(
            a in (0..1u64 << TAG_BOOT_BITS, 0..1u64 << TAG_GENERATION_BITS, any::<u32>()),
            b in (0..1u64 << TAG_BOOT_BITS, 0..1u64 << TAG_GENERATION_BITS, any::<u32>()),
        ) {
            let of = |(boot, generation, index)| uuid(ObjectTag { boot, generation }, index);
            prop_assert_eq!(a.cmp(&b), of(a).cmp(&of(b)));
            let text = of(a);
            prop_assert_eq!((text.len(), &text[14..15]), (36, "8"));
            prop_assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"));
        }
    }
}
