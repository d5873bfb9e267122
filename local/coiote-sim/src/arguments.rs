//! The `arguments` parameter of Execute, as in `0='abc',1`, by the grammar of LwM2M Core 1.1, section 6.3.5.

use crate::decoded_operation::Argument;

pub(crate) fn parse(text: &str) -> Result<Vec<Argument>, String> {
    let mut arguments = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (argument, after) = argument(rest)?;
        arguments.push(argument);
        rest = match after.strip_prefix(',') {
            Some("") => return Err("an argument is expected after the last comma".to_owned()),
            Some(next) => next,
            None if after.is_empty() => after,
            None => return Err(format!("{after:?} follows an argument, where ',' is expected")),
        };
    }
    Ok(arguments)
}

fn argument(text: &str) -> Result<(Argument, &str), String> {
    let mut chars = text.chars();
    let number = chars
        .next()
        .and_then(|c| c.to_digit(10))
        .and_then(|digit| u8::try_from(digit).ok())
        .ok_or_else(|| format!("{text:?}: an argument starts with one digit"))?;
    let after = chars.as_str();
    let Some(value) = after.strip_prefix('=') else {
        return Ok((Argument { number, value: None }, after));
    };
    let (value, after) = value
        .strip_prefix('\'')
        .and_then(|value| value.split_once('\''))
        .ok_or_else(|| format!("argument {number}: the value stands in single quotes"))?;
    if let Some(c) = value.chars().find(|c| !allowed(*c)) {
        return Err(format!("argument {number}: {c:?} is not allowed in a value"));
    }
    Ok((Argument { number, value: Some(value.to_owned()) }, after))
}

/// Whether a value may hold the character: `CHAR = "!" / %x23-26 / %x28-5B / %x5D-7E` of that grammar.
fn allowed(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lwm2m_form() {
        for (text, expected) in [
            ("", vec![]),
            ("0", vec![(0, None)]),
            ("0='abc',1", vec![(0, Some("abc")), (1, None)]),
            ("9='a,b=c',2=''", vec![(9, Some("a,b=c")), (2, Some(""))]),
        ] {
            let got = parse(text).unwrap();
            let got: Vec<_> = got.iter().map(|a| (a.number, a.value.as_deref())).collect();
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in ["a", "10", "0=abc", "0='abc", "0='abc'1", "0,", ",0", " 0", "0='a b'", "0=\"a\"", "0='a\\'", "-1"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
