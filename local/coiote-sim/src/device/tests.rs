//! Behaviour of a device: a task in, an outcome out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Catalogue, Device, DeviceState, Outcome};
use crate::template::{Parameter, decode};

struct Bench {
    catalogue: Arc<Catalogue>,
    device: Device,
}

impl Bench {
    fn new() -> Self {
        let catalogue = Arc::new(Catalogue::load().unwrap());
        let device = Device::new(catalogue.clone(), "urn:dev:1".to_owned(), None, DeviceState::Online).unwrap();
        Self { catalogue, device }
    }

    fn run(&mut self, operation: &str, parameters: &[(&str, &str)]) -> Outcome {
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(name, value)| Parameter { name: (*name).to_owned(), value: (*value).to_owned() })
            .collect();
        let operation = decode(&format!("AWS{operation}CertAuth"), &parameters, &self.catalogue).unwrap();
        let refused = self.device.refused_of(&operation);
        self.device.run(&operation, &refused, Instant::now())
    }

    fn read(&mut self, keys: &str) -> Value {
        let outcome = self.run("read", &[("keys", keys)]);
        assert_eq!(outcome.failures, [], "{keys}");
        Value::Object(outcome.result)
    }
}

fn reasons(outcome: &Outcome) -> Vec<(&str, &str)> {
    outcome.failures.iter().map(|failure| (failure.key.as_str(), failure.reason.as_str())).collect()
}

#[test]
fn reads_at_every_level() {
    let mut bench = Bench::new();
    for (keys, expected) in [
        ("LwM2M Server.1.Lifetime", json!({"LwM2M Server": {"1": {"Lifetime": "86400"}}})),
        ("Test object.0.Integer array.4", json!({"Test object": {"0": {"Integer array": {"4": "50"}}}})),
        ("Test object.0.Empty", json!({"Test object": {"0": {"Empty": {"noValue": true}}}})),
        ("Test object.0.Last exec args array", json!({"Test object": {"0": {"Last exec args array": {}}}})),
        (
            "Device.0.Power Source Current",
            json!({"Device": {"0": {"Power Source Current": {"0": "125", "1": {"noValue": true}}}}}),
        ),
        (
            "Device.0.Power Source Current.1",
            json!({"Device": {"0": {"Power Source Current": {"1": {"noValue": true}}}}}),
        ),
        ("Air quality.0.PM2.5", json!({"Air quality": {"0": {"PM2.5": "8.1"}}})),
        ("Device.0.Current Time", json!({"Device": {"0": {"Current Time": "2026-11-22T18:00:00Z"}}})),
        ("Boiler Controller", json!({"Boiler Controller": {"0": {"Flow setpoint": "55.0", "Burner on": "true"}}})),
        (
            "Portfolio.11.Identity.1,Portfolio.5.Identity.1",
            json!({"Portfolio": {"5": {"Identity": {"1": "AVSystem"}}, "11": {"Identity": {"1": "AVSystem"}}}}),
        ),
    ] {
        assert_eq!(bench.read(keys), expected, "{keys}");
    }
    let instance = bench.read("Test object.0");
    assert_eq!(instance["Test object"]["0"].get("Write only"), None);
    assert_eq!(instance["Test object"]["0"].get("Increment counter"), None);
}

#[test]
fn reading_everything_leaves_room_in_a_shadow() {
    let everything = Bench::new().read("").to_string();
    assert!(everything.len() < 5000, "{} bytes, and a shadow holds 8192", everything.len());
}

#[test]
fn a_key_that_fails_leaves_the_others() {
    let mut bench = Bench::new();
    let keys = "Device.0.Battery Level,Device.0.Reboot,Device.1.Timezone,Devise.0,Portfolio.11.Identity.9";
    let outcome = bench.run("read", &[("keys", keys)]);
    assert_eq!(Value::Object(outcome.result.clone()), json!({"Device": {"0": {"Battery Level": "87"}}}));
    assert_eq!(outcome.attempted, 5);
    assert_eq!(
        reasons(&outcome),
        [
            ("Device.0.Reboot", "the resource is not readable"),
            ("Device.1.Timezone", "the device has no such object instance"),
            ("Devise.0", "the device has no such object"),
            ("Portfolio.11.Identity.9", "the device has no such resource instance"),
        ]
    );
}

#[test]
fn writes_what_may_be_written() {
    let mut bench = Bench::new();
    for (key, value) in [
        ("LwM2M Server.1.Lifetime", "68"),
        ("Device.0.UTC Offset", "+02:00"),
        ("Test object.0.Integer array.7", "70"),
        ("Test object.0.Integer", "9007199254740993"),
        ("Test object.0.Boolean", "true"),
    ] {
        let outcome = bench.run("write", &[("keys", key), ("values", value)]);
        assert_eq!(reasons(&outcome), [], "{key}");
        assert_eq!(bench.read(key), Value::Object(outcome.result), "{key}");
    }
    assert_eq!(reasons(&bench.run("write", &[("keys", "Test object.0.Write only"), ("values", "x")])), []);
}

#[test]
fn takes_every_value_as_it_shows_it() {
    let mut bench = Bench::new();
    bench.run("write", &[("keys", "Test object.0.Float,Test object.0.Time"), ("values", "4,1665149602")]);
    let shown = bench.read("Test object.0.Float,Test object.0.Time");
    assert_eq!(shown, json!({"Test object": {"0": {"Float": "4.0", "Time": "2022-10-07T13:33:22Z"}}}));
    let before = bench.read("");
    let mut count = 0;
    for (object, instances) in before.as_object().unwrap() {
        for (instance, resources) in instances.as_object().unwrap() {
            for (resource, value) in resources.as_object().unwrap() {
                let key = format!("{object}.{instance}.{resource}");
                let Some(value) = value.as_str().filter(|value| !value.contains(',')) else { continue };
                let outcome = bench.run("write", &[("keys", &key), ("values", value)]);
                let told = reasons(&outcome);
                assert!(told.iter().all(|(_, why)| *why == "the resource is not writable"), "{key}: {told:?}");
                count += usize::from(told.is_empty());
            }
        }
    }
    assert!(count > 20, "{count}");
    assert_eq!(bench.read(""), before);
}

#[test]
fn refuses_writes() {
    let mut bench = Bench::new();
    let before = bench.read("");
    for (key, value, part) in [
        ("Device.0.Manufacturer", "x", "not writable"),
        ("Device.0.Reboot", "x", "not writable"),
        ("Device.0", "x", "a resource only"),
        ("LwM2M Server.1.Lifetime", "abc", "is not an Integer"),
        ("LwM2M Server.2.Lifetime", "68", "no such object instance"),
        ("LwM2M Server.1.Lifetime.0", "68", "single one"),
        ("Test object.0.Integer array", "1", "multiple one"),
        ("Test object.0.Percent", "101", "outside 0..100"),
        ("Temperature.0.Nothing", "1", "no resource"),
        ("Test object.0.Boolean", "True", "true or false"),
    ] {
        let outcome = bench.run("write", &[("keys", key), ("values", value)]);
        assert!(reasons(&outcome).iter().all(|(failed, why)| *failed == key && why.contains(part)), "{outcome:?}");
        assert_eq!(outcome.failures.len(), 1, "{key}");
    }
    assert_eq!(bench.read(""), before);
}

#[test]
fn write_composite_writes_all_or_nothing() {
    let mut bench = Bench::new();
    let keys = ("keys", "Device.0.Timezone,Device.0.Manufacturer");
    let outcome = bench.run("writeComposite", &[keys, ("values", "Europe/Paris,x")]);
    assert_eq!(outcome.failures.len(), 2);
    assert_eq!(bench.read("Device.0.Timezone"), json!({"Device": {"0": {"Timezone": "Europe/Warsaw"}}}));
}

#[test]
fn executes_and_counts() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        assert_eq!(reasons(&bench.run("execute", &[("keys", "Device.0.Reboot")])), []);
    }
    let increment = [("keys", "Test object.0.Increment counter"), ("arguments", "0='abc',1")];
    assert_eq!(reasons(&bench.run("execute", &increment)), []);
    assert_eq!(bench.device.control_view()["reboots"], 2);
    assert_eq!(bench.device.control_view()["factoryResets"], 0);
    assert_eq!(bench.device.control_view()["executions"]["Test object.0.Increment counter"], 1);
    assert_eq!(
        bench.read("Test object.0.Counter,Test object.0.Last exec args array"),
        json!({"Test object": {"0": {"Counter": "1", "Last exec args array": {"0": "abc", "1": ""}}}})
    );
    for (key, part) in [
        ("Device.0.Timezone", "not executable"),
        ("Device.1.Reboot", "no such object instance"),
        ("Device.0", "only a resource"),
    ] {
        let outcome = bench.run("execute", &[("keys", key)]);
        assert!(reasons(&outcome)[0].1.contains(part), "{outcome:?}");
    }
}

#[test]
fn creates_and_deletes_object_instances() {
    let mut bench = Bench::new();
    assert_eq!(reasons(&bench.run("create", &[("keys", "Portfolio.3"), ("values", "")])), []);
    assert_eq!(bench.read("Portfolio.3"), json!({"Portfolio": {"3": {"Identity": {}}}}));
    let resources = ("keys", "Portfolio.4.Identity.0,Portfolio.4.Identity.2");
    assert_eq!(reasons(&bench.run("create", &[resources, ("values", "a,b")])), []);
    assert_eq!(bench.read("Portfolio.4"), json!({"Portfolio": {"4": {"Identity": {"0": "a", "2": "b"}}}}));
    assert_eq!(reasons(&bench.run("delete", &[("keys", "Portfolio.3,Portfolio.4")])), []);
    assert_eq!(bench.run("read", &[("keys", "Portfolio.3")]).failures.len(), 1);
    // The device chooses the first id that is free
    assert_eq!(reasons(&bench.run("create", &[("keys", "Portfolio"), ("values", "")])), []);
    assert_eq!(bench.read("Portfolio.0"), json!({"Portfolio": {"0": {"Identity": {}}}}));
    assert_eq!(reasons(&bench.run("delete", &[("keys", "Portfolio.5.Identity.1,Portfolio.0")])), []);
    let left = bench.read("Portfolio.5.Identity");
    let left: Vec<_> = left["Portfolio"]["5"]["Identity"].as_object().unwrap().keys().collect();
    assert_eq!(left, ["0", "2", "3"]);
    for (operation, key, part) in [
        ("delete", "Portfolio.5.Identity.1", "no such resource instance"),
        ("delete", "Device.0.Error Code.0", "does not let"),
        ("create", "Portfolio.5", "exists already"),
        ("create", "Device.1", "single instance"),
        ("create", "Portfolyo.5", "no such object"),
        ("delete", "Device.0", "does not let"),
        ("delete", "LwM2M Server.1", "does not let"),
        ("delete", "Portfolio.3", "no such object instance"),
    ] {
        let values = ("values", "");
        let parameters = [("keys", key), values];
        let outcome = bench.run(operation, if operation == "create" { &parameters } else { &parameters[..1] });
        assert!(reasons(&outcome)[0].1.contains(part), "{outcome:?}");
    }
    let wrong = ("keys", "Temperature.9.Application Type,Temperature.9.Sensor Value");
    assert_eq!(bench.run("create", &[wrong, ("values", "x,1")]).failures.len(), 2);
    assert_eq!(bench.run("read", &[("keys", "Temperature.9")]).failures.len(), 1);
}

#[test]
fn keeps_observations_and_attributes() {
    let mut bench = Bench::new();
    let keys = ("keys", "Device.0.Battery Level,Device.0.Reboot,Device.0.Timezone,Temperature");
    let outcome = bench.run("observe", &[keys, ("attributes", "[{'gt':50,'pmin':None},{},{'gt':1},{'pmin':5}]")]);
    let failed: Vec<_> = reasons(&outcome).into_iter().map(|(key, _)| key).collect();
    assert_eq!(failed, ["Device.0.Reboot", "Device.0.Timezone"]);
    assert_eq!(reasons(&bench.run("observeComposite", &[("keys", "Temperature")])), []);
    assert_eq!(
        bench.device.control_view()["observations"],
        json!([
            {"key": "Device.0.Battery Level", "composite": false, "attributes": {"gt": 50, "pmin": null}},
            {"key": "Temperature", "composite": false, "attributes": {"pmin": 5}},
            {"key": "Temperature", "composite": true, "attributes": {}},
        ])
    );
    assert_eq!(
        bench.device.control_view()["attributes"],
        json!({"Device.0.Battery Level": {"gt": 50}, "Temperature": {"pmin": 5}})
    );

    assert_eq!(reasons(&bench.run("cancelObserve", &[("keys", "Temperature")])), []);
    assert_eq!(bench.run("cancelObserve", &[("keys", "Temperature")]).failures.len(), 1);
    assert_eq!(bench.device.control_view()["observations"].as_array().map(Vec::len), Some(2));
    assert_eq!(reasons(&bench.run("cancelObserve", &[("keys", "all")])), []);
    assert_eq!(reasons(&bench.run("cancelObserveComposite", &[("keys", "all")])), []);
    assert_eq!(bench.device.control_view()["observations"], json!([]));
}

#[test]
fn attributes_have_to_agree_with_each_other() {
    let mut bench = Bench::new();
    let key = ("keys", "Temperature.0.Sensor Value");
    for (attributes, ok) in [
        ("[{'gt':30,'lt':10,'st':2.5}]", true),
        ("[{'lt':26}]", false),
        ("[{'st':10}]", false),
        ("[{'st':''}]", true),
        ("[{'lt':26}]", true),
        ("[{'gt':'','lt':''}]", true),
    ] {
        let outcome = bench.run("writeAttributes", &[key, ("attributes", attributes)]);
        assert_eq!(outcome.failures.is_empty(), ok, "{attributes}: {outcome:?}");
    }
    assert_eq!(bench.device.control_view()["attributes"], json!({}));
}

#[test]
fn discovers_links_with_attributes() {
    let mut bench = Bench::new();
    bench.run("writeAttributes", &[("keys", "Location.0.Latitude"), ("attributes", "[{'pmin':5}]")]);
    let outcome = bench.run("discover", &[("keys", "Location,Test object.0.Integer array,Nothing")]);
    assert_eq!(
        Value::Object(outcome.result.clone()),
        json!({
            "Location": "</6>;ver=1.0,</6/0>,</6/0/0>;pmin=5,</6/0/1>,</6/0/2>,</6/0/5>",
            "Test object.0.Integer array": "</33605/0/3>;dim=3",
        })
    );
    assert_eq!(reasons(&outcome), [("Nothing", "the device has no such object")]);
}

#[test]
fn the_default_id_is_stable_and_not_the_endpoint_name() {
    let bench = Bench::new();
    assert_eq!(bench.device.id, "d:43f3e6233640be7c");
}

/// Notifications after each change, with the seconds since the observation began.
#[test]
fn notifies_changes_by_the_attributes_of_the_path_and_what_it_lies_in() {
    let battery = |text: &str| Some(json!({"Device": {"0": {"Battery Level": text}}}));
    let timezone = |text: &str| Some(json!({"Device": {"0": {"Timezone": text}}}));
    let both = || Some(json!({"Device": {"0": {"Battery Level": "50", "Timezone": "UTC"}}}));
    const LEVEL: &str = "Device.0.Battery Level";
    const UTC: (&str, &str) = ("Device.0.Timezone", "UTC");
    type Step<'s> = (u64, &'s [(&'s str, &'s str)], Option<Value>);
    let cases: Vec<(&str, &str, Vec<Step<'_>>)> = vec![
        (LEVEL, "[{}]", vec![(0, &[(LEVEL, "86")], battery("86")), (1, &[UTC], None)]),
        (LEVEL, "[{}]", vec![(0, &[(LEVEL, "87")], None)]),
        (
            LEVEL,
            "[{'pmin':5}]",
            vec![
                (4, &[(LEVEL, "86")], None),
                (5, &[], battery("86")),
                (6, &[(LEVEL, "85")], None),
                (10, &[], battery("85")),
            ],
        ),
        // A change within pmin is notified with the value at its end, even if it was taken back.
        (
            LEVEL,
            "[{'pmin':5}]",
            vec![(1, &[(LEVEL, "86")], None), (2, &[(LEVEL, "87")], None), (5, &[], battery("87"))],
        ),
        (
            LEVEL,
            "[{'pmax':9}]",
            vec![(8, &[], None), (9, &[], battery("87")), (17, &[], None), (18, &[], battery("87"))],
        ),
        (
            LEVEL,
            "[{'gt':90}]",
            vec![(0, &[(LEVEL, "80")], None), (1, &[(LEVEL, "91")], battery("91")), (2, &[(LEVEL, "95")], None)],
        ),
        (LEVEL, "[{'st':10}]", vec![(0, &[(LEVEL, "78")], None), (1, &[(LEVEL, "77")], battery("77"))]),
        ("Device", "[{'pmin':3}]", vec![(0, &[(LEVEL, "50")], None), (1, &[UTC], None), (3, &[], both())]),
        ("Device.0", "[{}]", vec![(0, &[UTC], timezone("UTC"))]),
        ("Device.0", "[{}]", vec![(0, &[("Location.0.Altitude", "1")], None)]),
        (
            LEVEL,
            "[{'hqmax':1,'con':1,'epmin':5,'epmax':6}]",
            vec![(0, &[(LEVEL, "86")], battery("86")), (9, &[], None)],
        ),
    ];
    for (key, attributes, steps) in cases {
        let mut bench = Bench::new();
        assert_eq!(reasons(&bench.run("observe", &[("keys", key), ("attributes", attributes)])), []);
        let start = Instant::now();
        bench.device.restart_observations(start);
        for (seconds, changes, expected) in steps {
            let now = start + Duration::from_secs(seconds);
            let values = changes.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
            bench.device.set_values(&values).unwrap();
            bench.device.notice_changes();
            let due = bench.device.next_notification(now).is_some_and(|time| time <= now);
            assert_eq!(due, expected.is_some(), "{key} {attributes} {seconds}");
            assert_eq!(bench.device.notify(now).map(Value::Object), expected, "{key} {attributes} {seconds}");
        }
    }
}

#[test]
fn a_resource_inherits_attributes_that_it_does_not_have() {
    let mut bench = Bench::new();
    let level = "Device.0.Battery Level";
    let keys = ("keys", "Device,Device.0");
    bench.run("writeAttributes", &[keys, ("attributes", "[{'pmin':9,'pmax':20},{'pmin':5}]")]);
    bench.run("observe", &[("keys", level), ("attributes", "[{}]")]);
    let start = Instant::now();
    bench.device.restart_observations(start);
    let after = |seconds| Some(start + Duration::from_secs(seconds));
    assert_eq!(bench.device.next_notification(start), after(20));
    bench.device.set_values(&[(level.to_owned(), "1".to_owned())].into()).unwrap();
    bench.device.notice_changes();
    assert_eq!(bench.device.next_notification(start), after(5));
    bench.run("writeAttributes", &[("keys", level), ("attributes", "[{'pmin':2}]")]);
    assert_eq!(bench.device.next_notification(start), after(2));
    bench.run("cancelObserve", &[("keys", level)]);
    assert_eq!(bench.device.next_notification(start), None);
}

#[test]
fn only_a_device_that_is_online_notifies() {
    let mut bench = Bench::new();
    let level = "Device.0.Battery Level";
    bench.run("observe", &[("keys", level), ("attributes", "[{}]")]);
    bench.device.change_state(DeviceState::Sleeping);
    bench.device.set_values(&[(level.to_owned(), "1".to_owned())].into()).unwrap();
    bench.device.notice_changes();
    let now = Instant::now();
    assert_eq!((bench.device.next_notification(now), bench.device.notify(now)), (None, None));
    bench.device.change_state(DeviceState::Online);
    let expected = json!({"Device": {"0": {"Battery Level": "1"}}});
    assert_eq!(bench.device.notify(Instant::now()).map(Value::Object), Some(expected));
    bench.device.change_state(DeviceState::Deregistered);
    assert_eq!(bench.device.control_view()["observations"], json!([]));
}

#[test]
fn what_a_device_refuses_fails_alone_or_with_all_of_an_operation_that_is_all_or_nothing() {
    let mut bench = Bench::new();
    let refusals =
        [("Device.0.Timezone", "4.05 Method Not Allowed"), ("Device.0.Reboot", "no"), ("Portfolio.3", "full")];
    let refusals = refusals.map(|(key, reason)| (key.to_owned(), reason.to_owned())).into();
    bench.device.set_refusals(&refusals).unwrap();
    let timezone = ("Device.0.Timezone", "4.05 Method Not Allowed");

    let both = ("keys", "Device.0.Timezone,Device.0.UTC Offset");
    let outcome = bench.run("write", &[both, ("values", "Europe/Paris,+02:00")]);
    assert_eq!((reasons(&outcome), outcome.attempted), (vec![timezone], 2));
    assert_eq!(outcome.result, *json!({"Device": {"0": {"UTC Offset": "+02:00"}}}).as_object().unwrap());

    let outcome = bench.run("writeComposite", &[both, ("values", "Europe/Paris,+03:00")]);
    let other = ("Device.0.UTC Offset", "nothing was done, because another key failed");
    assert_eq!((reasons(&outcome), outcome.attempted), (vec![timezone, other], 2));
    assert_eq!(bench.device.readable_values()["Device"]["0"]["UTC Offset"], "+02:00");

    assert_eq!(reasons(&bench.run("execute", &[("keys", "Device.0.Reboot")])), [("Device.0.Reboot", "no")]);
    assert_eq!(bench.device.control_view()["reboots"], 0);
    let identity = [("keys", "Portfolio.3.Identity.0"), ("values", "a")];
    assert_eq!(reasons(&bench.run("create", &identity)), [("Portfolio.3.Identity.0", "full")]);
    assert_eq!(reasons(&bench.run("read", &[("keys", "Device.0.Timezone")])), [timezone]);
    bench.device.set_refusals(&BTreeMap::new()).unwrap();
    assert_eq!(reasons(&bench.run("execute", &[("keys", "Device.0.Reboot")])), []);
    let unknown = [("Device.0.Nothing".to_owned(), "no".to_owned())].into();
    assert!(bench.device.set_refusals(&unknown).unwrap_err().starts_with("\"Device.0.Nothing\": "));
}
