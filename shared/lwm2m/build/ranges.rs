//! Parser of the field `RangeEnumeration` of a definition. The field is free text, so the parser takes the forms that are in
//! use; a text in another form does not limit values.

/// Limit of the values of a resource.
#[derive(Debug, PartialEq)]
pub(crate) enum Limit {
    /// A number in one of the intervals.
    Value(Vec<(f64, f64)>),
    /// A length in bytes in one of the intervals.
    Length(Vec<(f64, f64)>),
    /// One of these texts; with `or_length`, alternatively a text of such a length, as the definition does not say which.
    Words { words: Vec<String>, or_length: bool },
}

/// Parses a range for a data type; `None` if it does not limit values.
pub(crate) fn limit(range: &str, data_type: &str) -> Option<Limit> {
    let range = range.trim();
    match data_type {
        "Integer" | "UnsignedInteger" | "Float" | "Time" => values(range, data_type).map(Limit::Value),
        "String" => string(range),
        "Opaque" => lengths(without_unit(range).0).map(Limit::Length),
        _ => None,
    }
}

/// Parses intervals of numbers: `0..100`, also in the forms `1...63`, `-30..-120`, `0-100` and `[1:4]`; lists such as
/// `0..3, 99` and `"0","1"`; sizes such as `8 bit` and `2 bytes`.
///
/// A single number has different meanings in different definitions and is not checked.
fn values(range: &str, data_type: &str) -> Option<Vec<(f64, f64)>> {
    if let Some(bits) = bits(range).filter(|_| data_type != "Float") {
        let unsigned = 2_f64.powi(bits) - 1.0;
        let least = if data_type == "UnsignedInteger" { 0.0 } else { -(2_f64.powi(bits - 1)) };
        return Some(vec![(least, unsigned)]);
    }
    if let Some((from, to)) = range.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.split_once(':')) {
        return bounded(vec![interval(from, to)?]);
    }
    let range = range.trim_start_matches('[').trim_end_matches(']');
    let parts: Vec<&str> = parts(range).map(unquoted).collect();
    if has_grouped_digits(&parts) {
        return None;
    }
    let alone = parts.len() == 1;
    bounded(parts.into_iter().map(|part| one_of_values(part, alone)).collect::<Option<_>>()?)
}

fn one_of_values(part: &str, alone: bool) -> Option<(f64, f64)> {
    if let Some((from, to)) = part.split_once("..") {
        return interval(from, to.trim_start_matches('.'));
    }
    match part.split_once('-') {
        Some((from, to)) if alone && !from.is_empty() => interval(from, to),
        _ if alone => None,
        _ => number(part).map(|value| (value, value)),
    }
}

/// Whether the list is rather a range whose numbers have commas between thousands: `1,000..2,000` or `1,500..3,500`.
fn has_grouped_digits(parts: &[&str]) -> bool {
    let has_leading_zero = |bound: &str| {
        let digits = bound.trim().strip_prefix('0');
        digits.is_some_and(|digits| digits.starts_with(|c: char| c.is_ascii_digit()))
    };
    let is_of_groups = |part: &&str| {
        let Some((from, to)) = part.split_once("..") else { return false };
        let is_descending = number(from).zip(number(to)).is_some_and(|(from, to)| from > to);
        has_leading_zero(from) || has_leading_zero(to) || is_descending
    };
    parts.len() > 1 && parts.iter().any(is_of_groups)
}

/// Parses the limit of a String: lengths (`0..255`, `1..64 bytes`, `16-32-48 bytes`, `10 or 26 bytes`) or texts
/// (`"eco","comfort"`, `ON;OFF`).
fn string(range: &str) -> Option<Limit> {
    let (lengths_only, has_unit) = without_unit(range);
    let numbers: Vec<&str> = parts(lengths_only).collect();
    let is_list = numbers.len() > 1 && numbers.iter().all(|part| !part.contains("..") && number(part).is_some());
    if is_list && !has_unit {
        let words = numbers.into_iter().map(str::to_owned).collect();
        return Some(Limit::Words { words, or_length: true });
    }
    if let Some(lengths) = lengths(lengths_only) {
        return Some(Limit::Length(lengths));
    }
    let parts: Vec<&str> = parts(range).collect();
    let is_quoted = parts.iter().all(|part| unquoted(part).len() < part.len());
    let is_word =
        |part: &&str| !part.is_empty() && !part.contains(char::is_whitespace) && !part.contains("..") && !is_span(part);
    // Without quotes, longer texts are descriptions, and so may be single words
    let are_words = parts.len() > 1 && parts.iter().all(is_word);
    let words = parts.into_iter().map(|part| unquoted(part).to_owned()).collect();
    (is_quoted || are_words).then_some(Limit::Words { words, or_length: false })
}

/// Whether the text stands for characters or numbers, such as `a-z` and `0-9`. A word may have a hyphen, too.
fn is_span(part: &str) -> bool {
    let is_end = |end: &str| end.chars().count() == 1 || number(end).is_some();
    part.split_once('-').is_some_and(|(from, to)| is_end(from) && is_end(to))
}

/// Parses intervals of lengths: a range or a list, but not a single number.
fn lengths(range: &str) -> Option<Vec<(f64, f64)>> {
    if let [from, to] = hyphenated(range)?[..] {
        return bounded(vec![interval(from, to)?]);
    }
    let listed = hyphenated(range)?;
    let parts: Vec<&str> = if listed.len() > 2 { listed } else { parts(range).collect() };
    if has_grouped_digits(&parts) {
        return None;
    }
    let alone = parts.len() == 1;
    let lengths = parts.into_iter().map(|part| match part.split_once("..") {
        Some((from, to)) => interval(from, to.trim_start_matches('.')),
        None if alone => None,
        None => number(part).map(|value| (value, value)),
    });
    bounded(lengths.collect::<Option<_>>()?)
}

fn hyphenated(range: &str) -> Option<Vec<&str>> {
    if range.is_empty() { None } else { Some(range.split('-').map(str::trim).collect()) }
}

/// Parts of a list. Separators within quotes belong to the part.
fn parts(range: &str) -> impl Iterator<Item = &str> {
    let mut quote = None;
    let mut separates = move |c: char| {
        match (quote, c) {
            (None, '"' | '\'' | '\u{201c}') => quote = Some(closing(c)),
            (Some(end), c) if c == end => quote = None,
            _ => {}
        }
        quote.is_none() && matches!(c, ',' | ';' | '|')
    };
    let mut parts: Vec<&str> = Vec::new();
    let mut start = 0;
    for (at, c) in range.char_indices() {
        if separates(c) {
            parts.extend(range.get(start..at));
            start = at + c.len_utf8();
        }
    }
    parts.extend(range.get(start..));
    parts
        .into_iter()
        .flat_map(|part| if part.contains(['"', '\'', '\u{201c}']) { vec![part] } else { part.split(" or ").collect() })
        .map(str::trim)
}

fn closing(quote: char) -> char {
    if quote == '\u{201c}' { '\u{201d}' } else { quote }
}

fn unquoted(part: &str) -> &str {
    let mut chars = part.chars();
    match (chars.next(), chars.next_back()) {
        (Some(open @ ('"' | '\'' | '\u{201c}')), Some(close)) if close == closing(open) => chars.as_str(),
        _ => part,
    }
}

/// The text before a unit such as `bytes`, and whether there is a unit.
fn without_unit(range: &str) -> (&str, bool) {
    let lower = range.to_ascii_lowercase();
    let units = ["bytes", "byte", "characters", "chars", "octets"];
    match units.iter().find(|unit| lower.ends_with(**unit)) {
        Some(unit) => (range.get(..range.len() - unit.len()).unwrap_or(range).trim(), true),
        None => (range, false),
    }
}

/// Parses a size to bits: `8 bit`, `16-bit`, `8-Bits`, `2 bytes`.
fn bits(range: &str) -> Option<i32> {
    let lower = range.to_ascii_lowercase();
    let units = [("bits", 1), ("bit", 1), ("bytes", 8), ("byte", 8)];
    let (count, size) = units.iter().find_map(|(unit, size)| Some((lower.strip_suffix(unit)?, size)))?;
    let count: i32 = count.trim_end_matches([' ', '-']).parse().ok()?;
    (1..=8).contains(&(count.checked_mul(*size)? / 8)).then(|| count * size)
}

fn interval(from: &str, to: &str) -> Option<(f64, f64)> {
    let (from, to) = (number(from)?, number(to)?);
    Some((from.min(to), from.max(to)))
}

/// Parses a number, which may be infinite for an open interval, but not `nan`.
fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|value: &f64| !value.is_nan())
}

/// The intervals, or `None` if one of them contains all numbers.
fn bounded(intervals: Vec<(f64, f64)>) -> Option<Vec<(f64, f64)>> {
    let is_open = |(from, to): &(f64, f64)| from.is_infinite() && to.is_infinite();
    if intervals.iter().any(is_open) { None } else { Some(intervals) }
}
