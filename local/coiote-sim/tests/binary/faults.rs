//! Faults, as a client of the REST API sees them.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::coiote::{Coiote, answer};

fn reboot() -> Value {
    json!({"templateName": "AWSexecuteCertAuth", "config": {"parameters": [{"name": "keys", "value": "Device.0.Reboot"}]}})
}

async fn always(coiote: &Coiote, kind: &str) {
    let (status, _) = coiote.put("/faults", &json!({"rate": 1, "kinds": [kind]})).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
}

fn is_reset(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[tokio::test]
async fn each_kind_does_what_it_says() {
    let coiote = Coiote::start("kinds");
    let create = || coiote.call(Method::POST, "/tasksFromTemplates/device/s%3A1").json(&reboot());
    for (kind, status, code, retry_after) in
        [("throttled", 429, 4290, Some("1")), ("unavailable", 503, 5030, None), ("failed", 500, 5000, None)]
    {
        always(&coiote, kind).await;
        let response = create().send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{kind}");
        assert_eq!(response.headers().get("Retry-After").map(|value| value.to_str().unwrap()), retry_after, "{kind}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body, json!({"message": format!("the fault {kind:?} was asked for"), "code": code}));
        assert_eq!(coiote.inside("/tasks").await, json!([]), "{kind}");
    }

    for (kind, tasks) in [("reset", 0), ("lost", 1)] {
        always(&coiote, kind).await;
        let error = create().send().await.unwrap_err();
        assert!(is_reset(&error), "{kind}: {error:?}");
        assert_eq!(coiote.inside("/tasks").await.as_array().unwrap().len(), tasks, "{kind}");
    }

    always(&coiote, "slow").await;
    let start = Instant::now();
    assert_eq!(answer(create()).await.0, StatusCode::CREATED);
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());

    let (status, _) = coiote.put("/faults", &json!({})).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(answer(create()).await.0, StatusCode::CREATED);
    let stats = coiote.inside("/stats").await;
    let once = json!({"throttled": 1, "unavailable": 1, "failed": 1, "reset": 1, "lost": 1, "slow": 1, "route": 0});
    assert_eq!(stats["faults"], once);
    assert_eq!(stats["requests"], json!({"POST /tasksFromTemplates/device/{deviceId}": 7}));
}

#[tokio::test]
async fn a_cut_connection_takes_no_other_with_it() {
    let coiote = Coiote::start("cut");
    assert_eq!(coiote.get("/devices").await.0, StatusCode::OK);
    always(&coiote, "reset").await;
    let at_once = (coiote.call(Method::GET, "/devices").send(), coiote.call(Method::GET, "/devices").send());
    let (first, second) = tokio::join!(at_once.0, at_once.1);
    assert!(is_reset(&first.unwrap_err()) && is_reset(&second.unwrap_err()));
    coiote.put("/faults", &json!({})).await;
    assert_eq!(coiote.get("/devices").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_route_fails_alone() {
    let coiote = Coiote::start("routes");
    let routes =
        json!({"routes": {"POST /sessions/{deviceId}/allow-deregistered": 503, "POST /auth/certificates": 409}});
    assert_eq!(coiote.put("/faults", &routes).await.0, StatusCode::NO_CONTENT);
    let id = coiote.id_of("urn:dev:1").await;
    let (status, task) = coiote.create_task(&id, "AWSreadCertAuth", &[("keys", "")]).await;
    assert_eq!(status, StatusCode::CREATED, "{task}");
    let (status, error) = coiote.post(&format!("/sessions/{id}/allow-deregistered"), None).await;
    assert_eq!((status.as_u16(), &error["code"]), (503, &json!(5030)), "{error}");
    assert_eq!(coiote.inside("/tasks").await[0]["status"], "scheduled");
    let (status, error) = coiote.post("/auth/certificates", Some(&json!({}))).await;
    assert_eq!((status.as_u16(), &error["code"]), (409, &json!(4090)), "{error}");
    assert_eq!(coiote.inside("/stats").await["faults"]["route"], 2);
}

#[tokio::test]
async fn the_rate_leaves_the_other_calls_alone() {
    let coiote = Coiote::start("rate");
    coiote.put("/faults", &json!({"rate": 0.5, "kinds": ["failed", "unavailable"]})).await;
    let mut failed = 0;
    for _ in 0..100 {
        match coiote.get("/devices").await.0.as_u16() {
            200 => {}
            500 | 503 => failed += 1,
            other => panic!("{other}"),
        }
    }
    // Outside of this once in a million million runs.
    assert!((15..=85).contains(&failed), "{failed}");
    let faults = &coiote.inside("/stats").await["faults"];
    assert_eq!(faults["failed"].as_u64().unwrap() + faults["unavailable"].as_u64().unwrap(), failed);
}

#[tokio::test]
async fn faults_that_cannot_be_meant_are_refused_and_change_nothing() {
    let coiote = Coiote::start("no-faults");
    coiote.put("/faults", &json!({"routes": {"GET /devices": 503}})).await;
    for (body, part) in [
        (json!({"rate": 2}), "rate: 2 is not a share of the calls, from 0 to 1"),
        (json!({"kinds": ["slwo"]}), "unknown variant `slwo`, expected one of `throttled`"),
        (json!({"chance": 1}), "unknown field `chance`, expected one of `rate`, `kinds`, `routes`"),
        (json!({"routes": {"GET /devices": 200}}), "routes: \"GET /devices\": 200 is not an error status"),
    ] {
        let (status, error) = coiote.put("/faults", &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(error["message"].as_str().unwrap().contains(part), "{body}: {error}");
    }
    assert_eq!(coiote.get("/devices").await.0, StatusCode::SERVICE_UNAVAILABLE);
}
