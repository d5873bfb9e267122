//! Points in time in the form in which Coiote shows them: ISO 8601, `2022-10-07T13:33:22Z`.

const SECONDS_OF_A_DAY: i64 = 86_400;

/// Parses a date and time with `Z` or an offset to seconds since 1970-01-01T00:00:00Z. A fraction has to be zero, because
/// LwM2M's Time has whole seconds.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let (rest, day) = date.rsplit_once('-')?;
    let (year, month) = rest.rsplit_once('-')?;
    let (year, [month], [day]) = (year_of(year)?, numbers(month, '-', [2])?, numbers(day, '-', [2])?);
    let (time, offset) = match time.strip_suffix('Z') {
        Some(time) => (time, 0),
        None => {
            let (time, offset) = time.split_at_checked(time.rfind(['+', '-'])?)?;
            let [hours, minutes] = numbers(offset.get(1..)?, ':', [2, 2])?;
            let seconds = (hours < 24 && minutes < 60).then_some(hours * 3_600 + minutes * 60)?;
            (time, if offset.starts_with('+') { seconds } else { -seconds })
        }
    };
    let time = match time.split_once('.') {
        Some((time, fraction)) if !fraction.is_empty() && fraction.bytes().all(|digit| digit == b'0') => time,
        Some(_) => return None,
        None => time,
    };
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let is_valid = (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    is_valid
        .then(|| days_since_1970(year, month, day) * SECONDS_OF_A_DAY + hour * 3_600 + minute * 60 + second - offset)
}

/// Parses a year: four digits, or a sign and more digits, or a minus and four digits (`2022`, `+12022`, `-0044`).
fn year_of(text: &str) -> Option<i64> {
    /// As many as the `Instant` of Java takes.
    const MOST_DIGITS: usize = 10;

    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_long = digits.len() > 4 && digits.len() <= MOST_DIGITS && !digits.starts_with('0');
    let has_form = match text.bytes().next()? {
        b'+' => is_long,
        b'-' => (digits.len() == 4 && digits != "0000") || is_long,
        _ => digits.len() == 4,
    };
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    if has_form && is_number { text.parse().ok() } else { None }
}

/// Formats seconds since 1970 in the form in which Coiote shows them; `None` beyond the years that [`parse`] takes.
pub(crate) fn format(seconds: i64) -> Option<String> {
    let (days, second) = (seconds.div_euclid(SECONDS_OF_A_DAY), seconds.rem_euclid(SECONDS_OF_A_DAY));
    // The guess is off by one at most: 400 years have 146,097 days
    let guess = 1970 + days.checked_mul(400)?.div_euclid(146_097);
    let year = (guess - 1..=guess + 1).rev().find(|year| days >= days_since_1970(*year, 1, 1))?;
    let month = (1..=12).rev().find(|month| days >= days_since_1970(year, *month, 1))?;
    let day = days - days_since_1970(year, month, 1) + 1;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let year = match year {
        0..=9_999 => format!("{year:04}"),
        10_000.. => format!("+{year}"),
        _ => format!("-{:04}", -year),
    };
    year_of(&year).map(|_| format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

/// Parses numbers of exactly these counts of digits, with the separator between them.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part =
            parts.next().filter(|part| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn is_leap_year(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap_year(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leap_days = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let years = (year - 1970) * 365 + leap_days(before) - leap_days(1969);
    years + (1..month).map(|month| days_of_month(year, month)).sum::<i64>() + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_the_same_points_in_time() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2022-10-07T13:33:22Z", 1_665_149_602),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("1969-12-31T23:59:59Z", -1),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
            ("0000-01-01T00:00:00Z", -62_167_219_200),
            ("-0001-12-31T23:59:59Z", -62_167_219_201),
            ("+10000-01-01T00:00:00Z", 253_402_300_800),
            ("+12022-02-28T12:00:00Z", 317_215_569_600),
            ("+1000000000-12-31T23:59:59Z", 31_556_889_864_403_199),
            ("-1000000000-01-01T00:00:00Z", -31_557_014_167_219_200),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
            assert_eq!(format(expected).as_deref(), Some(text));
        }
        for (text, expected) in [
            ("2022-10-07T15:33:22+02:00", 1_665_149_602),
            ("2022-10-07T08:03:22-05:30", 1_665_149_602),
            ("2022-10-07T13:33:22.000Z", 1_665_149_602),
            ("+12022-02-28T07:00:00-05:00", 317_215_569_600),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        assert_eq!((format(i64::MAX), format(i64::MIN)), (None, None));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "now",
            "2022-10-07",
            "2022-10-07T13:33:22",
            "2022-10-07 13:33:22Z",
            "2022-10-07T13:33:22.5Z",
            "2022-10-07T13:33:22.Z",
            "2022-02-29T00:00:00Z",
            "2022-13-01T00:00:00Z",
            "2022-10-07T24:00:00Z",
            "2022-10-07T13:60:00Z",
            "2022-10-7T13:33:22Z",
            "2022-10-07T13:33:22+2:00",
            "+022-10-07T13:33:22Z",
            "+2022-10-07T13:33:22Z",
            "+02022-10-07T13:33:22Z",
            "12022-10-07T13:33:22Z",
            "-0000-10-07T13:33:22Z",
            "+99999999999-01-01T00:00:00Z",
            "--022-10-07T13:33:22Z",
            "2022-10-07T13:33:22\u{663}Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
