//! Wall-clock time as Coiote writes it: RFC 3339 in UTC, as in `2026-11-22T18:00:00.123Z`.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The present time, to the millisecond.
pub(crate) fn now() -> String {
    iso_of_millis(now_in_millis())
}

/// Milliseconds since 1970.
pub(crate) fn now_in_millis() -> u64 {
    millis(OffsetDateTime::now_utc()).unwrap_or_default()
}

/// Text such as `2026-11-22T18:00:00.123Z`, from milliseconds since 1970.
pub(crate) fn iso_of_millis(millis: u64) -> String {
    let whole_seconds = i64::try_from(millis / 1000).ok().and_then(iso_of_seconds).unwrap_or_default();
    format!("{}.{:03}Z", whole_seconds.trim_end_matches('Z'), millis % 1000)
}

/// Milliseconds since 1970 of a text such as `2026-11-22T18:00:00Z` or `2026-11-22T18:00:00.123Z`. Fractions of a
/// millisecond are dropped.
pub(crate) fn parse(text: &str) -> Option<u64> {
    // RFC 3339 allows other offsets than Z; Coiote's API does not.
    millis(OffsetDateTime::parse(text, &Rfc3339).ok().filter(|_| text.ends_with('Z'))?)
}

/// Time as Coiote shows it among a device's values: in whole seconds, from seconds since 1970. `None` before 1970.
pub(crate) fn iso_of_seconds(seconds: i64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok().filter(|_| seconds >= 0)?;
    time.format(&Rfc3339).ok()
}

/// Seconds since 1970 of a text in exactly the form that [`iso_of_seconds`] writes.
pub(crate) fn seconds_of(text: &str) -> Option<i64> {
    let seconds = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp();
    (iso_of_seconds(seconds).as_deref() == Some(text)).then_some(seconds)
}

fn millis(time: OffsetDateTime) -> Option<u64> {
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for seconds in [0, 951_782_400, 1_665_149_602, 1_795_370_400, 4_107_542_399, 253_402_300_799] {
            let text = iso_of_seconds(seconds).unwrap();
            assert_eq!(seconds_of(&text), Some(seconds), "{text}");
        }
        assert_eq!((iso_of_seconds(-1), iso_of_seconds(i64::MAX)), (None, None));
        for text in
            ["", "1795370400", "2026-11-22", "2026-02-29T00:00:00Z", "2026-11-22T18:00:00.000Z", "2026-11-22T18:60:00Z"]
        {
            assert_eq!(seconds_of(text), None, "{text}");
        }
    }

    #[test]
    fn writes_dates() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_370_400_123, "2026-11-22T18:00:00.123Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso_of_millis(millis), text);
            assert_eq!(parse(text), Some(millis));
        }
    }

    #[test]
    fn reads_what_others_write() {
        for (text, millis) in [
            ("2026-11-22T18:00:00Z", Some(1_795_370_400_000)),
            ("2026-11-22T18:00:00.12Z", Some(1_795_370_400_120)),
            ("2026-11-22T18:00:00.123999Z", Some(1_795_370_400_123)),
            ("2026-11-22T18:00:00", None),
            ("2026-11-22T18:00:00+01:00", None),
            ("2026-02-30T18:00:00Z", None),
            ("2026-11-22", None),
            ("2026-13-22T18:00:00Z", None),
            ("2026-11-22T25:00:00Z", None),
            ("2026-11-22T18:00:00.xZ", None),
            ("1969-11-22T18:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(parse(text), millis, "{text}");
        }
    }
}
