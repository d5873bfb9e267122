//! Wall-clock time as Coiote writes it: `2026-11-22T18:00:00.123Z`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) fn now() -> String {
    iso(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
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
            assert_eq!(iso(Duration::from_millis(millis)), text);
        }
    }
}
