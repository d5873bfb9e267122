//! Changes of values inside devices.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::coiote::Coiote;

#[tokio::test]
async fn values_change_inside_a_device_and_outlive_a_restart() {
    let mut coiote = Coiote::start("values");
    let path = "/devices/urn:dev:1/values";
    let id = coiote.id_of("urn:dev:1").await;
    let values = json!({"Device.0.Battery Level": 96, "Device.0.Error Code.1": "5", "Device.0.Timezone": "UTC"});
    assert_eq!(coiote.put_control(path, &values).await, (StatusCode::NO_CONTENT, Value::Null));
    coiote.run(&id, "AWSwriteCertAuth", &[("keys", "Device.0.Timezone"), ("values", "Europe/Paris")]).await;
    for (body, part) in [
        (
            json!({"Device.0.Timezone": "x", "Device.0.Battery Level": "full"}),
            "Device.0.Battery Level\\\": \\\"full\\\"",
        ),
        (json!({"Device.0.Battery Level": "101"}), "outside 0..100"),
        (json!({"Device.0.Battery Level": null}), "\\\"Device.0.Battery Level\\\": a string is expected"),
        (json!({"Device.0.Reboot": "1"}), "Device.0.Reboot\\\": the resource is not readable"),
        (json!({"Device.0.Error Code": "1"}), "multiple one"),
        (json!({"Device.0": "1"}), "a resource only"),
        (json!({"Device.1.Timezone": "x"}), "no such object instance"),
        (json!({"Devise.0": "1"}), "\\\"Devise.0\\\": the device has no such object"),
    ] {
        let (status, error) = coiote.put_control(path, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(error.to_string().contains(part), "{body}: {error}");
    }
    assert_eq!(coiote.put_control("/devices/nobody/values", &json!({})).await.0, StatusCode::NOT_FOUND);
    for _ in 0..2 {
        let device = coiote.get_control("/devices/urn:dev:1/datamodel").await["Device"]["0"].clone();
        assert_eq!(device["Battery Level"], "96");
        assert_eq!(device["Error Code"], json!({"0": "0", "1": "5"}));
        assert_eq!(device["Timezone"], "Europe/Paris");
        coiote.stop("TERM").await;
        coiote.start_again();
    }
}

#[tokio::test]
async fn sends_what_is_there() {
    let coiote = Coiote::start("send");
    let path = "/devices/urn:dev:1/send";
    let (status, sent) =
        coiote.post_control(path, &json!({"paths": ["Device.0.UTC Offset", "Location.0.Altitude"]})).await;
    let expected = json!({"Device": {"0": {"UTC Offset": "+01:00"}}, "Location": {"0": {"Altitude": "219.5"}}});
    assert_eq!((status, sent), (StatusCode::OK, expected));
    for body in [json!({"paths": []}), json!({"paths": ["Device.0.Reboot"]}), json!({})] {
        let (status, error) = coiote.post_control(path, &body).await;
        assert!(status.is_client_error(), "{body}: {error}");
    }
    coiote.post_control("/devices/urn:dev:1/state", &json!({"state": "deregistered"})).await;
    assert_eq!(coiote.post_control(path, &json!({"paths": ["Device"]})).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn values_drift_until_they_are_told_not_to() {
    let coiote = Coiote::start("drift");
    let path = "/devices/urn:dev:1/drift";
    let seen = async || {
        let held = coiote.get_control("/devices/urn:dev:1/datamodel").await;
        (held["Device"]["0"]["Battery Level"].clone(), held["Temperature"]["0"]["Sensor Value"].clone())
    };
    assert_eq!(coiote.post_control(path, &json!({"seconds": -1})).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(coiote.post_control(path, &json!({"seconds": 0.02})).await.0, StatusCode::NO_CONTENT);
    let start = Instant::now();
    while seen().await.0 != "80" {
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(coiote.post_control(path, &json!({"seconds": 0})).await.0, StatusCode::NO_CONTENT);
    let (battery, temperature) = seen().await;
    let degrees: f64 = temperature.as_str().unwrap().parse().unwrap();
    assert!((10.0..35.0).contains(&degrees));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(seen().await, (battery, temperature));
}
