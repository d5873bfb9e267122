//! Properties of a report, in the form of a request's answer.

use serde_json::{Map, Value as Json};

/// Limit in an answer, in bytes.
const MAX_LENGTH: usize = 1_024;

/// Name of the entry with the number of those that were left out.
const LEFT_OUT: &str = "…";

/// The properties as a JSON object of at most a kilobyte. Entries that do not fit are left out whole, and counted in one more.
/// Arrays and objects become texts: a shadow takes neither every array nor every depth.
pub(crate) fn cut(properties: Map<String, Json>) -> String {
    let properties: Map<String, Json> = properties.into_iter().map(|(name, value)| (name, flat(value))).collect();
    let whole = text(properties.iter());
    if whole.len() <= MAX_LENGTH {
        return whole;
    }
    // With the comma before it.
    let room = MAX_LENGTH.saturating_sub(left_out_entry(properties.len()).len());
    let mut kept = Map::new();
    let mut length = "{}".len();
    for (name, value) in &properties {
        let entry =
            text(std::iter::once((name, value))).len().saturating_sub("{}".len()) + usize::from(!kept.is_empty());
        if length + entry <= room {
            length += entry;
            kept.insert(name.clone(), value.clone());
        }
    }
    let left_out = properties.len().saturating_sub(kept.len());
    kept.insert(LEFT_OUT.to_owned(), left_out_text(left_out).into());
    text(kept.iter())
}

fn flat(value: Json) -> Json {
    match value {
        Json::Array(_) | Json::Object(_) => Json::String(value.to_string()),
        scalar => scalar,
    }
}

fn left_out_text(left_out: usize) -> String {
    format!("{left_out} more, left out beyond 1 KB")
}

fn left_out_entry(left_out: usize) -> String {
    format!(r#","{LEFT_OUT}":"{}""#, left_out_text(left_out))
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
        let text = cut(properties);
        let Ok(Json::Object(read)) = serde_json::from_str(&text) else { panic!("no object: {text}") };
        (text, read)
    }

    #[test]
    fn properties_that_fit_stay_as_they_are() {
        let properties = json!({"/3/0": "</3/0>,</3/0/1>", "b": 1, "a": null});
        assert_eq!(cut_of(properties.clone()).0, properties.to_string());
    }

    #[test]
    fn arrays_and_objects_become_texts() {
        let (_, read) = cut_of(json!({"/3": ["a", null], "b": {"c": {"d": 1}}}));
        assert_eq!(Json::Object(read), json!({"/3": r#"["a",null]"#, "b": r#"{"c":{"d":1}}"#}));
    }

    #[test]
    fn properties_that_do_not_fit_are_left_out_whole_and_counted() {
        for length in [1, 7, 30, 100, 500] {
            let all: Map<String, Json> = (0..2_000).map(|i| (format!("/{i}"), "x".repeat(length).into())).collect();
            let count = all.len();
            let (text, read) = cut_of(Json::Object(all));
            assert!(text.len() <= MAX_LENGTH, "{length}: {}", text.len());
            assert!(text.len() + length + 20 > MAX_LENGTH, "{length}: {} leaves room", text.len());
            assert_eq!(read[LEFT_OUT], format!("{} more, left out beyond 1 KB", count + 1 - read.len()), "{length}");
            assert_eq!(read["/0"], "x".repeat(length), "{length}");
        }
    }

    #[test]
    fn a_large_property_does_not_push_out_the_others() {
        let (_, read) = cut_of(json!({"large": "x".repeat(5_000), "small": "y"}));
        assert_eq!(Json::Object(read), json!({"small": "y", "…": "1 more, left out beyond 1 KB"}));
    }
}
