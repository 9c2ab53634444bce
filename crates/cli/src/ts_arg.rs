//! Timestamps as people write them: a number, or a date and time with its zone.

use jiff::Timestamp;
use jiff::fmt::strtime;
use logtide_model::Ts;

/// Parses `461373534372102149`, `2026-11-21 12:00:00 +00:00`, `2026-11-21T12:00:00Z` (fractions of seconds allowed).
pub(crate) fn parse(text: &str) -> Result<Ts, String> {
    if let Ok(ts) = text.parse::<u64>() {
        return Ok(Ts::new(ts));
    }
    let at = parse_time(text).ok_or_else(|| {
        format!(
            "'{text}' is neither a timestamp (a number) nor a time with its zone, as in '2026-11-21 12:00:00 +00:00'"
        )
    })?;
    let ms = u64::try_from(at.as_millisecond()).map_err(|_| format!("'{text}' lies before 1970"))?;
    Ok(Ts::compose(ms, 0))
}

fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    let formats = ["%Y-%m-%d %H:%M:%S%.f %:z", "%Y-%m-%d %H:%M:%S%.f %z", "%Y-%m-%d %H:%M:%S%.f%z"];
    formats.iter().find_map(|format| strtime::parse(format, text).ok()?.to_timestamp().ok())
}

/// `461373534372102149 (2026-11-21 12:00:00.123 +0000)`.
pub(crate) fn show(ts: Ts) -> String {
    format!("{ts} ({})", show_time(ts))
}

/// The time of a timestamp, in UTC.
pub(crate) fn show_time(ts: Ts) -> String {
    let ms = i64::try_from(ts.physical_ms()).unwrap_or(i64::MAX);
    match Timestamp::from_millisecond(ms) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S.%3f +0000").to_string(),
        Err(_) => "beyond the calendar".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_mean_the_same() {
        let ts = Ts::compose(1_795_262_400_123, 0);
        for text in [
            &ts.to_string(),
            "2026-11-21 12:00:00.123 +0000",
            "2026-11-21 14:00:00.123 +02:00",
            "2026-11-21T12:00:00.123Z",
        ] {
            assert_eq!(parse(text), Ok(ts), "{text}");
        }
        assert_eq!(show_time(ts), "2026-11-21 12:00:00.123 +0000");
    }

    #[test]
    fn a_time_without_zone_is_refused() {
        assert!(parse("2026-11-21 12:00:00").unwrap_err().contains("zone"));
        assert!(parse("yesterday").is_err());
        assert!(parse("1969-01-01T00:00:00Z").unwrap_err().contains("1970"));
    }
}
