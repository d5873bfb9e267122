//! Attributes of an observation or of a Write-Attributes (OMA LwM2M Core 1.1, section 5.1.2; `hqmax` and `edge` 1.2).

use std::fmt;

use serde_json::{Map, Value as Json};

use crate::finding::{Code, Finding, Quoted};
use crate::path::Level;
use crate::value::{number_text, whole_number};

/// Attributes of one key, in the order in which they were given. An empty set leaves the key's attributes unchanged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(Vec<(Attribute, AttributeValue)>);

/// Name of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// Minimum period between notifications, in seconds.
    Pmin,
    /// Maximum period between notifications, in seconds.
    Pmax,
    /// Minimum period between evaluations, in seconds.
    Epmin,
    /// Maximum period between evaluations, in seconds.
    Epmax,
    /// Upper threshold: crossing it leads to a notification.
    Gt,
    /// Lower threshold: crossing it leads to a notification.
    Lt,
    /// Step: change of the value that leads to a notification.
    St,
    /// Edge of a Boolean that leads to a notification: 0 for falling, 1 for rising.
    Edge,
    /// Whether notifications are confirmable.
    Con,
    /// Maximum number of notifications in the historical queue.
    Hqmax,
}

/// Value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    /// Sets the attribute.
    Number {
        /// The number as JSON wrote it, without a fraction where it has to be whole; `0` and `1` for booleans.
        text: String,
        /// The number itself.
        value: f64,
    },
    /// Unsets the attribute, as `null`.
    Null,
    /// Unsets the attribute, as an empty string.
    Empty,
}

impl Attribute {
    /// All attributes.
    pub const ALL: &[Attribute] = &[
        Attribute::Pmin,
        Attribute::Pmax,
        Attribute::Epmin,
        Attribute::Epmax,
        Attribute::Gt,
        Attribute::Lt,
        Attribute::St,
        Attribute::Edge,
        Attribute::Con,
        Attribute::Hqmax,
    ];

    /// The name, as requests and devices spell it.
    pub fn name(self) -> &'static str {
        match self {
            Attribute::Pmin => "pmin",
            Attribute::Pmax => "pmax",
            Attribute::Epmin => "epmin",
            Attribute::Epmax => "epmax",
            Attribute::Gt => "gt",
            Attribute::Lt => "lt",
            Attribute::St => "st",
            Attribute::Edge => "edge",
            Attribute::Con => "con",
            Attribute::Hqmax => "hqmax",
        }
    }

    /// Whether the attribute needs a single value, which objects and object instances do not have.
    pub fn needs_a_value(self) -> bool {
        matches!(self, Attribute::Gt | Attribute::Lt | Attribute::St | Attribute::Edge)
    }

    fn value(self, json: Json) -> Result<AttributeValue, &'static str> {
        let text = match json {
            Json::Null => return Ok(AttributeValue::Null),
            Json::String(text) if text.is_empty() => return Ok(AttributeValue::Empty),
            Json::Number(number) => number_text(&number),
            Json::Bool(flag) if matches!(self, Attribute::Edge | Attribute::Con) => u8::from(flag).to_string(),
            _ => String::new(),
        };
        let text = match self {
            Attribute::Gt | Attribute::Lt | Attribute::St => text,
            _ => whole_number(&text, true).unwrap_or(text),
        };
        let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
        match (self, value) {
            (Attribute::Gt | Attribute::Lt, Some(value)) => Ok(AttributeValue::Number { text, value }),
            (Attribute::Gt | Attribute::Lt, None) => Err("expected a number"),
            (Attribute::St, Some(value)) if value > 0.0 => Ok(AttributeValue::Number { text, value }),
            (Attribute::St, _) => Err("expected a number above 0"),
            (Attribute::Edge | Attribute::Con, Some(value)) if text == "0" || text == "1" => {
                Ok(AttributeValue::Number { text, value })
            }
            (Attribute::Edge | Attribute::Con, _) => Err("expected 0, 1, true or false"),
            (Attribute::Hqmax, Some(value)) if text.parse::<u32>().is_ok() => {
                Ok(AttributeValue::Number { text, value })
            }
            (Attribute::Hqmax, _) => Err("expected a whole number from 0"),
            (_, Some(value)) if text.parse::<u32>().is_ok() => Ok(AttributeValue::Number { text, value }),
            _ => Err("expected a whole number of seconds from 0"),
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Attributes {
    /// Parses the attributes of one key.
    ///
    /// # Errors
    ///
    /// All findings, each with the name of the attribute.
    pub fn parse(object: Map<String, Json>) -> Result<Attributes, Vec<Finding>> {
        let mut findings = Vec::new();
        let mut attributes = Attributes::default();
        for (name, value) in object {
            let Some(&attribute) = Attribute::ALL.iter().find(|attribute| attribute.name() == name) else {
                let known = Attribute::ALL.iter().map(|known| known.name()).collect::<Vec<_>>().join(", ");
                let message = format!("no attribute {}; one of: {known}", Quoted(&name));
                findings.push(Finding::new(Code::AttributeUnknown, message));
                continue;
            };
            match attribute.value(value) {
                Ok(value) => attributes.0.push((attribute, value)),
                Err(why) => findings.push(Finding::new(Code::AttributesInvalid, format!("{attribute}: {why}"))),
            }
        }
        findings.extend(attributes.contradictions());
        if findings.is_empty() { Ok(attributes) } else { Err(findings) }
    }

    /// The number to which an attribute is set.
    fn number(&self, wanted: Attribute) -> Option<f64> {
        self.0.iter().find_map(|(attribute, value)| match value {
            AttributeValue::Number { value, .. } if *attribute == wanted => Some(*value),
            _ => None,
        })
    }

    /// Finding about a pmax below pmin, which devices ignore. A pmax of 0 is meant to be ignored.
    pub(crate) fn ignored_pmax(&self) -> Option<Finding> {
        let (pmin, pmax) = (self.number(Attribute::Pmin)?, self.number(Attribute::Pmax)?);
        let message = || format!("pmin ({pmin}) has to be at most pmax ({pmax}), which devices ignore otherwise");
        (pmin > pmax && pmax != 0.0).then(|| Finding::new(Code::AttributesContradict, message()))
    }

    /// Combinations that devices refuse.
    fn contradictions(&self) -> Vec<Finding> {
        use Attribute::{Epmax, Epmin, Gt, Lt, St};
        let value = |wanted| self.number(wanted);
        let mut messages = Vec::new();
        if let (Some(epmin), Some(epmax)) = (value(Epmin), value(Epmax))
            && epmin >= epmax
        {
            messages.push(format!("epmin ({epmin}) has to be below epmax ({epmax})"));
        }
        match (value(Lt), value(Gt), value(St)) {
            (Some(lt), Some(gt), _) if lt >= gt => messages.push(format!("lt ({lt}) has to be below gt ({gt})")),
            (Some(lt), Some(gt), Some(st)) if lt + 2.0 * st >= gt => {
                messages.push(format!("lt + 2 st ({lt} + 2 x {st}) has to be below gt ({gt})"));
            }
            _ => {}
        }
        messages.into_iter().map(|message| Finding::new(Code::AttributesContradict, message)).collect()
    }

    /// Findings about attributes that need a single value, for a level above resources.
    pub fn not_allowed_at(&self, level: Level) -> impl Iterator<Item = Finding> {
        let has_no_value = level < Level::Resource;
        self.iter().filter(move |(attribute, _)| has_no_value && attribute.needs_a_value()).map(
            move |(attribute, _)| {
                let message = format!("{attribute} is for a resource or a resource instance, this is {}", level.name());
                Finding::new(Code::AttributeNotAllowed, message)
            },
        )
    }

    /// Whether there are no attributes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The attributes and their values.
    pub fn iter(&self) -> impl Iterator<Item = (Attribute, &AttributeValue)> {
        self.0.iter().map(|(attribute, value)| (*attribute, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Attributes, Vec<String>> {
        Attributes::parse(serde_json::from_str(json).unwrap())
            .map_err(|findings| findings.into_iter().map(|f| format!("{} {}", f.code, f.message)).collect())
    }

    #[test]
    fn attributes_that_the_specification_allows_pass() {
        for json in [
            r#"{}"#,
            r#"{"pmin": 30, "pmax": 30}"#,
            r#"{"epmin": 0, "epmax": 40, "hqmax": 5}"#,
            r#"{"gt": -65.5, "lt": -105.5, "st": 4.0}"#,
            r#"{"gt": 1e3, "edge": 1, "con": true}"#,
            r#"{"pmin": null, "gt": "", "con": ""}"#,
            // One of the two is unset
            r#"{"pmin": 50, "pmax": null}"#,
            r#"{"epmin": 50, "epmax": ""}"#,
            // Devices ignore such a pmax
            r#"{"pmin": 5, "pmax": 0}"#,
            r#"{"pmin": 35, "pmax": 30}"#,
        ] {
            assert!(parse(json).is_ok(), "{json}: {:?}", parse(json));
        }
    }

    #[test]
    fn numbers_are_sent_whole_where_they_have_to_be() {
        for (json, expected) in [
            (r#"{"pmin": 30.0}"#, "30"),
            (r#"{"pmax": 3e1}"#, "30"),
            (r#"{"epmin": 5.00}"#, "5"),
            (r#"{"epmax": 0.0}"#, "0"),
            (r#"{"hqmax": 7.0}"#, "7"),
            (r#"{"edge": 1.0}"#, "1"),
            (r#"{"st": 4.0}"#, "4.0"),
            (r#"{"gt": -65.50}"#, "-65.50"),
            (r#"{"lt": 1e+16}"#, "1e16"),
        ] {
            let attributes = parse(json).unwrap();
            let texts = attributes.iter().map(|(_, value)| match value {
                AttributeValue::Number { text, .. } => text.as_str(),
                _ => panic!("{json}"),
            });
            assert_eq!(texts.collect::<Vec<_>>(), [expected], "{json}");
        }
    }

    #[test]
    fn all_mistakes_are_reported() {
        for (json, expected) in [
            (
                r#"{"pminn": 1}"#,
                vec![
                    "ATTRIBUTE_UNKNOWN no attribute \"pminn\"; one of: pmin, pmax, epmin, epmax, gt, lt, st, edge, con, hqmax",
                ],
            ),
            (r#"{"pmin": -1}"#, vec!["ATTRIBUTES_INVALID pmin: expected a whole number of seconds from 0"]),
            (r#"{"pmax": 1.5}"#, vec!["ATTRIBUTES_INVALID pmax: expected a whole number of seconds from 0"]),
            (r#"{"epmin": "30"}"#, vec!["ATTRIBUTES_INVALID epmin: expected a whole number of seconds from 0"]),
            (r#"{"gt": true}"#, vec!["ATTRIBUTES_INVALID gt: expected a number"]),
            (r#"{"lt": 1e999}"#, vec!["ATTRIBUTES_INVALID lt: expected a number"]),
            (r#"{"st": 0}"#, vec!["ATTRIBUTES_INVALID st: expected a number above 0"]),
            (r#"{"edge": 2}"#, vec!["ATTRIBUTES_INVALID edge: expected 0, 1, true or false"]),
            (r#"{"con": [1]}"#, vec!["ATTRIBUTES_INVALID con: expected 0, 1, true or false"]),
            (r#"{"hqmax": "x"}"#, vec!["ATTRIBUTES_INVALID hqmax: expected a whole number from 0"]),
            (
                r#"{"epmin": 2, "epmax": 1, "lt": 5, "gt": 1}"#,
                vec![
                    "ATTRIBUTES_CONTRADICT epmin (2) has to be below epmax (1)",
                    "ATTRIBUTES_CONTRADICT lt (5) has to be below gt (1)",
                ],
            ),
            (r#"{"epmin": 2, "epmax": 2}"#, vec!["ATTRIBUTES_CONTRADICT epmin (2) has to be below epmax (2)"]),
            (r#"{"epmin": 0, "epmax": 0}"#, vec!["ATTRIBUTES_CONTRADICT epmin (0) has to be below epmax (0)"]),
            (r#"{"lt": 5, "gt": 5}"#, vec!["ATTRIBUTES_CONTRADICT lt (5) has to be below gt (5)"]),
            (
                r#"{"lt": 1, "gt": 5, "st": 2}"#,
                vec!["ATTRIBUTES_CONTRADICT lt + 2 st (1 + 2 x 2) has to be below gt (5)"],
            ),
            (
                r#"{"x": 1, "pmin": "a", "lt": 2, "gt": 1}"#,
                vec![
                    "ATTRIBUTE_UNKNOWN no attribute \"x\"; one of: pmin, pmax, epmin, epmax, gt, lt, st, edge, con, hqmax",
                    "ATTRIBUTES_INVALID pmin: expected a whole number of seconds from 0",
                    "ATTRIBUTES_CONTRADICT lt (2) has to be below gt (1)",
                ],
            ),
        ] {
            assert_eq!(parse(json), Err(expected.into_iter().map(str::to_owned).collect()), "{json}");
        }
    }
}
