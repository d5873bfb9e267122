//! Checks of requests against the objects' descriptions: request in, findings out.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // A test that fails panics.

use std::collections::HashMap;

use lwm2m::{Accepted, Request, Strictness, Task};
use serde_json::{Value as Json, json};

fn parse(mut event: Json, strictness: Strictness) -> Result<Accepted, Vec<String>> {
    let request = Request::take(|field| event.as_object_mut().and_then(|object| object.remove(field)));
    request.parse(strictness).map_err(|findings| findings.iter().map(|f| format!("{} {}", f.code, f.message)).collect())
}

fn findings(event: Json) -> Vec<String> {
    parse(event, Strictness::Reject).err().unwrap_or_default()
}

/// Asserts that the request passes without notices.
fn assert_passes(event: Json) {
    match parse(event.clone(), Strictness::Reject) {
        Ok(accepted) => assert_eq!(accepted.notices, [], "{event}"),
        Err(findings) => panic!("{event}: {findings:#?}"),
    }
}

/// Asserts that the request is rejected with these findings, or sent with them as notices.
fn assert_findings(event: Json, expected: &[&str]) {
    assert_eq!(findings(event.clone()), expected, "{event}");
    let accepted = parse(event.clone(), Strictness::Notice).unwrap_or_else(|f| panic!("{event}: {f:#?}"));
    let notices: Vec<String> = accepted.notices.iter().map(|f| format!("{} {}", f.code, f.message)).collect();
    assert_eq!(notices, expected, "{event}");
}

#[test]
fn unknown_resources() {
    assert_findings(
        json!({"operation": "read", "keys": ["Device.0", "Device.0.UTC Ofset", "/3/0/9999"]}),
        &[
            "RESOURCE_UNKNOWN keys[1]: \"Device.0.UTC Ofset\": no such resource in Device (did you mean \"UTC Offset\"?)",
            "RESOURCE_UNKNOWN keys[2]: \"/3/0/9999\": no resource 9999 in Device",
        ],
    );
    // Valid in one of the objects of this name
    assert_passes(json!({"operation": "read", "keys": ["Location.0.Latitude", "Location.0.Numeric Latitude"]}));
    assert_findings(
        json!({"operation": "read", "keys": ["Location.0.Lattitude"]}),
        &[
            "RESOURCE_UNKNOWN keys[0]: \"Location.0.Lattitude\": no such resource in Location (did you mean \"Latitude\"?)",
        ],
    );
    // Ids of vendors
    assert_passes(json!({"operation": "read", "keys": ["/3/0/26241", "Device.0.32000"]}));
}

#[test]
fn operations_that_a_resource_does_not_allow() {
    assert_findings(
        json!({"operation": "write", "keys": ["Device.0.Manufacturer"], "values": ["x"]}),
        &["NOT_ALLOWED keys[0]: \"Device.0.Manufacturer\": write is not possible: Manufacturer can only be read"],
    );
    assert_findings(
        json!({"operation": "execute", "keys": ["Device.0.UTC Offset"]}),
        &[
            "NOT_ALLOWED keys[0]: \"Device.0.UTC Offset\": execute is not possible: UTC Offset can only be read and written",
        ],
    );
    assert_findings(
        json!({"operation": "read", "keys": ["Device.0.Reboot", "Firmware Update.0.Package"]}),
        &[
            "NOT_ALLOWED keys[0]: \"Device.0.Reboot\": read is not possible: Reboot can only be executed",
            "NOT_ALLOWED keys[1]: \"Firmware Update.0.Package\": read is not possible: Package can only be written",
        ],
    );
    assert_findings(
        json!({"operation": "observe", "keys": ["LWM2M Security.0.Secret Key"], "attributes": [{}]}),
        &[
            "NOT_ALLOWED keys[0]: \"LWM2M Security.0.Secret Key\": observe is not possible: Secret Key can only be accessed by a bootstrap server",
        ],
    );
    // Above the level of resources, the device reads all that is readable
    assert_passes(json!({"operation": "read", "keys": ["Firmware Update.0", "Device"]}));
    assert_passes(json!({"operation": "discover", "keys": ["Device.0.Reboot"]}));
}

#[test]
fn objects_that_only_bootstrap_servers_access() {
    let attributes = json!([{"pmin": 5}]);
    for (key, object) in [
        ("LWM2M Security", "LWM2M Security"),
        ("LWM2M Security.1", "LWM2M Security"),
        ("/0/1/26241", "LWM2M Security"),
        ("/21/0", "LWM2M OSCORE"),
        ("LwM2M COSE.0", "LwM2M COSE"),
    ] {
        for operation in ["read", "discover", "observe", "writeAttributes"] {
            let mut event = json!({"operation": operation, "keys": [key]});
            if matches!(operation, "observe" | "writeAttributes") {
                event["attributes"] = attributes.clone();
            }
            let expected = format!(
                "NOT_ALLOWED keys[0]: \"{key}\": {operation} is not possible: {object} can only be accessed by a bootstrap server"
            );
            assert_findings(event, &[&expected]);
        }
    }
    for event in [
        json!({"operation": "discover", "keys": ["LWM2M Security.0.Secret Key"]}),
        json!({"operation": "writeAttributes", "keys": ["LWM2M Security.0.Secret Key"], "attributes": attributes}),
        json!({"operation": "execute", "keys": ["/0/0/26241"]}),
        json!({"operation": "write", "keys": ["/0/0/26241"], "values": [1]}),
        json!({"operation": "create", "keys": ["LWM2M OSCORE"]}),
        json!({"operation": "delete", "keys": ["LwM2M COSE.0"]}),
    ] {
        let found = findings(event.clone());
        assert!(found.len() == 1 && found[0].starts_with("NOT_ALLOWED"), "{event}: {found:?}");
    }
    for event in [
        json!({"operation": "readComposite", "keys": ["LWM2M Security", "Device"]}),
        json!({"operation": "observeComposite", "keys": ["LWM2M Security.0"]}),
        json!({"operation": "cancelObserve", "keys": ["LWM2M Security.0"]}),
        json!({"operation": "read", "keys": ["/"]}),
        // Some of its resources are for bootstrap servers
        json!({"operation": "read", "keys": ["LwM2M Server.1"]}),
        json!({"operation": "discover", "keys": ["/1/1/13"]}),
    ] {
        assert_passes(event);
    }
}

#[test]
fn instances_of_single_and_multiple_resources_and_objects() {
    assert_findings(
        json!({"operation": "read", "keys": ["Device.1", "LwM2M Server.5", "Device.0.UTC Offset.0"]}),
        &[
            "INSTANCE_UNKNOWN keys[0]: \"Device.1\": Device has a single object instance: Device.0",
            "INSTANCE_UNKNOWN keys[2]: \"Device.0.UTC Offset.0\": UTC Offset has a single value and no resource instances",
        ],
    );
    assert_findings(
        json!({"operation": "write", "keys": ["Portfolio.5.Identity"], "values": ["AVS"]}),
        &[
            "INSTANCE_MISSING keys[0]: \"Portfolio.5.Identity\": Identity is a multiple resource; give each resource instance a key, as in Portfolio.5.Identity.0",
        ],
    );
    assert_passes(json!({"operation": "write", "keys": ["Portfolio.5.Identity.1"], "values": ["AVS"]}));
    assert_passes(json!({"operation": "read", "keys": ["Portfolio.5.Identity", "Device.0.Error Code.0"]}));
}

#[test]
fn creating_and_deleting_instances() {
    assert_passes(json!({"operation": "create", "keys": ["Portfolio.3"]}));
    // The device chooses the id
    assert_passes(json!({"operation": "create", "keys": ["Portfolio"]}));
    assert_passes(json!({"operation": "create", "keys": ["/16"], "values": []}));
    // The single instance of an optional object may be missing, and so may an optional resource
    for event in [
        json!({"operation": "create", "keys": ["LWM2M Bearer Selection"]}),
        json!({"operation": "create", "keys": ["LWM2M Bearer Selection.0"]}),
        json!({"operation": "create", "keys": ["LWM2M Bearer Selection.0.Acceptable RSSI (GSM)"], "values": [-90]}),
        json!({"operation": "delete", "keys": ["LWM2M Bearer Selection.0"]}),
        // Since LwM2M 1.2
        json!({"operation": "delete", "keys": ["Portfolio.5.Identity.0", "/16/5/0/1", "Vendor.0.List.3"]}),
    ] {
        assert_passes(event);
    }
    assert_passes(json!({"operation": "create", "keys": ["Portfolio.3.Identity.0"], "values": ["AVS"]}));
    assert_passes(json!({"operation": "delete", "keys": ["Portfolio.3", "LwM2M Server.1"]}));
    // Mandatory, but an instance that could be deleted can be created again
    for operation in ["delete", "create"] {
        assert_passes(json!({"operation": operation, "keys": ["Robot.0"]}));
    }
    for key in ["Device.1", "Device.0", "Device", "LWM2M Bearer Selection.1"] {
        let object = key.split('.').next().unwrap();
        let message =
            format!("NOT_ALLOWED keys[0]: \"{key}\": {object} has a single object instance; no other can be created");
        assert_findings(json!({"operation": "create", "keys": [key]}), &[&message]);
    }
    assert_findings(
        json!({"operation": "delete", "keys": ["Device.0.UTC Offset.0", "/0/1/0/0"]}),
        &[
            "INSTANCE_UNKNOWN keys[0]: \"Device.0.UTC Offset.0\": UTC Offset has a single value and no resource instances",
            "NOT_ALLOWED keys[1]: \"/0/1/0/0\": only a bootstrap server may delete instances of LWM2M Security",
            "INSTANCE_UNKNOWN keys[1]: \"/0/1/0/0\": LWM2M Server URI has a single value and no resource instances",
        ],
    );
    assert_findings(
        json!({"operation": "delete", "keys": ["Device.0", "/0/1"]}),
        &[
            "NOT_ALLOWED keys[0]: \"Device.0\": the object instance of Device cannot be deleted",
            "NOT_ALLOWED keys[1]: \"/0/1\": only a bootstrap server may delete instances of LWM2M Security",
        ],
    );
}

#[test]
fn values_of_every_type() {
    // Resource, valid values, invalid values
    let lnk = "LWM2M Security.0.OSCORE Security Mode";
    for (key, fits, does_not) in [
        (
            "LwM2M Server.1.Lifetime",
            json!([68, -1, "68", "9223372036854775807", 68.0, "68.0", 1e3, "-0"]),
            json!([68.5, "x", "", true, "1e3", 1e300, "9223372036854775808", " 68", "+68", "+68.0"]),
        ),
        ("LWM2M Security.0.Matching Type", json!([0, 3, "2", 2.0]), json!([-1, 4, 1.5, "a", 4.0, "+1"])),
        (
            "Temperature.0.Sensor Value",
            json!([23.5, -1, "1e3", "1e+3", "23"]),
            json!(["inf", "NaN", "warm", true, "", "+1.5"]),
        ),
        ("LWM2M Security.0.Bootstrap-Server", json!([true, false, "true", "0", 1]), json!(["yes", 2, "TRUE"])),
        ("Device.0.UTC Offset", json!(["+02:00", 2, true, ""]), json!([])),
        (
            "Device.0.Current Time",
            json!([
                1795370400,
                "0",
                -1,
                1795370400.0,
                "2022-10-07T13:33:22Z",
                "2022-10-07T15:33:22+02:00",
                "+12022-10-07T13:33:22Z"
            ]),
            json!([
                "",
                "now",
                1.5,
                true,
                "+1795370400",
                "2022-10-07",
                "2022-10-07T13:33:22",
                "2022-10-07T13:33:22.5Z",
                "2022-02-30T13:33:22Z",
                "13:33:22Z"
            ]),
        ),
        (
            "LWM2M Security.0.Secret Key",
            json!(["c2VjcmV0", "true", "00ff", "0x00ff", "", "c2VjcmV0cw==", "c2VjcmV0cw", "c2VjcmU=", "c2VjcmU"]),
            json!([
                "not base64!",
                "ä",
                "00:ff",
                true,
                1234,
                "0x012",
                "=",
                "==",
                "A=",
                "AA=",
                "AAA==",
                "AAAA=",
                "AAAA==",
                "A==="
            ]),
        ),
        (
            lnk,
            json!(["21:0", "65535:65535"]),
            json!(["21", "21:x", "21:65536", 21, "+21:0", "021:0", "21:+0", "21:00"]),
        ),
    ] {
        for (values, fit) in [(&fits, true), (&does_not, false)] {
            for value in values.as_array().unwrap() {
                let event =
                    json!({"operation": "create", "keys": [format!("X{key}").strip_prefix('X')], "values": [value]});
                let mismatches = findings(event).into_iter().filter(|message| message.starts_with("VALUE_")).count();
                assert_eq!(mismatches == 0, fit, "{key}: {value}");
            }
        }
    }
}

#[test]
fn findings_name_the_type_or_range_and_do_not_repeat_the_value() {
    assert_findings(
        json!({"operation": "write", "keys": ["LwM2M Server.1.Lifetime", "Device.0.Current Time"], "values": ["s3cret", "now"]}),
        &[
            "VALUE_TYPE values[0]: Lifetime is an Integer: expected a whole number of at most 64 bits",
            "VALUE_TYPE values[1]: Current Time is a Time: expected a time without a fraction, as in 2022-10-07T13:33:22Z, or whole seconds since 1970",
        ],
    );
    assert_findings(
        json!({"operation": "write", "keys": ["Light Control.0.Dimmer"], "values": [101]}),
        &["VALUE_RANGE values[0]: outside of 0..100, the range for Dimmer"],
    );
    assert_passes(json!({"operation": "write", "keys": ["Light Control.0.Dimmer"], "values": [100]}));
}

#[test]
fn attributes_without_a_meaning() {
    assert_findings(
        json!({"operation": "observe", "keys": ["Device.0.UTC Offset", "Device.0.Battery Level"], "attributes": [{"gt": 1}, {"gt": 1, "edge": 1}]}),
        &[
            "ATTRIBUTE_NOT_ALLOWED attributes[0]: gt needs a number; UTC Offset is a String",
            "ATTRIBUTE_NOT_ALLOWED attributes[1]: edge needs a Boolean; Battery Level is an Integer",
        ],
    );
    assert_passes(json!({
        "operation": "writeAttributes",
        "keys": ["Device.0.Battery Level", "Digital Input.0.Digital Input State", "Device", "Vendor.0.x"],
        "attributes": [{"gt": 20, "lt": 10}, {"edge": 1}, {"pmin": 5}, {"gt": 1, "edge": 0}],
    }));
    // Devices ignore such a pmax, so it may be sent
    assert_findings(
        json!({"operation": "observe", "keys": ["Vendor.0", "Device.0"], "attributes": [{"pmin": 35, "pmax": 30}, {"pmin": 5, "pmax": 0}]}),
        &["ATTRIBUTES_CONTRADICT attributes[0]: pmin (35) has to be at most pmax (30), which devices ignore otherwise"],
    );
    // A wrong level is an error of form and rejected in any case
    let event = json!({"operation": "observe", "keys": ["Vendor.0"], "attributes": [{"st": 1}]});
    let expected = [
        "ATTRIBUTE_NOT_ALLOWED attributes[0]: st is for a resource or a resource instance, this is an object instance",
    ];
    assert_eq!(findings(event.clone()), expected);
    assert!(parse(event, Strictness::Notice).is_err());
}

#[test]
fn all_findings_are_reported_those_of_form_first() {
    assert_eq!(
        findings(
            json!({"operation": "write", "keys": ["Device.0.Manufacturer", "Device..0", "Device.0.Timezon"], "values": [1, "a,b"]})
        ),
        [
            "PATH_INVALID keys[1]: \"Device..0\": an empty name between dots (did you mean \"Device.0\"?)",
            "VALUE_NOT_ENCODABLE values[1]: a value that holds a comma cannot be told from two values and is not sent",
            "NOT_ALLOWED keys[0]: \"Device.0.Manufacturer\": write is not possible: Manufacturer can only be read",
            "RESOURCE_UNKNOWN keys[2]: \"Device.0.Timezon\": no such resource in Device (did you mean \"Timezone\"?)",
        ]
    );
}

#[test]
fn an_object_without_a_description_passes_unchanged() {
    assert_passes(json!({"operation": "write", "keys": ["Boiler Controller.7.Set Point.3"], "values": ["anything"]}));
    assert_passes(json!({"operation": "execute", "keys": ["Boiler Controller.7.Restart"]}));
    let sent = |keys: Json| {
        let accepted = parse(json!({"operation": "read", "keys": keys}), Strictness::Reject).unwrap();
        let notices: Vec<String> = accepted.notices.iter().map(|f| format!("{} {}", f.code, f.message)).collect();
        (Task::from(&accepted.operation).parameters, notices)
    };
    assert_eq!(
        sent(json!(["Temperature/Humidity.0.Value"])),
        (vec![("keys", "Temperature/Humidity.0.Value".to_owned())], vec![
            "OBJECT_NOT_DESCRIBED keys[0]: \"Temperature/Humidity.0.Value\": nobody described this object; sent as it is (did you mean \"Temperature\"?)".to_owned()
        ])
    );
    // A hint at a similar name, once for each object
    assert_eq!(
        sent(json!(["Devise.0.Timezone", "Devise.0.UTC Offset"])),
        (vec![("keys", "Devise.0.Timezone,Devise.0.UTC Offset".to_owned())], vec![
            "OBJECT_NOT_DESCRIBED keys[0]: \"Devise.0.Timezone\": nobody described this object; sent as it is (did you mean \"Device\"?)".to_owned()
        ])
    );
    assert_eq!(
        sent(json!(["/32801/0/1"])),
        (vec![("keys", "/32801/0/1".to_owned())], vec![
            "OBJECT_NOT_DESCRIBED keys[0]: \"/32801/0/1\": nobody described this object, so its number has no name; sent as it is".to_owned()
        ])
    );
}

#[test]
fn numbers_are_sent_as_names() {
    let accepted = parse(
        json!({"operation": "write", "keys": ["/1/1/1", "/3/0/14"], "values": [68, "+02:00"]}),
        Strictness::Reject,
    );
    let task = Task::from(&accepted.unwrap().operation);
    assert_eq!(
        task.parameters,
        [("keys", "LwM2M Server.1.Lifetime,Device.0.UTC Offset".to_owned()), ("values", "68,+02:00".to_owned())]
    );
    // The same key twice, in two forms
    let event = json!({"operation": "write", "keys": ["/3/0/14", "Device.0.UTC Offset"], "values": ["a", "b"]});
    assert_eq!(findings(event).len(), 1);
}

#[test]
fn a_name_that_several_resources_share_is_sent_with_a_notice() {
    for (event, expected) in [
        (
            json!({"operation": "execute", "keys": ["Robot Control.0.Intonation Change"]}),
            vec![
                "NAME_AMBIGUOUS keys[0]: \"Robot Control.0.Intonation Change\": resources 132 and 133 share the name \"Intonation Change\", and Coiote takes names only".to_owned(),
            ],
        ),
        (json!({"operation": "write", "keys": ["oA Logical Push-Button Sensor.0.Object Enabled"], "values": [1]}), vec![]),
        (json!({"operation": "execute", "keys": ["oA Logical Push-Button Sensor.0.Object Enabled"]}), vec![]),
    ] {
        assert_eq!(sent(event).1, expected);
    }
}

#[test]
fn ids_whose_name_is_shared() {
    assert_findings(
        json!({"operation": "execute", "keys": ["/10329/0/133"]}),
        &[
            "NAME_AMBIGUOUS keys[0]: \"/10329/0/133\": resources 132 and 133 share the name \"Intonation Change\", and Coiote takes names only",
        ],
    );
    // Only one of them can be written, and only the other one executed
    for event in [
        json!({"operation": "write", "keys": ["/3395/0/924"], "values": [true]}),
        json!({"operation": "read", "keys": ["/3395/0/924"]}),
        json!({"operation": "execute", "keys": ["/3395/0/934"]}),
    ] {
        let name = "oA Logical Push-Button Sensor.0.Object Enabled".to_owned();
        let (parameters, notices) = sent(event);
        assert_eq!((&parameters[0], notices), (&("keys", name), vec![]));
    }
    // The name would write the other one
    assert_findings(
        json!({"operation": "write", "keys": ["/3395/0/934"], "values": [true]}),
        &[
            "NOT_ALLOWED keys[0]: \"/3395/0/934\": write is not possible: Object Enabled can only be executed",
            "NAME_AMBIGUOUS keys[0]: \"/3395/0/934\": resources 924 and 934 share the name \"Object Enabled\", and Coiote takes names only",
        ],
    );
    assert_findings(
        json!({"operation": "discover", "keys": ["/3395/0/924"]}),
        &[
            "NAME_AMBIGUOUS keys[0]: \"/3395/0/924\": resources 924 and 934 share the name \"Object Enabled\", and Coiote takes names only",
        ],
    );
    let accepted = parse(json!({"operation": "read", "keys": ["/6/0/0", "/6/0"]}), Strictness::Reject).unwrap();
    let messages: Vec<&str> = accepted.notices.iter().map(|notice| notice.message.as_str()).collect();
    // An older version of 3336 has a Latitude, too
    assert_eq!(
        messages,
        [
            "keys[0]: \"/6/0/0\": sent as \"Location.0.Latitude\", which objects 6 and 3336 share",
            "keys[1]: \"/6/0\": sent as \"Location.0\", which objects 6 and 3336 share",
        ]
    );
}

#[test]
fn a_comma_that_coiote_would_split_at() {
    for event in [
        json!({"operation": "execute", "keys": ["Vendor.0.x,Device.0.Reboot"]}),
        json!({"operation": "delete", "keys": ["Vendor,Portfolio.5"]}),
        json!({"operation": "read", "keys": ["Device,LwM2M Server"]}),
        json!({"operation": "read", "keys": ["Vendor.0.x,all"]}),
        json!({"operation": "create", "keys": ["Vendor (a, b).5"]}),
        json!({"operation": "observe", "keys": ["A.0.b,C.0.d"], "attributes": [{}]}),
    ] {
        assert!(findings(event.clone())[0].starts_with("VALUE_NOT_ENCODABLE keys[0]"), "{event}");
    }
    assert_passes(json!({"operation": "execute", "keys": ["Vendor.0.Start (now, later)"]}));
    assert_passes(json!({"operation": "delete", "keys": ["Vendor (a, b).5"]}));
}

#[test]
fn a_resource_name_that_ends_in_a_number_passes_where_no_resource_instance_can_be_meant() {
    assert_passes(json!({"operation": "execute", "keys": ["Boiler.0.Mode 2.5"]}));
    assert_passes(json!({"operation": "discover", "keys": ["Vendor.0.PM2.5"]}));
}

#[test]
fn a_resource_without_a_type_takes_any_attribute() {
    assert_passes(json!({"operation": "observe", "keys": ["/10482/0/5"], "attributes": [{"gt": 1}]}));
}

/// The data model of a real device in the form of Coiote, with two objects of the vendor.
#[test]
fn a_real_devices_data_model_passes_path_by_path() {
    let readable = include_str!("data/device.txt").lines().filter(|line| !line.is_empty());
    let mut count = 0;
    for key in readable {
        assert_passes(json!({"operation": "read", "keys": [key]}));
        assert_passes(json!({"operation": "discover", "keys": [key.split('.').take(2).collect::<Vec<_>>().join(".")]}));
        count += 1;
    }
    assert!(count > 100, "{count}");
}

/// The parameters of the task, and the notices.
fn sent(event: Json) -> (Vec<(&'static str, String)>, Vec<String>) {
    let accepted = parse(event.clone(), Strictness::Reject).unwrap_or_else(|f| panic!("{event}: {f:#?}"));
    let notices = accepted.notices.iter().map(|f| format!("{} {}", f.code, f.message)).collect();
    (Task::from(&accepted.operation).parameters, notices)
}

#[test]
fn every_registered_version_of_an_object_is_known() {
    for event in [
        // Removed, renamed, of another type, executable or single in versions before the newest one
        json!({"operation": "read", "keys": ["LWM2M Cellular Connectivity.0.PSM Timer (1)"]}),
        json!({"operation": "read", "keys": ["LWM2M Cellular Connectivity.0.PSM Timer"]}),
        json!({"operation": "read", "keys": ["LWM2M Cellular Connectivity.0.Serving PLMN Rate control"]}),
        json!({"operation": "execute", "keys": ["Runtime Database.0.Unset"]}),
        json!({"operation": "execute", "keys": ["RDB.0.Unset"]}),
        json!({"operation": "write", "keys": ["LwM2M Gateway.0.Prefix"], "values": ["a"]}),
        json!({"operation": "write", "keys": ["uCIFI data bridge.0.Payload"], "values": ["any text!"]}),
        json!({"operation": "write", "keys": ["Traffic Counter.0.Measuring period 1"], "values": [60]}),
        json!({"operation": "write", "keys": ["Traffic Counter.0.Measuring period 1.0"], "values": [60]}),
        json!({"operation": "read", "keys": ["Device.0.Error Code.0", "Location.0.Numeric Latitude"]}),
    ] {
        assert_passes(event);
    }
    // A request has to fit one of the versions
    assert_findings(
        json!({"operation": "write", "keys": ["LwM2M Server.1.Short Server ID"], "values": [1]}),
        &[
            "NOT_ALLOWED keys[0]: \"LwM2M Server.1.Short Server ID\": write is not possible: Short Server ID can only be read",
        ],
    );
    assert_findings(
        json!({"operation": "write", "keys": ["WLAN connectivity.0.WEP Key Index"], "values": [5]}),
        &["VALUE_RANGE values[0]: outside of 1..4, the range for WEP Key Index"],
    );
    assert_findings(
        json!({"operation": "execute", "keys": ["RDB.0.Exists"]}),
        &["NOT_ALLOWED keys[0]: \"RDB.0.Exists\": execute is not possible: Exists can only be read and written"],
    );
}

#[test]
fn a_number_is_sent_under_the_newest_name_and_fits_any_version() {
    let keys = |key: &str| vec![("keys", key.to_owned())];
    assert_eq!(
        sent(json!({"operation": "execute", "keys": ["/10260/0/3"]})),
        (keys("RDB.0.Persistent"), vec![
            "NAME_OF_NEWEST_VERSION keys[0]: \"/10260/0/3\": sent as \"RDB.0.Persistent\", the newest version's name; another has \"Runtime Database\" and \"Unset\"".to_owned()
        ])
    );
    assert_eq!(
        sent(json!({"operation": "read", "keys": ["LWM2M Cellular Connectivity.0.4"]})),
        (keys("LWM2M Cellular Connectivity.0.PSM Timer"), vec![
            "NAME_OF_NEWEST_VERSION keys[0]: \"LWM2M Cellular Connectivity.0.4\": sent as \"LWM2M Cellular Connectivity.0.PSM Timer\", the newest version's name; another has \"PSM Timer (1)\"".to_owned()
        ])
    );
    // The object's old name selects the version, and stays
    assert_eq!(
        sent(json!({"operation": "execute", "keys": ["Runtime Database.0.3"]})),
        (keys("Runtime Database.0.Unset"), vec![
            "NAME_OF_NEWEST_VERSION keys[0]: \"Runtime Database.0.3\": sent as \"Runtime Database.0.Unset\", an older version's name, as its object; another has \"Persistent\"".to_owned()
        ])
    );
    // An id that only an older version has is sent under its name, without a notice
    assert_eq!(
        sent(json!({"operation": "read", "keys": ["/10/0/6"]})),
        (keys("LWM2M Cellular Connectivity.0.Serving PLMN Rate control"), vec![])
    );
    // The same name in all versions
    assert_eq!(sent(json!({"operation": "read", "keys": ["/3/0/11"]})), (keys("Device.0.Error Code"), vec![]));
    // The name of 41 in an older version is that of 42 in the newest
    let (parameters, notices) = sent(json!({"operation": "read", "keys": ["/12/0/42"]}));
    assert_eq!((parameters, notices), (keys("WLAN connectivity.0.Multicast Packets  Received"), vec![]));
    assert_eq!(
        sent(json!({"operation": "read", "keys": ["/12/0/41"]})).0,
        keys("WLAN connectivity.0.Multicast Packets Sent")
    );
}

#[test]
fn blanks_between_words_count_as_one() {
    for key in ["WLAN connectivity.0.Multicast Packets Received", "WLAN connectivity.0.Multicast Packets  Received"] {
        let registered = "WLAN connectivity.0.Multicast Packets  Received".to_owned();
        assert_eq!(sent(json!({"operation": "read", "keys": [key]})), (vec![("keys", registered)], vec![]));
    }
    let twice =
        json!({"operation": "write", "keys": ["Device.0.UTC Offset", "Device.0.UTC  Offset"], "values": [1, 2]});
    assert!(findings(twice)[0].starts_with("KEY_DUPLICATE"));
}

#[test]
fn near_misses_are_valid_or_lead_to_a_suggestion() {
    assert_eq!(
        sent(json!({"operation": "read", "keys": ["3/0/14"]})),
        (vec![("keys", "Device.0.UTC Offset".to_owned())], vec![])
    );
    for strictness in [Strictness::Reject, Strictness::Notice] {
        for (key, ending) in [
            ("Device/0/Battery Level", "joined by dots (did you mean \"Device.0.Battery Level\"?)"),
            (
                "Device.x.UTC Offset",
                "the object instance has to be a number from 0 to 65534 (did you mean \"Device.0.UTC Offset\"?)",
            ),
            (
                "Device.-1.UTC Offset",
                "the object instance has to be a number from 0 to 65534 (did you mean \"Device.0.UTC Offset\"?)",
            ),
            ("3/0/Battery Level", "(did you mean \"Device.0.Battery Level\"?)"),
            ("3/x/14", "joined by dots (did you mean \"Device.0.UTC Offset\"?)"),
            ("3 /0/14", "joined by dots (did you mean \"Device.0.UTC Offset\"?)"),
            ("3-0-14", "or with a slash, as in /3/0 (did you mean \"Device.0.UTC Offset\"?)"),
            ("32801.0.1", "or with a slash, as in /3/0 (did you mean \"/32801/0/1\"?)"),
            ("/3/-1", "the object instance has to be a number from 0 to 65534 (did you mean \"Device.0\"?)"),
        ] {
            let findings = parse(json!({"operation": "read", "keys": [key]}), strictness).unwrap_err();
            assert!(findings.len() == 1 && findings[0].starts_with("PATH_INVALID"), "{findings:?}");
            assert!(findings[0].ends_with(ending), "{findings:?}");
        }
    }
    // May be an object of a vendor, but its first part is a described object
    assert_findings(
        json!({"operation": "read", "keys": ["Device.Info.0.Battery"]}),
        &[
            "OBJECT_NOT_DESCRIBED keys[0]: \"Device.Info.0.Battery\": nobody described this object; its first part is a described one, behind which the object instance stands (did you mean \"Device.0\"?)",
        ],
    );
    for (key, meant) in [
        ("device/0/UTC Offset", "Device"),
        ("Devise/0", "Device"),
        ("device.0", "Device"),
        ("Device\\0\\Battery Level", "Device.0.Battery Level"),
        ("Device(0)", "Device.0"),
        ("Device-0-Battery Level", "Device.0.Battery Level"),
        ("Device,0,Battery Level", "Device.0.Battery Level"),
        ("ALL", "all"),
        ("*", "all"),
    ] {
        let (_, notices) = sent(json!({"operation": "read", "keys": [key]}));
        assert!(notices[0].ends_with(&format!("(did you mean \"{meant}\"?)")), "{notices:?}");
    }
    // Not similar to a described name
    assert_passes(
        json!({"operation": "read", "keys": ["Vendor/0/x", "ACME-7.x.0.y", "Größe.0.Länge", "3/4-way valve.0.State"]}),
    );
}

#[test]
fn suggestions_can_be_read() {
    for key in [
        "/3//14",
        "3/x/14",
        "3//0",
        "/1//1",
        "3/5/UTC Offset",
        "Device.UTC Offset.0",
        "Device.Error Code.0",
        "Device.x.Error Code",
        "Device-7",
        "Device.0/UTC Ofset",
        "32801.0.1",
    ] {
        let event = |key: &str| json!({"operation": "read", "keys": [key]});
        let messages = match parse(event(key), Strictness::Notice) {
            Ok(accepted) => accepted.notices.iter().map(|notice| notice.message.clone()).collect(),
            Err(findings) => findings,
        };
        let Some((_, meant)) = messages[0].split_once("(did you mean \"") else { panic!("{key}: {messages:?}") };
        let meant = meant.strip_suffix("\"?)").unwrap();
        assert_eq!(findings(event(meant)), [] as [&str; 0], "{key}: {meant}");
    }
}

#[test]
fn values_are_sent_in_a_form_that_coiote_shows() {
    for (key, value, expected) in [
        ("LwM2M Server.1.Lifetime", json!(68.0), "68"),
        ("LwM2M Server.1.Lifetime", json!("68.0"), "68"),
        ("LwM2M Server.1.Lifetime", json!(-7.00), "-7"),
        ("Device.0.Current Time", json!("2022-10-07T13:33:22Z"), "2022-10-07T13:33:22Z"),
        ("Device.0.Current Time", json!("2022-10-07T15:33:22+02:00"), "2022-10-07T13:33:22Z"),
        ("Device.0.Current Time", json!("2022-10-07T13:33:22.000Z"), "2022-10-07T13:33:22Z"),
        ("Device.0.Current Time", json!(1795370400), "1795370400"),
        ("Device.0.Current Time", json!("1795370400"), "1795370400"),
        ("Buzzer.0.Level", json!("0.0"), "0.0"),
        ("Buzzer.0.Level", json!(50), "50"),
        ("Light Control.0.On/Off", json!(true), "true"),
        ("Light Control.0.On/Off", json!("false"), "false"),
        // Coiote has only this form of them
        ("Light Control.0.On/Off", json!(1.0), "true"),
        ("Light Control.0.On/Off", json!(1), "true"),
        ("Light Control.0.On/Off", json!("1"), "true"),
        ("Light Control.0.On/Off", json!(0), "false"),
        ("Light Control.0.On/Off", json!("0"), "false"),
        ("LwM2M Server.1.Lifetime", json!("068"), "68"),
        ("LwM2M Server.1.Lifetime", json!("-0"), "0"),
        ("Buzzer.0.Delay Duration", serde_json::from_str("1e1").unwrap(), "1e1"),
        ("Buzzer.0.Delay Duration", serde_json::from_str("1E+1").unwrap(), "1e1"),
        ("Buzzer.0.Delay Duration", json!("1e+1"), "1e1"),
        ("Device.0.Current Time", json!("+12022-02-28T14:00:00+02:00"), "+12022-02-28T12:00:00Z"),
        // Without a description, values pass unchanged
        ("Vendor.0.x", json!(68.0), "68.0"),
        ("Vendor.0.x", json!("2022-10-07T15:33:22+02:00"), "2022-10-07T15:33:22+02:00"),
    ] {
        for operation in ["write", "writeComposite"] {
            let (parameters, notices) = sent(json!({"operation": operation, "keys": [key], "values": [value]}));
            assert_eq!((parameters[1].1.as_str(), notices), (expected, vec![]), "{key}: {value}");
        }
    }
}

#[test]
fn a_value_fits_a_resource_that_is_written_and_not_an_executable_one_of_its_name() {
    // 924 is a Boolean, 934 is executable
    let key = "oA Logical Push-Button Sensor.0.Object Enabled";
    for operation in ["write", "writeComposite", "create"] {
        for (value, expected) in [(json!(1), "true"), (json!("0"), "false"), (json!(true), "true")] {
            let accepted = parse(json!({"operation": operation, "keys": [key], "values": [value]}), Strictness::Reject);
            assert_eq!(Task::from(&accepted.unwrap().operation).parameters[1].1, expected, "{operation} {value}");
        }
        assert_findings(
            json!({"operation": operation, "keys": [key], "values": ["yes"]}),
            &["VALUE_TYPE values[0]: Object Enabled is a Boolean: expected true or false"],
        );
    }
    // No description allows it: all of them say what fits
    assert_findings(
        json!({"operation": "write", "keys": ["Device.0.Battery Level"], "values": ["full"]}),
        &[
            "NOT_ALLOWED keys[0]: \"Device.0.Battery Level\": write is not possible: Battery Level can only be read",
            "VALUE_TYPE values[0]: Battery Level is an Integer: expected a whole number of at most 64 bits",
        ],
    );
}

#[test]
fn hexadecimal_digits_for_an_opaque_resource_lead_to_a_notice() {
    for (value, is_noticed) in [
        ("0x0102", true),
        ("0x01020", true),
        ("0X1", true),
        ("0x", true),
        ("0102", true),
        ("DEADBEEF", true),
        ("DEADBEE", false),
        ("true", false),
        ("3q2+7w==", false),
        ("SGVsbG8=", false),
        ("", false),
    ] {
        let key = "BinaryAppDataContainer.0.Data.0";
        let (parameters, notices) = sent(json!({"operation": "write", "keys": [key], "values": [value]}));
        assert_eq!(parameters[1].1, value);
        let messages: Vec<&str> = notices.iter().map(String::as_str).collect();
        let expected = [
            "VALUE_IS_BASE64 values[0]: looks like hexadecimal digits and is read as base64: give the bytes in base64 if they are meant",
        ];
        assert_eq!(messages, if is_noticed { &expected[..] } else { &[] }, "{value}");
    }
}

/// The values of a real device in the form of Coiote: they can be written back in the same form.
#[test]
fn a_real_devices_values_can_be_written_back_as_they_are_shown() {
    let device: Json = serde_json::from_str(include_str!("data/real-device.json")).unwrap();
    let is_no_value = |value: &Json| value.get("noValue").is_some();
    // Operations in any version, from the registry itself
    let mut operations: HashMap<(&str, &str), String> = HashMap::new();
    let mut names = HashMap::new();
    for line in include_str!("../objects.tsv").lines() {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["O", id, name, ..] => _ = names.insert(id, name),
            ["R", id, _, name, allowed, ..] => operations.entry((names[id], name)).or_default().push_str(allowed),
            _ => {}
        }
    }
    for line in include_str!("../object-versions.tsv").lines() {
        if let ["R", id, _, _, name, allowed, ..] = line.split('\t').collect::<Vec<_>>()[..] {
            operations.entry((names[id], name)).or_default().push_str(allowed);
        }
    }
    let is_described = |object: &str| names.values().any(|name| *name == object);
    let (mut written, mut only_read, mut with_a_comma) = (0, 0, 0);
    for (object, instances) in device.as_object().unwrap() {
        for (instance, resources) in instances.as_object().unwrap() {
            for (resource, value) in resources.as_object().unwrap() {
                let key = format!("{object}.{instance}.{resource}");
                let values = match value {
                    Json::Object(values) if !is_no_value(value) => values
                        .iter()
                        .filter(|(_, value)| !is_no_value(value))
                        .map(|(id, value)| (format!("{key}.{id}"), value))
                        .collect(),
                    Json::String(_) => vec![(key.clone(), value)],
                    _ => vec![],
                };
                for (key, value) in values {
                    assert_passes(json!({"operation": "read", "keys": [key]}));
                    let event = json!({"operation": "write", "keys": [key], "values": [value]});
                    let is_writable =
                        !is_described(object) || operations[&(object.as_str(), resource.as_str())].contains('W');
                    let refused = if !is_writable {
                        only_read += 1;
                        format!("NOT_ALLOWED keys[0]: \"{key}\": write is not possible: {resource} can only be read")
                    } else if key.contains(',') {
                        with_a_comma += 1;
                        format!(
                            "VALUE_NOT_ENCODABLE keys[0]: \"{key}\": a key that holds a comma cannot be sent beside values"
                        )
                    } else {
                        written += 1;
                        assert_eq!(
                            sent(event),
                            (vec![("keys", key), ("values", value.as_str().unwrap().to_owned())], vec![])
                        );
                        continue;
                    };
                    assert_eq!(findings(event), [refused]);
                }
            }
        }
    }
    assert_eq!((written, only_read, with_a_comma), (49, 65, 4));
}
