//! Wall-clock time as Coiote writes it: `2026-11-22T18:00:00.123Z`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) fn now() -> String {
    iso(since_1970())
}

/// Milliseconds since 1970.
pub(crate) fn now_in_millis() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn iso_of_millis(millis: u64) -> String {
    iso(Duration::from_millis(millis))
}

/// Milliseconds since 1970 of a text such as `2026-11-22T18:00:00Z` or `2026-11-22T18:00:00.123Z`; what is below a
/// millisecond is dropped.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let valid = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !valid || hour > 23 || minute > 59 || second > 60 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis: u64 = fraction.chars().chain("000".chars()).take(3).collect::<String>().parse().ok()?;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1000 + millis)
}

fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let parts: Option<Vec<u64>> = text.split(between).map(|part| part.parse().ok()).collect();
    parts?.try_into().ok()
}

/// The inverse of `civil`.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A point in time as Coiote shows it among a device's values, in whole seconds; none before 1970.
pub(crate) fn at(seconds: i64) -> Option<String> {
    let text = iso(Duration::from_secs(u64::try_from(seconds).ok()?));
    text.strip_suffix(".000Z").filter(|text| text.len() == "2026-11-22T18:00:00".len()).map(|text| format!("{text}Z"))
}

/// The seconds of what [`at`] writes.
pub(crate) fn seconds_of(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u32>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    // Days of whole years and months, counted as if all were there, are a guess from which the date is at most some days.
    let guess = (u64::from(year).checked_sub(1970)?) * 365 + u64::from(month.checked_sub(1)?) * 28;
    let wanted = (u64::from(year), u64::from(month), u64::from(day));
    let days = (guess..guess + 2_500).find(|days| civil(*days) == wanted)?;
    let seconds = days * 86_400 + u64::from(hour) * 3600 + u64::from(minute) * 60 + u64::from(second);
    let seconds = i64::try_from(seconds).ok()?;
    (at(seconds).as_deref() == Some(text)).then_some(seconds)
}

fn iso(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since_1970.subsec_millis())
}

/// Days since 1970 to a date: Howard Hinnant's `civil_from_days`, with years that start in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for seconds in [0, 951_782_400, 1_665_149_602, 1_795_370_400, 4_107_542_399, 253_402_300_799] {
            let text = at(seconds).unwrap();
            assert_eq!(seconds_of(&text), Some(seconds), "{text}");
        }
        assert_eq!((at(-1), at(i64::MAX)), (None, None));
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
