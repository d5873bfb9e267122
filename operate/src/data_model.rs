//! What the datamodel shadow of a thing holds, value by value.

use lwm2m::path::Target;
use serde_json::{Map, Value as Json};
use shadow::ThingName;

use crate::connection::Aws;
use crate::exit::{Exit, Failure};
use crate::{output, shadows};

/// A value in the data model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    path: String,
    /// Nothing for a resource that has none, such as one that is only executed.
    value: Option<String>,
}

/// Shows what lies at a path, or all.
pub(crate) async fn show(aws: &Aws, thing: &ThingName, path: Option<&str>) -> Result<Exit, Failure> {
    let key = key(path)?;
    let reported = shadows::reported(&aws.iot_data(), thing, Some(shadows::DATAMODEL)).await?;
    let leaves = leaves(&reported, &[key]);
    if aws.json {
        output::json(&as_json(&leaves));
    } else if leaves.is_empty() {
        let what = path.map(|path| format!(" of {path}")).unwrap_or_default();
        output::note(&format!(
            "The datamodel shadow of {thing} holds nothing{what}; lwm2m read {thing} asks the device."
        ));
    } else {
        table(&leaves);
    }
    Ok(Exit::Done)
}

/// The path by name; empty for the whole data model.
fn key(path: Option<&str>) -> Result<String, Failure> {
    match path.map(|path| (path, Target::parse(path))) {
        None | Some((_, Ok(Target::Root))) => Ok(String::new()),
        Some((_, Ok(Target::Path(path)))) => Ok(path.to_string()),
        Some((path, Err(why))) => Err(Failure::not_valid(format!("{path}: {why}"))),
    }
}

/// What is reported at these keys and below them, in order.
pub(crate) fn leaves(reported: &Json, keys: &[String]) -> Vec<Leaf> {
    let mut all = Vec::new();
    add(&mut all, "", reported);
    let lies_at = |path: &str, key: &String| {
        key.is_empty() || path.strip_prefix(key.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    all.retain(|leaf| keys.iter().any(|key| lies_at(&leaf.path, key)));
    all
}

fn add(leaves: &mut Vec<Leaf>, path: &str, value: &Json) {
    let below = match value {
        Json::Object(below) if below.contains_key("noValue") || (below.is_empty() && !path.is_empty()) => {
            return leaves.push(Leaf { path: path.to_owned(), value: None });
        }
        Json::Object(below) => below,
        Json::Null => return,
        Json::String(text) => return leaves.push(Leaf { path: path.to_owned(), value: Some(text.clone()) }),
        other => return leaves.push(Leaf { path: path.to_owned(), value: Some(other.to_string()) }),
    };
    let mut parts: Vec<(&String, &Json)> = below.iter().collect();
    // Instances by number, and names by letter.
    parts.sort_by_key(|(name, _)| (name.parse::<u32>().unwrap_or(u32::MAX), name.as_str()));
    for (name, value) in parts {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        add(leaves, &path, value);
    }
}

pub(crate) fn as_json(leaves: &[Leaf]) -> Json {
    let entry = |leaf: &Leaf| (leaf.path.clone(), leaf.value.clone().map_or(Json::Null, Json::String));
    Json::Object(leaves.iter().map(entry).collect::<Map<_, _>>())
}

/// Prints them, if there are any.
pub(crate) fn table(leaves: &[Leaf]) {
    if leaves.is_empty() {
        return;
    }
    let row = |leaf: &Leaf| [leaf.path.clone(), leaf.value.clone().unwrap_or_else(|| "(no value)".to_owned())];
    output::table(["PATH", "VALUE"], leaves.iter().map(row));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_stand_at_their_paths_in_order() {
        let reported = json!({
            "Device": {"0": {"UTC Offset": "+02:00", "Reboot": {"noValue": true}, "Error Code": {"10": "7", "9": "0"}}},
            "Device X": {"0": {"A": "1"}},
        });
        let texts = |keys: &[&str]| {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            let text = |leaf: Leaf| format!("{}={}", leaf.path, leaf.value.unwrap_or_default());
            leaves(&reported, &keys).into_iter().map(text).collect::<Vec<_>>()
        };
        let device =
            ["Device.0.Error Code.9=0", "Device.0.Error Code.10=7", "Device.0.Reboot=", "Device.0.UTC Offset=+02:00"];
        assert_eq!(texts(&["Device"]), device);
        assert_eq!(texts(&["Device.0.Error Code.9", "Device X"]), ["Device.0.Error Code.9=0", "Device X.0.A=1"]);
        assert_eq!(texts(&[""]).len(), 5);
        assert!(leaves(&Json::Null, &[String::new()]).is_empty());
    }

    #[test]
    fn a_path_may_be_given_by_number() {
        assert_eq!(key(Some("/3/0/14")).unwrap(), "Device.0.UTC Offset");
        assert_eq!(key(Some("/")).unwrap(), "");
        assert_eq!(key(Some("Device/0")).unwrap_err().exit, Exit::Invalid);
    }
}
