//! What a report says beyond its outcome, as a request's answer carries it.

use serde_json::{Map, Value as Json};

/// Room in an answer, in bytes.
const MOST: usize = 1_024;

/// Name of the entry that says that others were left out.
const LEFT_OUT: &str = "…";

/// The properties as a JSON object of at most a kilobyte. Entries that find no room are left out whole, and that is said.
pub(crate) fn cut(properties: &Map<String, Json>) -> String {
    let whole = text(properties.iter());
    if whole.len() <= MOST {
        return whole;
    }
    // With the comma before it.
    let room = MOST.saturating_sub(note(properties.len()).len());
    let mut kept = Map::new();
    let mut length = "{}".len();
    for (name, value) in properties {
        let entry =
            text(std::iter::once((name, value))).len().saturating_sub("{}".len()) + usize::from(!kept.is_empty());
        if length + entry <= room {
            length += entry;
            kept.insert(name.clone(), value.clone());
        }
    }
    let left_out = properties.len().saturating_sub(kept.len());
    kept.insert(LEFT_OUT.to_owned(), said(left_out).into());
    text(kept.iter())
}

fn said(left_out: usize) -> String {
    format!("{left_out} more, left out beyond 1 KB")
}

fn note(left_out: usize) -> String {
    format!(r#","{LEFT_OUT}":"{}""#, said(left_out))
}

fn text<'a>(properties: impl Iterator<Item = (&'a String, &'a Json)>) -> String {
    let object: Map<String, Json> = properties.map(|(name, value)| (name.clone(), value.clone())).collect();
    Json::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cut_of(properties: Json) -> (String, Map<String, Json>) {
        let Json::Object(properties) = properties else { panic!("no object") };
        let text = cut(&properties);
        let Ok(Json::Object(read)) = serde_json::from_str(&text) else { panic!("no object: {text}") };
        (text, read)
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let properties = json!({"/3/0": "</3/0>,</3/0/1>", "b": 1, "a": null});
        assert_eq!(cut_of(properties.clone()).0, properties.to_string());
    }

    #[test]
    fn what_does_not_fit_is_left_out_whole_and_that_is_said() {
        for length in [1, 7, 30, 100, 500] {
            let all: Map<String, Json> = (0..2_000).map(|i| (format!("/{i}"), "x".repeat(length).into())).collect();
            let count = all.len();
            let (text, read) = cut_of(Json::Object(all));
            assert!(text.len() <= MOST, "{length}: {}", text.len());
            assert!(text.len() + length + 20 > MOST, "{length}: {} leaves room", text.len());
            assert_eq!(read[LEFT_OUT], format!("{} more, left out beyond 1 KB", count + 1 - read.len()), "{length}");
            assert_eq!(read["/0"], "x".repeat(length), "{length}");
        }
    }

    #[test]
    fn one_that_is_too_large_does_not_push_out_the_others() {
        let (_, read) = cut_of(json!({"large": "x".repeat(5_000), "small": "y"}));
        assert_eq!(Json::Object(read), json!({"small": "y", "…": "1 more, left out beyond 1 KB"}));
    }
}
