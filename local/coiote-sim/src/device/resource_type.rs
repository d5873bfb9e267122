//! LwM2M types (LwM2M Core, appendix C) and the text form of their values.
//!
//! Values are kept as text: the integration has to pass on 9007199254740993 and 1.50 unchanged, and a stand-in that
//! parsed them into numbers could not show that it does.

use serde::Deserialize;

use crate::clock;

/// Type of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(crate) enum ResourceType {
    String,
    Integer,
    #[serde(rename = "Unsigned Integer")]
    UnsignedInteger,
    Float,
    Boolean,
    Opaque,
    Time,
    Objlnk,
    Corelnk,
    /// Type of executable resources, which hold no value.
    #[default]
    None,
}

/// Range of a number, or of the length of a String, with both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Range {
    smallest: i32,
    largest: i32,
}

impl TryFrom<String> for Range {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let ends = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match ends {
            Some((smallest, largest)) if smallest <= largest => Ok(Self { smallest, largest }),
            _ => Err(format!("range {text:?}: a form like 0..100 is expected")),
        }
    }
}

impl ResourceType {
    pub(crate) fn is_numeric(self) -> bool {
        matches!(self, Self::Integer | Self::UnsignedInteger | Self::Float | Self::Time)
    }

    /// Checks that a resource of this type takes the text. The error says which form is expected.
    pub(crate) fn check(self, text: &str, range: Option<Range>) -> Result<(), String> {
        let fits = match self {
            Self::String => true,
            Self::Integer => text.parse::<i64>().is_ok() && !text.starts_with('+'),
            Self::Time => (text.parse::<i64>().is_ok() && !text.starts_with('+')) || clock::seconds_of(text).is_some(),
            Self::UnsignedInteger => text.parse::<u64>().is_ok() && !text.starts_with('+'),
            // Rust also reads "inf" and "nan", which LwM2M's text form does not have.
            Self::Float => text.parse::<f64>().is_ok_and(f64::is_finite) && text.chars().all(|c| !"naif+".contains(c)),
            Self::Boolean => matches!(text, "true" | "false"),
            Self::Opaque => is_base64(text) || is_hex(text),
            Self::Objlnk => is_object_link(text),
            Self::Corelnk => text.starts_with('<') && text.contains('>'),
            Self::None => false,
        };
        if !fits {
            return Err(format!("{text:?} is not {}", self.form()));
        }
        self.check_range(text, range)
    }

    /// The text as the device holds it.
    pub(crate) fn held(self, text: &str) -> String {
        match (self, clock::seconds_of(text)) {
            (Self::Time, Some(seconds)) => seconds.to_string(),
            _ => text.to_owned(),
        }
    }

    /// The text as Coiote shows it: times in ISO 8601, floats with a point.
    pub(crate) fn shown(self, text: &str) -> String {
        match self {
            Self::Time => text.parse().ok().and_then(clock::iso_of_seconds).unwrap_or_else(|| text.to_owned()),
            Self::Float if !text.contains('.') => {
                text.parse::<f64>().map_or_else(|_| text.to_owned(), |number| format!("{number:?}"))
            }
            _ => text.to_owned(),
        }
    }

    fn check_range(self, text: &str, range: Option<Range>) -> Result<(), String> {
        let Some(Range { smallest, largest }) = range else {
            return Ok(());
        };
        let (what, measure) = match self {
            Self::String => ("length", Some(text.chars().map(|_| 1.0).sum())),
            _ => ("value", text.parse::<f64>().ok()),
        };
        match measure {
            Some(n) if n < f64::from(smallest) || n > f64::from(largest) => {
                Err(format!("{what} of {text:?} is outside {smallest}..{largest}"))
            }
            _ => Ok(()),
        }
    }

    fn form(self) -> &'static str {
        match self {
            Self::String => "a String",
            Self::Integer => "an Integer (64 bit, decimal)",
            Self::UnsignedInteger => "an Unsigned Integer (64 bit, decimal)",
            Self::Float => "a Float",
            Self::Boolean => "a Boolean (true or false)",
            Self::Opaque => "Opaque (base64 or hexadecimal)",
            Self::Time => "a Time (as in 2026-11-22T18:00:00Z, or seconds since 1970)",
            Self::Objlnk => "an Objlnk (object:instance)",
            Self::Corelnk => "a Corelnk (</…>)",
            Self::None => "anything that an executable resource could take",
        }
    }
}

fn is_base64(text: &str) -> bool {
    let body = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    text.len().is_multiple_of(4) && body.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

fn is_hex(text: &str) -> bool {
    text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_object_link(text: &str) -> bool {
    text.split_once(':').is_some_and(|(object, instance)| {
        [object, instance].iter().all(|part| part.parse::<u16>().is_ok_and(|n| n.to_string() == **part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_takes_its_own_form_only() {
        for (kind, good, bad) in [
            (ResourceType::String, vec!["", "+02:00", "ą"], vec![]),
            (
                ResourceType::Integer,
                vec!["68", "-7", "9007199254740993"],
                vec!["", "1.0", "+1", "9223372036854775808", "abc"],
            ),
            (
                ResourceType::UnsignedInteger,
                vec!["0", "18446744073709551615"],
                vec!["-1", "1.5", "18446744073709551616"],
            ),
            (ResourceType::Float, vec!["1.5", "-65.5", "4", "1e3"], vec!["", "inf", "NaN", "infinity", "1,5"]),
            (ResourceType::Boolean, vec!["true", "false"], vec!["True", "1", "0", ""]),
            (ResourceType::Opaque, vec!["", "3q2+7w==", "deadbeefab"], vec!["xyz", "=a=="]),
            (
                ResourceType::Time,
                vec!["1795370400", "-1", "2026-11-22T18:00:00Z"],
                vec!["", "now", "2026-11-22", "2026-11-22T18:00:00", "2026-02-30T18:00:00Z", "2026-11-22T25:00:00Z"],
            ),
            (ResourceType::Objlnk, vec!["3:0", "65535:65535"], vec!["3", "3:", "3:0:0", "65536:0", "03:0"]),
            (ResourceType::Corelnk, vec!["</3/0>"], vec!["/3/0", ""]),
            (ResourceType::None, vec![], vec!["", "1"]),
        ] {
            for text in good {
                assert_eq!(kind.check(text, None), Ok(()), "{kind:?} {text:?}");
            }
            for text in bad {
                assert!(kind.check(text, None).is_err(), "{kind:?} {text:?}");
            }
        }
    }

    #[test]
    fn values_are_shown_as_coiote_shows_them() {
        for (kind, held, shown) in [
            (ResourceType::Time, "1665149602", "2022-10-07T13:33:22Z"),
            (ResourceType::Float, "0", "0.0"),
            (ResourceType::Float, "-4", "-4.0"),
            (ResourceType::Float, "1.50", "1.50"),
            (ResourceType::Float, "1e3", "1000.0"),
            (ResourceType::Integer, "68", "68"),
            (ResourceType::String, "1", "1"),
            (ResourceType::Boolean, "true", "true"),
        ] {
            assert_eq!(kind.shown(held), shown, "{kind:?}");
            // A shown value can be written, and is shown in the same form again.
            assert_eq!(kind.check(shown, None), Ok(()));
            assert_eq!(kind.shown(&kind.held(shown)), shown);
        }
        assert_eq!(ResourceType::Time.held("2022-10-07T13:33:22Z"), "1665149602");
    }

    #[test]
    fn ranges_hold_both_ends_and_count_characters_of_strings() {
        let range = Range::try_from("0..3".to_owned()).ok();
        for (kind, text, fits) in [
            (ResourceType::Integer, "0", true),
            (ResourceType::Integer, "3", true),
            (ResourceType::Integer, "4", false),
            (ResourceType::Integer, "-1", false),
            (ResourceType::Float, "3.01", false),
            (ResourceType::String, "ąęó", true),
            (ResourceType::String, "abcd", false),
        ] {
            assert_eq!(kind.check(text, range).is_ok(), fits, "{kind:?} {text:?}");
        }
    }
}
