//! Digests of what an author wrote: a part for each of the [`FIELDS`], so that what an earlier request has left in `desired` is
//! told from what a request has itself.
//!
//! Parts are separated by dots. One is empty if the update lacks the field, so that what stands in `desired` is not known, and `-`
//! if it removes the field with `null`.

use serde_json::Value;

use crate::matching::fnv_1a;
use crate::record::FIELDS;

/// Part of a field that an update removes, so that it does not stand in `desired`.
const REMOVED: &str = "-";

/// Mark of a part that an earlier request has left in `desired`.
const LEFT: char = '~';

/// Digest of the fields that an update of `desired` has.
pub fn content_digest<'a>(field: impl Fn(&str) -> Option<&'a Value>) -> String {
    let part = |name: &&str| match field(name) {
        None => String::new(),
        Some(Value::Null) => REMOVED.to_owned(),
        Some(value) => format!("{:08x}", fnv_1a(value.to_string().bytes())),
    };
    joined(FIELDS.iter().map(part))
}

/// Digest of a request by itself: a field that it removes is one that it does not have.
pub fn request_digest(digest: &str) -> String {
    joined(parts(digest).map(|part| own(part).to_owned()))
}

/// Digest of what stands in `desired` after an update. What earlier ones left there is marked.
pub(crate) fn merged(before: &str, update: &str) -> String {
    let part = |(before, update): (&str, &str)| match (before, update) {
        (before, "") if own(before).is_empty() => before.to_owned(),
        (before, "") => format!("{LEFT}{before}"),
        (_, update) => update.to_owned(),
    };
    joined(parts(before).zip(parts(update)).map(part))
}

/// Whether a saved document repeats the latest request of what stands in `desired`. Fields that the operation does not have
/// make it no other request, and neither does what an earlier request has left there, nor what may have been there.
pub(crate) fn repeats(desired: &str, saved: &str, operation: &str) -> bool {
    // Version 0.1.0 stored one hash of all fields. What must not run twice is rather refused.
    if desired.len() == 16 && !desired.contains('.') {
        return true;
    }
    let fields = FIELDS.iter().zip(parts(desired).zip(parts(saved)));
    fields.filter(|(field, _)| has_field(operation, field)).all(|(_, (desired, saved))| {
        match (desired, desired.strip_prefix(LEFT)) {
            ("", _) => true,
            (_, Some(left)) => own(saved).is_empty() || saved == left,
            _ => own(saved) == own(desired),
        }
    })
}

/// Whether an operation that must not run twice has a field.
fn has_field(operation: &str, field: &str) -> bool {
    match field {
        "values" => operation == "create",
        "arguments" => operation == "execute",
        _ => matches!(field, "operation" | "keys"),
    }
}

/// Part of a request by itself.
fn own(part: &str) -> &str {
    if part == REMOVED || part.starts_with(LEFT) { "" } else { part }
}

fn parts(digest: &str) -> impl Iterator<Item = &str> {
    digest.split('.').chain(std::iter::repeat("")).take(FIELDS.len())
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(".").trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(update: &Value) -> String {
        content_digest(|field| update.get(field))
    }

    #[test]
    fn a_request_is_compared_by_the_fields_that_it_has() {
        let read = digest(&json!({"operation": "read", "keys": ["Device"], "version": 1}));
        let with_null = digest(&json!({"operation": "read", "keys": ["Device"], "values": null, "version": 2}));
        let other = digest(&json!({"operation": "read", "keys": ["Device.0"]}));
        assert_ne!(read, other);
        assert_eq!((request_digest(&read), request_digest(&with_null)), (read.clone(), read));
    }

    #[test]
    fn a_saved_document_has_what_earlier_requests_left() {
        let first = digest(&json!({"operation": "execute", "keys": ["a"], "arguments": "0", "values": [1]}));
        let reboot = digest(&json!({"operation": "execute", "keys": ["b"]}));
        let with_arguments = digest(&json!({"operation": "execute", "keys": ["b"], "arguments": "1"}));
        let saved = |more: Value| {
            let mut document = json!({"operation": "execute", "keys": ["b"]});
            document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            digest(&document)
        };
        let desired = merged(&first, &reboot);
        for (more, repeated) in [
            (json!({"arguments": "0", "values": [1]}), true),
            // Removed since, by an update that is no request; or the latest request alone
            (json!({}), true),
            (json!({"arguments": null}), true),
            (json!({"arguments": "1"}), false),
            // Not sent with an execute
            (json!({"values": [2]}), true),
            (json!({"keys": ["a"], "arguments": "0"}), false),
        ] {
            assert_eq!(repeats(&desired, &saved(more.clone()), "execute"), repeated, "{more}");
            assert_eq!(repeats(&merged(&desired, &reboot), &saved(more.clone()), "execute"), repeated, "{more}");
        }
        let desired = merged(&desired, &with_arguments);
        assert!(repeats(&desired, &saved(json!({"arguments": "1"})), "execute"));
        assert!(!repeats(&desired, &saved(json!({})), "execute"), "without what the latest request has");
        let removed = merged(&desired, &saved(json!({"arguments": null})));
        assert!(repeats(&removed, &saved(json!({})), "execute"));
        assert!(repeats("0123456789abcdef", &saved(json!({})), "execute"), "of version 0.1.0");
        assert!(!repeats(&removed, &saved(json!({"arguments": "1"})), "execute"));
        assert!(!repeats(&merged(&removed, &reboot), &saved(json!({"arguments": "1"})), "execute"), "still removed");
        // An update that is no request, or an earlier stack's request, may have left them.
        assert!(repeats(&reboot, &saved(json!({"arguments": "0"})), "execute"));
        assert!(repeats(&request_digest(&with_arguments), &saved(json!({"arguments": "1"})), "execute"));
    }
}
