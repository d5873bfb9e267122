//! The REST API as the integration uses it, and the control API around it.

use reqwest::StatusCode;
use serde_json::json;

use crate::coiote::{Coiote, answer, property};

#[tokio::test]
async fn reads_and_writes() {
    let coiote = Coiote::start("reads-and-writes");
    let id = coiote.id_of("urn:dev:1").await;
    assert_ne!(id, "urn%3Adev%3A1");
    assert!(id.contains("%3A"), "{id}");

    let values = [("keys", "LwM2M Server.1.Lifetime,Device.0.UTC Offset"), ("values", "68,+02:00")];
    let report = coiote.run(&id, "AWSwriteCertAuth", &values).await;
    assert_eq!(report["status"], "Success");
    assert_eq!(property(&report, "Device.0.UTC Offset"), "+02:00");

    let keys = [("keys", "Device.0.UTC Offset,Device.0.UTC Ofset,LwM2M Server.1.Lifetime")];
    let report = coiote.run(&id, "AWSreadCertAuth", &keys).await;
    assert_eq!(report["status"], "Warning");
    assert_eq!(property(&report, "LwM2M Server.1.Lifetime"), "68");
    assert!(property(&report, "Device.0.UTC Ofset").contains("UTC Ofset"), "{report}");
    assert!(report["summary"].as_str().unwrap().starts_with("1 of 3 keys failed: Device.0.UTC Ofset: "), "{report}");
    let result = json!({"LwM2M Server": {"1": {"Lifetime": "68"}}, "Device": {"0": {"UTC Offset": "+02:00"}}});

    // Without a connection to AWS the report is kept, in the form in which it would go out.
    let tasks = coiote.get_control("/tasks?device=urn:dev:1").await;
    let update = &tasks[1]["shadowUpdate"];
    assert_eq!(update["status"], "kept");
    assert_eq!(
        update["payload"],
        json!({
            "state": {"reported": {"operation": "read", "failedKeys": ["Device.0.UTC Ofset"], "result": result}},
            "clientToken": tasks[1]["id"],
        })
    );
    assert_eq!(coiote.get_control("/devices/urn:dev:1/datamodel").await["LwM2M Server"]["1"]["Lifetime"], "68");
}

#[tokio::test]
async fn a_sleeping_device_runs_its_task_when_it_wakes_up_and_only_once() {
    let coiote = Coiote::start("sleeping");
    let (_, task) = coiote.create_task("s%3A1", "AWSexecuteCertAuth", &[("keys", "Device.0.Reboot")]).await;
    let (status, _) = coiote.post("/sessions/s%3A1/allow-deregistered", None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(coiote.get_control("/tasks?device=sleeper").await[0]["status"], "scheduled");

    let (status, device) = coiote.post_control("/devices/sleeper/state", &json!({"state": "online"})).await;
    assert_eq!((status, &device["state"]), (StatusCode::OK, &json!("online")));
    assert_eq!(coiote.report(&task, "s%3A1").await["status"], "Success");
    coiote.post("/sessions/s%3A1/allow-deregistered", None).await;
    coiote.run("s%3A1", "AWSreadCertAuth", &[("keys", "")]).await;
    let devices = coiote.get_control("/devices").await;
    assert_eq!(devices[1]["reboots"], 1);
    assert_eq!(coiote.get_control("/tasks?device=sleeper").await[0]["shadowUpdate"], json!({"status": "none"}));
}

#[tokio::test]
async fn asks_for_the_header_and_a_registered_certificate() {
    let coiote = Coiote::start("authentication");
    let url = format!("{}/devices", coiote.rest);
    for (client, header, message) in [
        (&coiote.nobody, Some("Certificate"), "no client certificate was presented"),
        (&coiote.stranger, Some("Certificate"), "the client certificate is not registered"),
        (&coiote.known, Some("Basic abc"), "Authorization is not \"Certificate\""),
        (&coiote.known, None, "the header \"Authorization: Certificate\" is missing"),
    ] {
        let request = header.into_iter().fold(client.get(&url), |r, value| r.header("Authorization", value));
        assert_eq!(answer(request).await, (StatusCode::UNAUTHORIZED, json!({"message": message, "code": 4010})));
    }
    assert_eq!(coiote.get("/devices").await.0, StatusCode::OK);
    let stats = coiote.get_control("/stats").await;
    assert_eq!(stats["requests"], json!({"GET /devices": 5}));
    assert!(stats["tlsHandshakes"].as_u64() >= Some(3), "{stats}");
}

#[tokio::test]
async fn client_certificates_can_be_replaced() {
    let coiote = Coiote::start("replace");
    let replace = async |pem: Vec<String>| coiote.put_control("/client-certs", &json!({"pem": pem})).await;
    let registered = std::fs::read_to_string(coiote.folder.join("client.pem")).unwrap();
    assert_eq!(replace(vec![]).await, (StatusCode::OK, json!({"registered": 0})));
    assert_eq!(coiote.get("/devices").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(replace(vec![registered]).await, (StatusCode::OK, json!({"registered": 1})));
    assert_eq!(coiote.get("/devices").await.0, StatusCode::OK);
    assert_eq!(replace(vec!["nonsense".to_owned()]).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn refuses_what_coiote_would_refuse() {
    let coiote = Coiote::start("refusals");
    let read = json!({"templateName": "AWSreadCertAuth", "config": {"parameters": [{"name": "keys", "value": ""}]}});
    let number = json!({"templateName": "AWSreadCertAuth", "config": {"parameters": [{"name": "keys", "value": 1}]}});
    let unknown = json!({"templateName": "AWSdiscoverCertAuth", "config": {"parameters": []}});
    let miscounted = json!({"templateName": "AWSwriteCertAuth", "config": {"parameters": [
        {"name": "keys", "value": "Device.0.Timezone"}, {"name": "values", "value": "a,b"}]}});
    for (path, body, status, code, part) in [
        ("/tasksFromTemplates/device/s%3A1", json!({}), 400, 4000, "templateName"),
        ("/tasksFromTemplates/device/s%3A1", json!([]), 400, 4000, "body"),
        ("/tasksFromTemplates/device/s%3A1", number, 400, 4000, "string"),
        ("/tasksFromTemplates/device/s%3A1", miscounted, 400, 4000, "values: 2 for 1 keys"),
        ("/tasksFromTemplates/device/s%3A1", unknown, 404, 4042, "AWSdiscoverCertAuth"),
        ("/tasksFromTemplates/device/nobody", read.clone(), 404, 4040, "nobody"),
        ("/sessions/nobody/allow-deregistered", json!({}), 404, 4040, "nobody"),
        ("/devices", json!({}), 405, 4050, "POST"),
        ("/tasks", json!({}), 405, 4050, "POST"),
        ("/tusks", json!({}), 404, 4040, "no such resource"),
        ("/tasksFromTemplates/device/s%3A1?rerunIfExists=no", read.clone(), 400, 4000, "rerunIfExists: \"no\""),
    ] {
        let (got, error) = coiote.post(path, Some(&body)).await;
        assert_eq!((got.as_u16(), &error["code"]), (status, &json!(code)), "{path} {body}: {error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }
    for (path, status, code) in [
        ("/devices?searchCriteria=id%20eq%20'a'", 400, 4000),
        ("/devices/nobody", 404, 4040),
        ("/tasks/none", 404, 4044),
        ("/tasks?searchCriteria=id%20eq%20'a'", 400, 4000),
        ("/taskReports/findSince", 400, 4000),
        ("/taskReports/findSince?lastUpdateTime=yesterday", 400, 4000),
        ("/taskReports/findSince?lastUpdateTime=2026-11-22T18:00:00Z&limit=513", 400, 4000),
        ("/taskReports/findSince?lastUpdateTime=2026-11-22T18:00:00Z&directTasksOnly=perhaps", 400, 4000),
        ("/taskReports/none/s%3A1", 404, 4041),
        ("/taskReports/none/nobody", 404, 4040),
    ] {
        let (got, error) = coiote.get(path).await;
        assert_eq!((got.as_u16(), &error["code"]), (status, &json!(code)), "{path}: {error}");
    }
    let (_, none) = coiote.get("/devices?searchCriteria=properties.endpointName+eq+'nobody'").await;
    assert_eq!(none, json!([]));
    assert_eq!(coiote.get_control("/tasks").await, json!([]));

    let template = format!("{}/templates/AWSdiscoverCertAuth", coiote.control);
    assert_eq!(answer(coiote.nobody.put(&template)).await.0, StatusCode::NO_CONTENT);
    let report = coiote.run(&coiote.id_of("urn:dev:1").await, "AWSdiscoverCertAuth", &[("keys", "Location")]).await;
    assert!(property(&report, "Location").contains("</6/0/0>"), "{report}");
}

#[tokio::test]
async fn devices_come_and_go() {
    let coiote = Coiote::start("fleet");
    let new = json!({"endpoint": "urn:dev:2", "id": "two", "state": "deregistered"});
    assert_eq!(coiote.post_control("/devices", &new).await.0, StatusCode::CREATED);
    assert_eq!(coiote.post_control("/devices", &new).await.0, StatusCode::CONFLICT);
    assert_eq!(coiote.post_control("/devices", &json!({"endpoint": ""})).await.0, StatusCode::BAD_REQUEST);
    let (_, device) = coiote.get("/devices/two").await;
    assert_eq!(device["manufacturer"], "anjay");
    assert_eq!(device["modelName"], "demo_client");
    assert_eq!(device["properties"]["endpointName"], "urn:dev:2");
    let removal = coiote.nobody.delete(format!("{}/devices/urn:dev:2", coiote.control));
    assert_eq!(answer(removal).await.0, StatusCode::NO_CONTENT);
    assert_eq!(coiote.get("/devices/two").await.0, StatusCode::NOT_FOUND);
}
