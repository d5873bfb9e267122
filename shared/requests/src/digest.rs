//! Digests of what an author wrote: a part for each of the [`FIELDS`], so that what an earlier request has left in `desired` is
//! told from what a request has itself.
//!
//! Parts are separated by dots. One is empty if the update lacks the field, and `-` if it removes the field with `null`.

use serde_json::Value;

use crate::record::FIELDS;

/// Part of a field that an update removes.
const REMOVED: &str = "-";

/// Digest of the fields that an update of `desired` has.
pub fn content_digest<'a>(field: impl Fn(&str) -> Option<&'a Value>) -> String {
    let part = |name: &&str| match field(name) {
        None => String::new(),
        Some(Value::Null) => REMOVED.to_owned(),
        Some(value) => format!("{:08x}", fnv1a(value.to_string().as_bytes())),
    };
    joined(FIELDS.iter().map(part))
}

/// Digest of a request by itself: a field that it removes is one that it does not have.
pub fn request_digest(digest: &str) -> String {
    joined(parts(digest).map(|part| if part == REMOVED { String::new() } else { part.to_owned() }))
}

/// Digest of what stands in `desired` after an update.
pub(crate) fn merged(before: &str, update: &str) -> String {
    joined(
        parts(before)
            .zip(parts(update))
            .map(|(before, update)| if update.is_empty() { before } else { update }.to_owned()),
    )
}

/// Whether a saved document has what stood in `desired`. Of a field that is unknown there, it may have anything.
pub(crate) fn repeats(desired: &str, saved: &str) -> bool {
    parts(desired).zip(parts(saved)).all(|(desired, saved)| match desired {
        "" => true,
        REMOVED => saved.is_empty() || saved == REMOVED,
        desired => desired == saved,
    })
}

fn parts(digest: &str) -> impl Iterator<Item = &str> {
    digest.split('.').chain(std::iter::repeat("")).take(FIELDS.len())
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(".").trim_end_matches('.').to_owned()
}

/// 32-bit FNV-1a hash.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
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
        let write = digest(&json!({"operation": "write", "keys": ["a"], "values": [1]}));
        let reboot = digest(&json!({"operation": "execute", "keys": ["b"]}));
        let saved = |more: Value| {
            let mut document = json!({"operation": "execute", "keys": ["b"]});
            document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            digest(&document)
        };
        let desired = merged(&write, &reboot);
        assert!(repeats(&desired, &saved(json!({"values": [1]}))));
        assert!(
            repeats(&desired, &saved(json!({"values": [1], "arguments": "0"}))),
            "it may be older than what is known"
        );
        assert!(!repeats(&desired, &saved(json!({"values": [2]}))));
        assert!(!repeats(&desired, &saved(json!({}))));

        let cleared = merged(&desired, &digest(&json!({"operation": "execute", "keys": ["b"], "values": null})));
        assert!(repeats(&cleared, &saved(json!({}))));
        assert!(!repeats(&cleared, &saved(json!({"values": [1]}))));
        assert!(repeats("", &saved(json!({}))));
    }
}
