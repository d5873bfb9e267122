//! Encoding of each operation for Coiote, byte for byte: request in, task out.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // A test that fails panics.

use lwm2m::{Request, Strictness, Task};
use serde_json::{Value as Json, json};

fn request(event: &str) -> Request {
    let mut event: Json = serde_json::from_str(event).unwrap();
    Request::take(|field| event.as_object_mut().and_then(|object| object.remove(field)))
}

/// Template, parameters and the codes of the notices.
fn task(event: &str) -> (String, Vec<(&'static str, String)>, Vec<&'static str>) {
    match request(event).parse(Strictness::Reject) {
        Ok(accepted) => {
            let Task { template, parameters } = Task::from(&accepted.operation);
            (template, parameters, accepted.notices.iter().map(|notice| notice.code.as_str()).collect())
        }
        Err(findings) => panic!("{event}: {findings:?}"),
    }
}

#[test]
fn the_parameter_keys_joins_the_keys_of_an_operation() {
    for (event, keys) in [
        (r#"{"operation": "read", "keys": ["/"]}"#, vec![""]),
        (r#"{"operation": "cancelObserve", "keys": ["/3", "all"]}"#, vec!["all"]),
        (
            r#"{"operation": "read", "keys": ["/3/0/14", "Device.0.UTC Offset.", "/1"]}"#,
            vec!["Device.0.UTC Offset", "LwM2M Server"],
        ),
        (
            r#"{"operation": "read", "keys": ["Access Control.0.Validity (MCC, MNC)"]}"#,
            vec!["Access Control.0.Validity (MCC, MNC)"],
        ),
        (
            r#"{"operation": "write", "keys": ["/3/0/14", "/1/1/1"], "values": ["+02:00", 68]}"#,
            vec!["Device.0.UTC Offset", "LwM2M Server.1.Lifetime"],
        ),
        (
            r#"{"operation": "observe", "keys": ["/3/0/9", "/1"], "attributes": [{}, {}]}"#,
            vec!["Device.0.Battery Level", "LwM2M Server"],
        ),
        (r#"{"operation": "execute", "keys": ["/3/0/4"]}"#, vec!["Device.0.Reboot"]),
        (r#"{"operation": "create", "keys": ["/16/3"]}"#, vec!["Portfolio.3"]),
        (r#"{"operation": "create", "keys": ["/16/3/0/1"], "values": ["x"]}"#, vec!["Portfolio.3.Identity.1"]),
        (r#"{"operation": "delete", "keys": ["/16/3", "/16/4"]}"#, vec!["Portfolio.3", "Portfolio.4"]),
    ] {
        let operation = request(event).parse(Strictness::Reject).unwrap().operation;
        assert_eq!(operation.keys(), keys, "{event}");
        assert_eq!(Task::from(&operation).parameters[0], ("keys", keys.join(",")), "{event}");
    }
}

fn assert_sends(event: &str, template: &str, parameters: &[(&'static str, &str)]) {
    let parameters = parameters.iter().map(|&(name, value)| (name, value.to_owned())).collect();
    assert_eq!(task(event), (template.to_owned(), parameters, vec![]), "{event}");
}

#[test]
fn read_is_deduplicated_sorted_and_without_what_another_key_covers() {
    for (keys, sent) in [
        (json!(["Device.0.UTC Offset"]), "Device.0.UTC Offset"),
        (json!(["LwM2M Server.1.Lifetime", "Device.0.UTC Offset"]), "Device.0.UTC Offset,LwM2M Server.1.Lifetime"),
        (json!(["Device.0.UTC Offset.", "Device.0.UTC Offset"]), "Device.0.UTC Offset"),
        (json!(["Device.0.UTC Offset", "Device.0"]), "Device.0"),
        (json!(["Test object.0.Integer array.4", "Test object", "Device.0"]), "Device.0,Test object"),
        // Covering follows the tree, not the text
        (json!(["LwM2M Server.1", "LwM2M Server.10"]), "LwM2M Server.1,LwM2M Server.10"),
        (json!(["Device", "Device Capability.0", "Device.0"]), "Device,Device Capability.0"),
        // The whole data model
        (json!(["/"]), ""),
        (json!([""]), ""),
        (json!(["."]), ""),
        (json!(["Device.0", "all"]), ""),
        // A comma in the only key
        (json!(["Access Control.0.Validity (MCC, MNC)"]), "Access Control.0.Validity (MCC, MNC)"),
        (json!(["Cell.0.Validity (MCC, MNC)", "Cell.0", "Cell.0"]), "Cell.0"),
    ] {
        for (operation, template) in [("read", "AWSreadCertAuth"), ("readComposite", "AWSreadCompositeCertAuth")] {
            assert_sends(&json!({"operation": operation, "keys": keys}).to_string(), template, &[("keys", sent)]);
        }
    }
}

#[test]
fn write_keeps_the_order_and_writes_values_as_json_has_them() {
    for (operation, template) in [("write", "AWSwriteCertAuth"), ("writeComposite", "AWSwriteCompositeCertAuth")] {
        assert_sends(
            &r#"{"operation": "OP", "keys": ["LwM2M Server.1.Lifetime", "Device.0.UTC Offset"], "values": [68, "+02:00"]}"#
                .replace("OP", operation),
            template,
            &[("keys", "LwM2M Server.1.Lifetime,Device.0.UTC Offset"), ("values", "68,+02:00")],
        );
        assert_sends(
            &r#"{"operation": "OP", "keys": ["T.0.a.", "T.0.b", "T.0.c", "T.0.d.7", "T.0.e", "T.0.f"],
                 "values": [9007199254740993, -7, 1.5, true, "", "ü x"]}"#
                .replace("OP", operation),
            template,
            &[("keys", "T.0.a,T.0.b,T.0.c,T.0.d.7,T.0.e,T.0.f"), ("values", "9007199254740993,-7,1.5,true,,ü x")],
        );
    }
}

#[test]
fn observe_sorts_the_keys_and_attributes_follow_their_key() {
    // The example of AVSystem's documentation, its keys in another order
    assert_sends(
        r#"{"operation": "observe",
            "keys": ["Test object.0.Integer array", "LwM2M Server.1.Lifetime", "Portfolio.11.Identity.1",
                     "Connectivity Monitoring.0.Radio Signal Strength"],
            "attributes": [{"pmax": 20}, {"pmin": 30, "pmax": 35}, {}, {"epmin": 5, "gt": -65.5, "lt": -105.5, "st": 4.0}]}"#,
        "AWSobserveCertAuth",
        &[
            (
                "keys",
                "Connectivity Monitoring.0.Radio Signal Strength,LwM2M Server.1.Lifetime,Portfolio.11.Identity.1,\
                 Test object.0.Integer array",
            ),
            ("attributes", "[{'epmin':5,'gt':-65.5,'lt':-105.5,'st':4.0},{'pmin':30,'pmax':35},{},{'pmax':20}]"),
        ],
    );
    assert_sends(
        r#"{"operation": "observe", "keys": ["Device.0.Battery Level"], "attributes": [{"pmin": null, "con": ""}]}"#,
        "AWSobserveCertAuth",
        &[("keys", "Device.0.Battery Level"), ("attributes", "[{'pmin':None,'con':''}]")],
    );
}

#[test]
fn observe_drops_a_covered_key_with_its_attributes_and_a_notice() {
    let (_, parameters, notices) = task(
        r#"{"operation": "observe", "keys": ["Device.0.Battery Level", "Device", "Device.0"],
            "attributes": [{"pmin": 1}, {"pmin": 2}, {}]}"#,
    );
    assert_eq!(parameters, [("keys", "Device".to_owned()), ("attributes", "[{'pmin':2}]".to_owned())]);
    assert_eq!(notices, ["ATTRIBUTES_IGNORED"]);
}

#[test]
fn write_attributes_keeps_the_order_and_spells_null_as_an_empty_string() {
    assert_sends(
        r#"{"operation": "writeAttributes", "keys": ["LwM2M Server.1.Lifetime", "Device.0.UTC Offset", "Device.0"],
            "attributes": [{"pmin": 30, "pmax": 35, "con": ""}, {"con": null}, {}]}"#,
        "AWSwriteAttributesCertAuth",
        &[
            ("keys", "LwM2M Server.1.Lifetime,Device.0.UTC Offset,Device.0"),
            ("attributes", "[{'pmin':30,'pmax':35,'con':''},{'con':''},{}]"),
        ],
    );
}

#[test]
fn cancel_observe_of_all_is_just_all() {
    for (operation, template) in
        [("cancelObserve", "AWScancelObserveCertAuth"), ("cancelObserveComposite", "AWScancelObserveCompositeCertAuth")]
    {
        for (keys, sent) in [
            (json!(["all"]), "all"),
            (json!(["Device.0", "all"]), "all"),
            (json!(["Device.0.UTC Offset", "Device.0", "Device.0."]), "Device.0.UTC Offset,Device.0"),
        ] {
            assert_sends(&json!({"operation": operation, "keys": keys}).to_string(), template, &[("keys", sent)]);
        }
    }
}

#[test]
fn execute_leaves_out_arguments_that_are_absent_or_null() {
    let keys = ("keys", "Device.0.Reboot");
    assert_sends(r#"{"operation": "execute", "keys": ["Device.0.Reboot"]}"#, "AWSexecuteCertAuth", &[keys]);
    assert_sends(
        r#"{"operation": "execute", "keys": ["Device.0.Reboot."], "arguments": null}"#,
        "AWSexecuteCertAuth",
        &[keys],
    );
    assert_sends(
        r#"{"operation": "execute", "keys": ["Device.0.Reboot"], "arguments": "0='abc',1"}"#,
        "AWSexecuteCertAuth",
        &[keys, ("arguments", "0='abc',1")],
    );
}

#[test]
fn discover_keeps_order_and_what_lies_below() {
    assert_sends(
        r#"{"operation": "discover", "keys": ["Device.0", "Device", "Device.0.", "Device.0.Battery Level"]}"#,
        "AWSdiscoverCertAuth",
        &[("keys", "Device.0,Device,Device.0.Battery Level")],
    );
}

#[test]
fn create_makes_one_object_instance_bare_or_with_values() {
    for event in [
        r#"{"operation": "create", "keys": ["Portfolio.3"]}"#,
        r#"{"operation": "create", "keys": ["Portfolio.3."], "values": []}"#,
    ] {
        assert_sends(event, "AWScreateCertAuth", &[("keys", "Portfolio.3"), ("values", "")]);
    }
    for key in ["Portfolio", "/16", "Portfolio."] {
        let event = json!({"operation": "create", "keys": [key]}).to_string();
        assert_sends(&event, "AWScreateCertAuth", &[("keys", "Portfolio"), ("values", "")]);
    }
    assert_sends(
        r#"{"operation": "create", "keys": ["Portfolio.3.Identity.0", "Portfolio.3.Identity.1"], "values": ["a", 1]}"#,
        "AWScreateCertAuth",
        &[("keys", "Portfolio.3.Identity.0,Portfolio.3.Identity.1"), ("values", "a,1")],
    );
}

#[test]
fn delete_takes_object_instances_and_resource_instances() {
    assert_sends(
        r#"{"operation": "delete", "keys": ["Portfolio.5.Identity.0", "Portfolio.11", "/16/5/0/0"]}"#,
        "AWSdeleteCertAuth",
        &[("keys", "Portfolio.5.Identity.0,Portfolio.11")],
    );
    assert_sends(
        r#"{"operation": "delete", "keys": ["Portfolio.5", "Portfolio.11", "Portfolio.5"]}"#,
        "AWSdeleteCertAuth",
        &[("keys", "Portfolio.5,Portfolio.11")],
    );
}

#[test]
fn observe_composite_does_not_send_attributes_and_leads_to_a_notice() {
    let (template, parameters, notices) = task(
        r#"{"operation": "observeComposite", "keys": ["LwM2M Server.1.Lifetime", "Device.0.UTC Offset"],
            "attributes": [{"pmin": 1}, {}]}"#,
    );
    assert_eq!(template, "AWSobserveCompositeCertAuth");
    assert_eq!(parameters, [("keys", "LwM2M Server.1.Lifetime,Device.0.UTC Offset".to_owned())]);
    assert_eq!(notices, ["ATTRIBUTES_IGNORED"]);
    // An answer has the code of the first notice.
    let (_, _, notices) =
        task(r#"{"operation": "observeComposite", "keys": ["/33000/0"], "attributes": [{}], "arguments": ""}"#);
    assert_eq!(notices, ["ATTRIBUTES_IGNORED", "OBJECT_NOT_DESCRIBED", "FIELD_IGNORED"]);
}

#[test]
fn a_field_that_the_operation_does_not_have_is_not_sent_and_leads_to_a_notice() {
    let (_, parameters, notices) =
        task(r#"{"operation": "read", "keys": ["Device.0"], "values": [1], "arguments": "0", "attributes": null}"#);
    assert_eq!(parameters, [("keys", "Device.0".to_owned())]);
    assert_eq!(notices, ["FIELD_IGNORED", "FIELD_IGNORED"]);
}

#[test]
fn findings_name_code_field_position_and_remedy() {
    for (event, expected) in [
        (r#"{"keys": ["Device"]}"#, vec!["OPERATION_MISSING operation: missing; one of: read, write,"]),
        (
            r#"{"operation": 5, "keys": ["Device"]}"#,
            vec!["OPERATION_UNKNOWN operation: expected a string, found a number"],
        ),
        (
            r#"{"operation": "Read", "keys": ["Device"]}"#,
            vec!["OPERATION_UNKNOWN operation: no operation \"Read\"; did you mean \"read\"?"],
        ),
        (r#"{"operation": "reboot"}"#, vec!["OPERATION_UNKNOWN operation: no operation \"reboot\"; one of: read,"]),
        (r#"{"operation": "read"}"#, vec!["KEYS_MISSING keys: missing;"]),
        (r#"{"operation": "read", "keys": []}"#, vec!["KEYS_MISSING keys: missing;"]),
        (
            r#"{"operation": "read", "keys": "Device"}"#,
            vec!["KEYS_INVALID keys: expected an array of paths, found a string"],
        ),
        (
            r#"{"operation": "read", "keys": ["Device..0", 7, "LwM2M Server.65535"]}"#,
            vec![
                "PATH_INVALID keys[0]: \"Device..0\": an empty name",
                "KEYS_INVALID keys[1]: expected a path as a string, found a number",
                "PATH_INVALID keys[2]: \"LwM2M Server.65535\": the object instance has to be from 0 to 65534",
            ],
        ),
        (r#"{"operation": "read", "keys": ["A.0.x, y", "B"]}"#, vec!["VALUE_NOT_ENCODABLE keys[0]: \"A.0.x, y\":"]),
        (
            r#"{"operation": "write", "keys": ["Device.0.UTC Offset"]}"#,
            vec!["VALUES_MISSING values: missing; an array with one value for each key"],
        ),
        (
            r#"{"operation": "write", "keys": ["Device.0.UTC Offset"], "values": "+02:00"}"#,
            vec!["VALUES_INVALID values: found a string;"],
        ),
        (
            r#"{"operation": "write", "keys": ["Device.0.UTC Offset"], "values": ["+02:00", 1]}"#,
            vec!["VALUE_COUNT values: 2 for 1 key;"],
        ),
        (
            r#"{"operation": "write", "keys": ["Device.0", "A.0.b", "A.0.c"], "values": [1, "a,b", null]}"#,
            vec![
                "PATH_LEVEL keys[0]: \"Device.0\": write addresses a resource to a resource instance, this is an object instance",
                "VALUE_NOT_ENCODABLE values[1]: a value that holds a comma",
                "VALUE_NOT_ENCODABLE values[2]: null cannot be sent",
            ],
        ),
        (
            r#"{"operation": "write", "keys": ["A.0.b", "A.0.b."], "values": [1, 2]}"#,
            vec!["KEY_DUPLICATE keys[1]: \"A.0.b\": the same as keys[0]"],
        ),
        (
            r#"{"operation": "write", "keys": ["A.0.b, c"], "values": [1]}"#,
            vec!["VALUE_NOT_ENCODABLE keys[0]: \"A.0.b, c\":"],
        ),
        (r#"{"operation": "write", "keys": ["/"], "values": [1]}"#, vec!["PATH_LEVEL keys[0]: \"/\": write addresses"]),
        (
            r#"{"operation": "observe", "keys": ["Device"]}"#,
            vec!["ATTRIBUTES_MISSING attributes: missing; an array with one object ({} leaves"],
        ),
        (
            r#"{"operation": "observe", "keys": ["Device", "Device."], "attributes": [{}, {}]}"#,
            vec!["KEY_DUPLICATE keys[1]:"],
        ),
        (
            r#"{"operation": "observe", "keys": ["Device"], "attributes": [{}, {}]}"#,
            vec!["ATTRIBUTE_COUNT attributes: 2 for 1 key"],
        ),
        (
            r#"{"operation": "writeAttributes", "keys": ["A", "B", "C"], "attributes": [5, {"p min": 1}, {"con": "it's"}]}"#,
            vec![
                "ATTRIBUTES_INVALID attributes[0]: expected an object",
                "ATTRIBUTE_UNKNOWN attributes[1]: no attribute \"p min\"; one of: pmin, pmax,",
                "ATTRIBUTES_INVALID attributes[2]: con: expected 0, 1, true or false",
            ],
        ),
        (
            r#"{"operation": "execute", "keys": ["Device.0.Reboot", "Device.0.Factory Reset"]}"#,
            vec!["KEY_COUNT keys: execute takes exactly one key, found 2"],
        ),
        (
            r#"{"operation": "execute", "keys": ["Device.0"], "arguments": {"0": "a"}}"#,
            vec![
                "PATH_LEVEL keys[0]: \"Device.0\": execute addresses a resource, this is an object instance",
                "ARGUMENTS_INVALID arguments: expected a string in LwM2M form, as in 0='abc',1, found an object",
            ],
        ),
        (
            r#"{"operation": "execute", "keys": ["Device.0.Reboot"], "arguments": "now"}"#,
            vec!["ARGUMENTS_INVALID arguments: at character 0: expected a digit"],
        ),
        (
            r#"{"operation": "delete", "keys": ["Portfolio"]}"#,
            vec![
                "PATH_LEVEL keys[0]: \"Portfolio\": delete addresses an object instance or a resource instance, this is an object",
            ],
        ),
        (
            r#"{"operation": "delete", "keys": ["Portfolio.5.Identity", "Vendor.0.x"]}"#,
            vec![
                "PATH_LEVEL keys[0]: \"Portfolio.5.Identity\": delete addresses an object instance or a resource instance",
                "PATH_LEVEL keys[1]:",
            ],
        ),
        (r#"{"operation": "discover", "keys": ["all"]}"#, vec!["PATH_LEVEL keys[0]: \"all\": discover addresses"]),
        (
            r#"{"operation": "create", "keys": ["/"]}"#,
            vec!["PATH_LEVEL keys[0]: \"/\": create addresses an object to a resource instance"],
        ),
        (
            r#"{"operation": "create", "keys": ["Portfolio"], "values": ["x"]}"#,
            vec!["KEY_COUNT keys[0]: \"Portfolio\": an object stands alone and without values"],
        ),
        (
            r#"{"operation": "create", "keys": ["Portfolio", "Portfolio.3.Identity.0"], "values": ["x", "y"]}"#,
            vec!["KEY_COUNT keys[0]: \"Portfolio\": an object stands alone", "KEY_COUNT keys[1]:"],
        ),
        (
            r#"{"operation": "create", "keys": ["Portfolio.3", "Portfolio.4"]}"#,
            vec![
                "KEY_COUNT keys[0]: \"Portfolio.3\": an object instance stands alone",
                "KEY_COUNT keys[1]:",
                "VALUES_MISSING",
            ],
        ),
        (
            r#"{"operation": "create", "keys": ["T.3.a", "T.4.a"], "values": [1, 2]}"#,
            vec!["KEY_COUNT keys[1]: \"T.4.a\": lies in another object instance than keys[0]"],
        ),
    ] {
        let findings = request(event).parse(Strictness::Reject).expect_err(event);
        let messages: Vec<String> = findings.iter().map(|f| format!("{} {}", f.code, f.message)).collect();
        assert_eq!(messages.len(), expected.len(), "{event}: {messages:#?}");
        for (message, expected) in messages.iter().zip(&expected) {
            assert!(message.starts_with(expected), "{event}:\n  message  {message}\n  expected {expected}");
        }
    }
}
