//! `lwm2m datamodel`: the values in the datamodel shadow of a thing, each with its path.

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
    /// `None` for a resource without a value, such as one that is only executed.
    value: Option<String>,
}

/// Shows the values at a path and below it, or all.
pub(crate) async fn run(aws: &Aws, thing: &ThingName, path: Option<&str>) -> Result<Exit, Failure> {
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

/// Translates a path into its key, by names; the key of the whole data model is empty.
fn key(path: Option<&str>) -> Result<String, Failure> {
    match path.map(|path| (path, Target::parse(path))) {
        None | Some((_, Ok(Target::Root))) => Ok(String::new()),
        Some((_, Ok(Target::Path(path)))) => Ok(path.to_string()),
        Some((path, Err(why))) => Err(Failure::invalid_arguments(format!("{path}: {why}"))),
    }
}

/// Collects the reported values at these keys and below them, in order.
pub(crate) fn leaves(reported: &Json, keys: &[String]) -> Vec<Leaf> {
    let mut all = Vec::new();
    collect(&mut all, "", reported);
    let is_below = |path: &str, key: &String| {
        key.is_empty() || path.strip_prefix(key.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    all.retain(|leaf| keys.iter().any(|key| is_below(&leaf.path, key)));
    all
}

fn collect(leaves: &mut Vec<Leaf>, path: &str, value: &Json) {
    let children = match value {
        Json::Object(children) if children.contains_key("noValue") || (children.is_empty() && !path.is_empty()) => {
            return leaves.push(Leaf { path: path.to_owned(), value: None });
        }
        Json::Object(children) => children,
        Json::Null => return,
        Json::String(text) => return leaves.push(Leaf { path: path.to_owned(), value: Some(text.clone()) }),
        other => return leaves.push(Leaf { path: path.to_owned(), value: Some(other.to_string()) }),
    };
    let mut children: Vec<(&String, &Json)> = children.iter().collect();
    // Instances by number, names alphabetically.
    children.sort_by_key(|(name, _)| (name.parse::<u32>().unwrap_or(u32::MAX), name.as_str()));
    for (name, value) in children {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(leaves, &path, value);
    }
}

pub(crate) fn as_json(leaves: &[Leaf]) -> Json {
    let entry = |leaf: &Leaf| (leaf.path.clone(), leaf.value.clone().map_or(Json::Null, Json::String));
    Json::Object(leaves.iter().map(entry).collect::<Map<_, _>>())
}

/// Prints the values, if there are any.
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
