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

/// A UUID of version 8 (RFC 9562 §5.8). Its 122 free bits are, from the top: 40 of the boot epoch, 50 of the
/// generation, 32 of the index; so that within a store no two are equal, and they sort as they were made.
fn uuid(tag: ObjectTag, index: u32) -> String {
    let low = |n: u64, bits: u32| u128::from(n & ((1 << bits) - 1));
    let free = low(tag.boot, TAG_BOOT_BITS) << 82 | low(tag.generation, TAG_GENERATION_BITS) << 32 | u128::from(index);
    let (a, b, c) = (free >> 74, free >> 62 & 0xfff, free & ((1 << 62) - 1));
    let bits = a << 80 | 8 << 76 | b << 64 | 0b10 << 62 | c;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
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

    proptest! {
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
