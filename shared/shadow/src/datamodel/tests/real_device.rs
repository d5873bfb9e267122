//! The whole data model of one device, in the forms in which Coiote writes it.

use serde_json::{Value as Json, json};

use crate::datamodel::decision::{Tree, tests::document};
use crate::datamodel::fold::{Fold, Step};
use crate::datamodel::{Change, Others, Scope};
use crate::shadows::{Document, Updated};

fn data_model() -> Json {
    let none = || json!({"noValue": true});
    let server: serde_json::Map<String, Json> = [
        "Default Minimum Period",
        "Default Maximum Period",
        "Disable",
        "Disable Timeout",
        "Registration Update Trigger",
        "Bootstrap-Request Trigger",
        "APN Link",
        "TLS-DTLS Alert Code",
        "Last Bootstrapped",
        "Registration Priority Order",
        "Initial Registration Delay Timer",
        "Registration Failure Block",
        "Bootstrap on Registration Failure",
        "Communication Retry Count",
        "Communication Retry Timer",
        "Communication Sequence Delay Timer",
        "Communication Sequence Retry Count",
        "SMS Trigger",
        "Preferred Transport",
        "Mute Send",
        "Alternate APN Links",
        "Supported Server Versions",
        "Default Notification Mode",
        "Profile ID Hash Algorithm",
    ]
    .into_iter()
    .map(|name| (name.to_owned(), none()))
    .chain([
        ("Short Server ID".to_owned(), json!("1")),
        ("Lifetime".to_owned(), json!("300")),
        ("Notification Storing When Disabled or Offline".to_owned(), json!("false")),
        ("Binding".to_owned(), json!("UQ")),
    ])
    .collect();
    let vendor: serde_json::Map<String, Json> =
        (0..52).map(|id| (format!("Vendor Setting {id}"), json!(format!("{}.0", id * 1_000)))).collect();
    json!({
        "LwM2M Server": {"1": server},
        "Device": {"0": {
            "Manufacturer": "Nordic Semiconductor ASA", "Model Number": "thingy91_nrf9160", "Serial Number": "352656101234567",
            "Firmware Version": "1.4.0+build.7", "Reboot": none(), "Factory Reset": none(), "Reset Error Code": none(),
            "Available Power Sources": {"0": "1", "1": "5"}, "Power Source Voltage": {"0": "3701", "1": {"noValue": true}},
            "Power Source Current": {}, "Battery Level": "97", "Memory Free": "118", "Error Code": {"0": {"noValue": true}},
            "Current Time": "2022-10-07T13:33:22Z", "UTC Offset": "+02:00", "Timezone": "",
            "Supported Binding and Modes": "UQ", "Device Type": "tracker", "Hardware Version": "0.8.2",
            "Software Version": "v2.1-rc1", "Battery Status": "0", "Memory Total": "256", "ExtDevInfo": {}
        }},
        "Connectivity Monitoring": {"0": {
            "Network Bearer": "6", "Available Network Bearer": {"0": "6", "1": "7"}, "Radio Signal Strength": "-92",
            "Link Quality": "0", "IP Addresses": {"0": "10.81.93.12", "1": "2a02:a31a::1"}, "Router IP Addresses": {},
            "Link Utilization": none(), "APN": {"0": "iot.example.org"}, "Cell ID": "33703719", "SMNC": "1", "SMCC": "260",
            "SignalSNR": none(), "LAC": "2305", "Coverage Enhancement Level": none()
        }},
        "Firmware Update": {"0": {
            "Package": none(), "Package URI": "", "Update": none(), "State": "0", "Update Result": "0", "PkgName": none(),
            "PkgVersion": none(), "Firmware Update Protocol Support": {"0": "0", "1": "1", "2": "2", "3": "3"},
            "Firmware Update Delivery Method": "2", "Cancel": none(), "Severity": "1", "Last State Change Time": none(),
            "Maximum Defer Period": "0"
        }},
        "Location": {"0": {
            "Latitude": "50.06143", "Longitude": "19.93658", "Altitude": "219.5", "Radius": none(), "Velocity": none(),
            "Timestamp": "2022-10-07T13:30:01Z", "Speed": "0.0"
        }},
        "Humidity": {"0": {
            "Sensor Value": "41.25", "Sensor Units": "%RH", "Min Measured Value": "38.5", "Max Measured Value": "60.0",
            "Min Range Value": "0.0", "Max Range Value": "100.0", "Reset Min and Max Measured Values": none(),
            "Application Type": "", "Timestamp": none(), "Fractional Timestamp": none(), "Measurement Quality Indicator": none()
        }},
        "Temperature": {"0": {"Sensor Value": "23.8", "Sensor Units": "Cel", "Min Measured Value": "21.0"}},
        "PM2.5 Vendor Sensor, Indoor/Outdoor": {"0": {"PM2.5": "7.0", "Enabled": "true", "Histogram (0.3, 1.0)": {"0": "6"}}},
        "Vendor Configuration": {"0": vendor}
    })
}

fn read_all() -> Scope {
    Scope::new(Some(vec![String::new()]), vec![String::new()])
}

/// What a fold onto this shadow writes.
fn written(change: &Change, shadow: Document) -> Option<Json> {
    let scope = read_all();
    let mut fold = Fold::new(change, &scope, Some(100), None);
    fold.was_read(Some(shadow));
    fold.was_told(Others::default());
    let update: Option<Tree> = match fold.step().clone() {
        Step::Write(update, _) => Some(update),
        _ => None,
    };
    if update.is_some() {
        fold.was_written(Ok(Updated { version: 9, timestamp: Some(101) })).unwrap();
    }
    assert!(matches!(fold.step(), Step::Done(_)));
    update.map(Tree::into_json)
}

#[test]
fn it_is_folded_from_nothing_as_it_is_and_onto_itself_without_a_write() {
    let model = data_model();
    let size = model.to_string().len();
    assert!((4_500..6_000).contains(&size), "about 5 KB, {size} bytes");
    let (change, told) = Change::from_result(model.clone());
    assert_eq!(told, [""; 0]);
    assert_eq!(written(&change, Document { version: 1, ..Document::default() }), Some(model.clone()));
    assert_eq!(written(&change, document(model, 90)), None);
}

#[test]
fn what_it_has_no_more_is_all_that_changes() {
    let before = data_model();
    let mut after = before.clone();
    after["Location"]["0"].as_object_mut().unwrap().shift_remove("Speed");
    after["Device"]["0"]["Available Power Sources"].as_object_mut().unwrap().shift_remove("1");
    after.as_object_mut().unwrap().shift_remove("Temperature");
    let change = Change::from_result(after).0;
    assert_eq!(
        written(&change, document(before, 90)),
        Some(json!({
            "Device": {"0": {"Available Power Sources": {"1": null}}},
            "Location": {"0": {"Speed": null}},
            "Temperature": null
        }))
    );
}
