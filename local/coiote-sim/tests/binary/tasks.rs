//! Tasks, their reports, and the runs on devices.

use std::time::{Duration, Instant, SystemTime};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::coiote::{Coiote, DEADLINE, answer, property};

const ALWAYS: &str = "lastUpdateTime=2026-01-01T00:00:00Z";
const REBOOT: [(&str, &str); 1] = [("keys", "Device.0.Reboot")];

async fn remove(coiote: &Coiote, task: &Value) -> (StatusCode, Value) {
    let path = format!("/tasks/{}", task.as_str().unwrap().replace(':', "%3A"));
    answer(coiote.call(Method::DELETE, &path)).await
}

fn ids(reports: &[Value]) -> Vec<&Value> {
    reports.iter().map(|report| &report["taskId"]).collect()
}

#[tokio::test]
async fn an_equal_task_is_run_again_under_its_id() {
    let coiote = Coiote::start("equal");
    let device = coiote.id_of("urn:dev:1").await;
    let before = SystemTime::now();
    let first = coiote.run(&device, "AWSexecuteCertAuth", &REBOOT).await;
    let second = coiote.run(&device, "AWSexecuteCertAuth", &REBOOT).await;
    assert_eq!(first["taskId"], second["taskId"]);
    assert_eq!(coiote.get_control("/devices").await[0]["reboots"], 2);
    // One report for both runs: that of the later one.
    assert!(coiote.reports_since(ALWAYS).await.iter().eq([&second]));
    let runs = coiote.runs(&second["taskId"]).await;
    assert_eq!(runs.iter().map(|run| &run["number"]).collect::<Vec<_>>(), [1, 2]);

    // Each call is a run, even if they come before the first run.
    let (_, waiting) = coiote.create_task("s%3A1", "AWSexecuteCertAuth", &REBOOT).await;
    let (_, twice) = coiote.create_task("s%3A1", "AWSexecuteCertAuth", &REBOOT).await;
    assert_eq!(twice, waiting);
    let body = json!({"templateName": "AWSexecuteCertAuth", "config": {"parameters": [{"name": "keys", "value": "Device.0.Reboot"}]}});
    let (_, other) = coiote.post("/tasksFromTemplates/device/s%3A1?rerunIfExists=false", Some(&body)).await;
    assert_ne!(other, waiting);
    let named = json!({"templateName": "AWSexecuteCertAuth",
        "config": {"taskName": "mine", "properties": {"a": "b"}, "parameters": [{"name": "keys", "value": "Device.0.Reboot"}]}});
    let (_, named) = coiote.post("/tasksFromTemplates/device/s%3A1", Some(&named)).await;
    assert!(named != waiting && named != other);
    coiote.post_control("/devices/sleeper/state", &json!({"state": "online"})).await;
    for (task, runs) in [(&named, 1), (&other, 1), (&waiting, 2)] {
        coiote.report(task, "s%3A1").await;
        assert_eq!(coiote.runs(task).await.len(), runs, "{task}");
    }
    let (_, found) = coiote.get("/tasks?searchCriteria=taskName%20eq%20'mine'").await;
    assert_eq!(found, json!([named]));
    let (_, all) = coiote.get("/tasks").await;
    assert_eq!(all, json!([first["taskId"], waiting, other, named]));
    let path = format!("/tasks/{}", named.as_str().unwrap().replace(':', "%3A"));
    let config = json!({"taskName": "mine", "parameters": [{"name": "keys", "value": "Device.0.Reboot"}],
        "properties": {"a": "b"}, "isActive": true});
    assert_eq!(coiote.get(&path).await, (StatusCode::OK, json!({"id": named, "config": config})));

    // The `Date` header, by which callers recognise reports of an earlier run.
    let created = coiote.call(Method::POST, "/tasksFromTemplates/device/s%3A1").json(&body).send().await.unwrap();
    let date = created.headers()["date"].to_str().unwrap().to_owned();
    assert!(date.ends_with(" GMT") && before < SystemTime::now(), "{date}");
}

#[tokio::test]
async fn a_removed_task_is_not_run_and_not_known_any_more() {
    let mut coiote = Coiote::start("removed");
    let device = coiote.id_of("urn:dev:1").await;
    let done = coiote.run(&device, "AWSexecuteCertAuth", &REBOOT).await["taskId"].clone();
    let (_, waiting) = coiote.create_task("s%3A1", "AWSexecuteCertAuth", &REBOOT).await;
    for task in [&done, &waiting] {
        assert_eq!(remove(&coiote, task).await.0, StatusCode::NO_CONTENT);
        let (status, error) = remove(&coiote, task).await;
        assert_eq!((status, &error["code"]), (StatusCode::NOT_FOUND, &json!(4044)));
    }
    coiote.post_control("/devices/sleeper/state", &json!({"state": "online"})).await;
    coiote.run("s%3A1", "AWSreadCertAuth", &[("keys", "Location")]).await;
    assert_eq!(coiote.get_control("/devices").await[1]["reboots"], 0);
    let tasks = coiote.get_control("/tasks").await;
    assert_eq!((&tasks[0]["status"], &tasks[1]["status"]), (&json!("done"), &json!("removed")));
    assert_eq!(coiote.reports_since(ALWAYS).await.len(), 1);
    // An equal task is a new one.
    let (_, again) = coiote.create_task("s%3A1", "AWSexecuteCertAuth", &REBOOT).await;
    assert_ne!(again, waiting);

    coiote.stop("TERM").await;
    coiote.start_again();
    assert_eq!(coiote.get_control("/devices").await[0]["reboots"], 1);
    assert_eq!(remove(&coiote, &done).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn reports_of_all_devices_are_found_by_when_they_were_updated() {
    let coiote = Coiote::start("since");
    let device = coiote.id_of("urn:dev:1").await;
    let first = coiote.run(&device, "AWSreadCertAuth", &[("keys", "Location.0.Nothing")]).await;
    assert_eq!(first["status"], "Error");
    tokio::time::sleep(Duration::from_millis(2)).await;
    coiote.post_control("/devices/sleeper/state", &json!({"state": "online"})).await;
    let second = coiote.run("s%3A1", "AWSreadCertAuth", &[("keys", "Location.0.Latitude")]).await;

    let id = |report: &Value| report["taskId"].as_str().unwrap().replace(':', "%3A");
    let since = format!("lastUpdateTime={}", second["lastUpdateTime"].as_str().unwrap());
    for (query, found) in [
        (ALWAYS.to_owned(), vec![&first, &second]),
        (format!("{ALWAYS}&limit=1"), vec![&first]),
        (format!("{since}&limit=512&directTasksOnly=True"), vec![&second]),
        (format!("{ALWAYS}&deviceId=s%3A1"), vec![&second]),
        (format!("{ALWAYS}&taskId={}", id(&first)), vec![&first]),
        ("lastUpdateTime=2999-01-01T00:00:00Z".to_owned(), vec![]),
    ] {
        assert_eq!(coiote.reports_since(&query).await.iter().collect::<Vec<_>>(), found, "{query}");
    }
}

#[tokio::test]
async fn every_operation_has_a_report_also_when_the_device_refuses() {
    let coiote = Coiote::start("refused");
    let device = coiote.id_of("urn:dev:1").await;
    let refusals = json!({"Device.0.Reboot": "4.05 Method Not Allowed"});
    assert_eq!(coiote.put_control("/devices/urn:dev:1/refusals", &refusals).await.0, StatusCode::NO_CONTENT);
    assert_eq!(
        coiote.put_control("/devices/urn:dev:1/refusals", &json!({"Nothing.0": ""})).await.0,
        StatusCode::BAD_REQUEST
    );
    for (template, parameters, status, summary) in [
        (
            "AWSexecuteCertAuth",
            vec![REBOOT[0]],
            "Error",
            "1 of 1 keys failed: Device.0.Reboot: 4.05 Method Not Allowed",
        ),
        (
            "AWSobserveCertAuth",
            vec![("keys", "Location.7"), ("attributes", "[{}]")],
            "Error",
            "1 of 1 keys failed: Location.7: ",
        ),
        (
            "AWSobserveCertAuth",
            vec![("keys", "Location,Location.7"), ("attributes", "[{},{}]")],
            "Warning",
            "1 of 2 keys failed: ",
        ),
        ("AWSdeleteCertAuth", vec![("keys", "Portfolio.77")], "Error", "1 of 1 keys failed: "),
        ("AWScreateCertAuth", vec![("keys", "Portfolio.3"), ("values", "")], "Success", "1 of 1 keys done"),
    ] {
        let report = coiote.run(&device, template, &parameters).await;
        assert_eq!(report["status"], status, "{report}");
        assert!(report["summary"].as_str().unwrap().starts_with(summary), "{report}");
        for time in ["startTime", "finishTime", "lastUpdateTime"] {
            assert!(report[time].as_str().unwrap().ends_with('Z'), "{report}");
        }
        assert_eq!(report["blocking"], true);
    }
    assert_eq!(coiote.get_control("/devices").await[0]["reboots"], 0);
    let report = coiote.run(&device, "AWSexecuteCertAuth", &REBOOT).await;
    assert_eq!(property(&report, "Device.0.Reboot"), "4.05 Method Not Allowed");
}

#[tokio::test]
async fn runs_are_listed_in_order_and_outlive_a_restart() {
    let mut coiote = Coiote::start("runs");
    let device = coiote.id_of("urn:dev:1").await;
    coiote.put_control("/devices/urn:dev:1/refusals", &json!({"Device.0.Timezone": "no"})).await;
    let values = [("keys", "Device.0.UTC Offset,Device.0.Timezone"), ("values", "+02:00,Europe/Paris")];
    coiote.run(&device, "AWSwriteCertAuth", &values).await;
    let increment = [("keys", "Test object.0.Increment counter"), ("arguments", "0='a',1")];
    coiote.run(&device, "AWSexecuteCertAuth", &increment).await;
    coiote.put_control("/devices/urn:dev:1/refusals", &json!({})).await;
    let runs = coiote.get_control("/runs?device=urn:dev:1").await;
    let done: Vec<_> = runs.as_array().unwrap().iter().map(|run| &run["done"]).collect();
    assert_eq!(
        done,
        [
            &json!([{"key": "Device.0.UTC Offset", "value": "+02:00"}]),
            &json!([{"key": "Test object.0.Increment counter", "value": "0='a',1"}]),
        ]
    );
    assert_eq!(runs[0]["failed"], json!([{"key": "Device.0.Timezone", "reason": "no"}]));
    assert_eq!((&runs[0]["status"], &runs[0]["number"]), (&json!("Warning"), &json!(1)));
    let held = coiote.get_control("/devices/urn:dev:1/datamodel").await;
    assert_eq!(held["Device"]["0"]["UTC Offset"], "+02:00");

    coiote.stop("TERM").await;
    coiote.start_again();
    assert_eq!(coiote.get_control("/runs").await, runs);
    assert_eq!(coiote.get_control("/devices/urn:dev:1/datamodel").await, held);
    let next = coiote.run(&device, "AWSwriteCertAuth", &values).await;
    assert_eq!(coiote.runs(&next["taskId"]).await[1]["number"], 3);
}

#[tokio::test]
async fn reports_are_lost_late_unlisted_and_doubled() {
    let coiote = Coiote::start("reports");
    let device = coiote.id_of("urn:dev:1").await;
    let run = async |faults: Value, key: &str| {
        assert_eq!(coiote.put_control("/faults", &json!({"reports": faults})).await.0, StatusCode::NO_CONTENT);
        let (_, task) = coiote.create_task(&device, "AWSreadCertAuth", &[("keys", key)]).await;
        coiote.post(&format!("/sessions/{device}/allow-deregistered"), None).await;
        let start = Instant::now();
        while coiote.runs(&task).await.is_empty() {
            assert!(start.elapsed() < DEADLINE, "{task} does not run");
        }
        let path = format!("/taskReports/{}/{device}", task.as_str().unwrap().replace(':', "%3A"));
        let (status, _) = coiote.get(&path).await;
        (task, status)
    };
    let (_, lost) = run(json!({"lost": 1}), "Location").await;
    let (unlisted, alone) = run(json!({"unlisted": 1}), "Device").await;
    assert_eq!((lost, alone), (StatusCode::NOT_FOUND, StatusCode::OK));
    let (late, not_yet) = run(json!({"late": 0.5}), "Portfolio").await;
    assert_eq!(not_yet, StatusCode::NOT_FOUND);
    let report = coiote.report(&late, &device).await;
    assert!(coiote.get_control("/tasks").await[2]["report"]["lastUpdateTime"] == report["lastUpdateTime"]);
    let reports = coiote.reports_since(ALWAYS).await;
    assert!(ids(&reports) == [&late] && unlisted != late, "{reports:?}");
    coiote.put_control("/faults", &json!({"reports": {"twice": true, "shuffled": true}})).await;
    assert_eq!(ids(&coiote.reports_since(ALWAYS).await), [&late, &late]);
}

#[tokio::test]
async fn calls_in_flight_are_counted() {
    let coiote = Coiote::start("in-flight");
    let calls = (coiote.get("/devices"), coiote.get("/devices"));
    coiote.put_control("/faults", &json!({"rate": 1, "kinds": ["slow"]})).await;
    tokio::join!(calls.0, calls.1);
    let stats = coiote.get_control("/stats").await;
    assert_eq!((&stats["inFlight"], &stats["mostInFlight"]), (&json!(0), &json!(2)));
}
