//! Arguments of an Execute, in the form of OMA LwM2M Core 1.1, section 6.3.5: `0='abc',1`.

use std::collections::HashSet;

/// Valid arguments of an Execute: digits, each with an optional quoted value, separated by commas. May be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments(String);

impl Arguments {
    /// Checks arguments against the specification's grammar, in which each digit stands once (OMA LwM2M Core 1.2.1):
    ///
    /// ```text
    /// arglist = arg *( "," arg )
    /// arg     = DIGIT / DIGIT "=" "'" *CHAR "'"
    /// CHAR    = "!" / %x23-26 / %x28-5B / %x5D-7E
    /// ```
    ///
    /// # Errors
    ///
    /// A message with the position and what is expected there. It does not repeat the arguments.
    pub fn parse(text: &str) -> Result<Arguments, String> {
        let mut rest = text;
        let mut digits = HashSet::new();
        while !rest.is_empty() {
            let argument = rest;
            let wrong = |expected: &str| {
                let at = text.chars().count() - argument.chars().count();
                Err(format!("at character {at}: expected {expected}"))
            };

            let Some(mut after) = argument.strip_prefix(|c: char| c.is_ascii_digit()) else {
                return wrong("a digit from 0 to 9");
            };
            if !digits.insert(argument.chars().next()) {
                return wrong("a digit that no argument before it has");
            }
            if let Some(quoted) = after.strip_prefix('=') {
                let Some((value, end)) = quoted.strip_prefix('\'').and_then(|open| open.split_once('\'')) else {
                    return wrong("a digit and a value in single quotes, as in 0='abc'");
                };
                if !value.chars().all(is_argument_char) {
                    return wrong("only printable ASCII without spaces, quotes and backslashes between the quotes");
                }
                after = end;
            }
            rest = match after.strip_prefix(',') {
                Some(next) if !next.is_empty() => next,
                None if after.is_empty() => after,
                _ => return wrong("one digit, ='value' where it has one, and a comma only between two arguments"),
            };
        }
        Ok(Arguments(text.to_owned()))
    }

    /// The arguments as they are sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_argument_char(c: char) -> bool {
    matches!(c, '!' | '\u{23}'..='\u{26}' | '\u{28}'..='\u{5B}' | '\u{5D}'..='\u{7E}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_in_the_form_of_the_specification_pass_unchanged() {
        for text in ["", "0", "1,2", "0='abc'", "0='abc',1", "2='10.3'", "7,0='https://www.oma.org',3=''", "0='a,b'"] {
            assert_eq!(Arguments::parse(text), Ok(Arguments(text.to_owned())));
        }
    }

    #[test]
    fn errors_name_the_position() {
        for (text, at) in [
            ("abc", "character 0"),
            ("0=abc", "character 0"),
            ("0='abc", "character 0"),
            ("0='a b'", "character 0"),
            ("0,", "character 0"),
            ("0,,1", "character 2"),
            ("0='x',a", "character 6"),
            ("10", "character 0"),
            ("0 ,1", "character 0"),
            ("0='a',0='b'", "character 6: expected a digit that no argument before it has"),
            ("0,1='0',2,1", "character 10"),
        ] {
            let message = Arguments::parse(text).unwrap_err();
            assert!(message.contains(at), "{text}: {message}");
        }
    }
}
