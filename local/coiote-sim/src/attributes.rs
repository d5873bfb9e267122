//! The `attributes` parameter: a list of Python dict literals without spaces between tokens, one dict for each key, as in
//! `[{'epmin':5,'gt':-65.5},{},{'con':''}]`.
//!
//! It is parsed strictly and not by way of JSON: a stand-in that repaired its input would hide what Coiote refuses.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::CharIndices;

use serde_json::Number;

/// Attributes that a server may set (LwM2M Core 1.2, section 5.1.2).
const NAMES: [&str; 10] = ["pmin", "pmax", "epmin", "epmax", "gt", "lt", "st", "edge", "con", "hqmax"];
const FRACTIONS_ALLOWED: [&str; 3] = ["gt", "lt", "st"];

/// Numbers by attribute, as they were written. `None` removes the attribute.
pub(crate) type Attributes = BTreeMap<String, Option<Number>>;

/// Notations for "no value", which differ by template. AVSystem's own stack sends these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unset {
    /// `None` or `''`, in observe.
    NoneOrEmptyString,
    /// `''`, in writeAttributes.
    EmptyString,
}

pub(crate) fn parse(text: &str, unset: Unset) -> Result<Vec<Attributes>, String> {
    let mut reader = Reader { rest: text.char_indices().peekable(), text, unset };
    reader.expect('[')?;
    let mut list = Vec::new();
    loop {
        list.push(reader.dict()?);
        if !reader.another(']')? {
            break;
        }
    }
    match reader.rest.next() {
        None => Ok(list),
        Some((at, found)) => Err(format!("{found:?} at character {at} follows the end of the list")),
    }
}

struct Reader<'t> {
    rest: Peekable<CharIndices<'t>>,
    text: &'t str,
    unset: Unset,
}

impl Reader<'_> {
    fn dict(&mut self) -> Result<Attributes, String> {
        self.expect('{')?;
        let mut attributes = Attributes::new();
        if self.rest.next_if(|(_, c)| *c == '}').is_some() {
            return Ok(attributes);
        }
        loop {
            let name = self.quoted()?;
            if !NAMES.contains(&name.as_str()) {
                return Err(format!("{name:?} is not an attribute; these are: {}", NAMES.join(", ")));
            }
            self.expect(':')?;
            let value = self.value(&name)?;
            if attributes.insert(name.clone(), value).is_some() {
                return Err(format!("attribute {name:?} stands twice in one dict"));
            }
            if !self.another('}')? {
                return Ok(attributes);
            }
        }
    }

    fn value(&mut self, name: &str) -> Result<Option<Number>, String> {
        if self.rest.peek().is_some_and(|(_, c)| *c == '\'') {
            let text = self.quoted()?;
            return if text.is_empty() {
                Ok(None)
            } else {
                Err(format!("attribute {name:?}: '{text}' is not a number{}", self.hint()))
            };
        }
        let mut word = String::new();
        while let Some((_, c)) = self.rest.next_if(|(_, c)| !",]}".contains(*c)) {
            word.push(c);
        }
        if word == "None" && self.unset == Unset::NoneOrEmptyString {
            return Ok(None);
        }
        // The numbers come from JSON at the start of the chain.
        let number: Number =
            word.parse().map_err(|_| format!("attribute {name:?}: {word:?} is not a number{}", self.hint()))?;
        if !FRACTIONS_ALLOWED.contains(&name) && number.as_u64().is_none() {
            return Err(format!("attribute {name:?}: {word} is not a whole number of 0 or more"));
        }
        if matches!(name, "edge" | "con") && !matches!(number.as_u64(), Some(0 | 1)) {
            return Err(format!("attribute {name:?}: {word} is neither 0 nor 1"));
        }
        Ok(Some(number))
    }

    fn hint(&self) -> &'static str {
        match self.unset {
            Unset::NoneOrEmptyString => " (no value is None or '' here)",
            Unset::EmptyString => " (no value is '' here)",
        }
    }

    fn quoted(&mut self) -> Result<String, String> {
        self.expect('\'')?;
        let mut name = String::new();
        loop {
            match self.rest.next() {
                Some((_, '\'')) => return Ok(name),
                Some((_, c)) => name.push(c),
                None => return Err(format!("the string '{name} does not end")),
            }
        }
    }

    /// Whether another element follows: `true` after a comma, `false` after the closing character.
    fn another(&mut self, closing: char) -> Result<bool, String> {
        match self.rest.next() {
            Some((_, ',')) => Ok(true),
            Some((_, c)) if c == closing => Ok(false),
            Some((at, c)) => Err(format!("{c:?} at character {at}, where ',' or {closing:?} is expected")),
            None => Err(format!("{:?} ends where ',' or {closing:?} is expected", self.text)),
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.rest.next() {
            Some((_, c)) if c == wanted => Ok(()),
            Some((at, c)) => Err(format!("{c:?} at character {at}, where {wanted:?} is expected")),
            None => Err(format!("{:?} ends where {wanted:?} is expected", self.text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(list: &[Attributes]) -> String {
        serde_json::to_string(list).unwrap()
    }

    #[test]
    fn reads_lists_of_dicts() {
        let list = parse(
            "[{'epmin':5,'gt':-65.5,'lt':-105.5,'st':4.0},{},{'pmin':30,'pmax':35},{'con':''}]",
            Unset::EmptyString,
        );
        assert_eq!(
            shown(&list.unwrap()),
            r#"[{"epmin":5,"gt":-65.5,"lt":-105.5,"st":4.0},{},{"pmax":35,"pmin":30},{"con":null}]"#
        );
        assert_eq!(
            shown(&parse("[{'pmin':None,'pmax':''}]", Unset::NoneOrEmptyString).unwrap()),
            r#"[{"pmax":null,"pmin":null}]"#
        );
        assert_eq!(shown(&parse("[{}]", Unset::NoneOrEmptyString).unwrap()), "[{}]");
    }

    #[test]
    fn refuses_everything_else() {
        for (text, unset, part) in [
            ("", Unset::NoneOrEmptyString, "ends where '['"),
            ("{}", Unset::NoneOrEmptyString, "'['"),
            ("[]", Unset::NoneOrEmptyString, "'{'"),
            ("[{}, {}]", Unset::NoneOrEmptyString, "' ' at character 4"),
            ("[{'pmin': 5}]", Unset::NoneOrEmptyString, "not a number"),
            ("[{\"pmin\":5}]", Unset::NoneOrEmptyString, "where '\\'' is expected"),
            ("[{'pmin':5},]", Unset::NoneOrEmptyString, "'{'"),
            ("[{'pmin':5,}]", Unset::NoneOrEmptyString, "where '\\'' is expected"),
            ("[{'pmin':null}]", Unset::NoneOrEmptyString, "not a number"),
            ("[{'pmin':' '}]", Unset::NoneOrEmptyString, "None or '' here"),
            ("[{'pmin':None}]", Unset::EmptyString, "'' here"),
            ("[{'pmin':True}]", Unset::NoneOrEmptyString, "not a number"),
            ("[{'pmin':'5'}]", Unset::EmptyString, "not a number"),
            ("[{'pmin':-1}]", Unset::NoneOrEmptyString, "whole number"),
            ("[{'pmin':1.5}]", Unset::NoneOrEmptyString, "whole number"),
            ("[{'con':2}]", Unset::NoneOrEmptyString, "neither 0 nor 1"),
            ("[{'pmax':1,'pmax':2}]", Unset::NoneOrEmptyString, "twice"),
            ("[{'min':1}]", Unset::NoneOrEmptyString, "not an attribute"),
            ("[{}]x", Unset::NoneOrEmptyString, "follows the end"),
            ("[{'pmin", Unset::NoneOrEmptyString, "does not end"),
            ("[{'pmin':5", Unset::NoneOrEmptyString, "ends where"),
        ] {
            let error = parse(text, unset).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
