//! Faults, as a client of the REST API sees them.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::coiote::{Coiote, DEADLINE, answer};

fn reboot() -> Value {
    json!({"templateName": "AWSexecuteCertAuth", "config": {"parameters": [{"name": "keys", "value": "Device.0.Reboot"}]}})
}

async fn always(coiote: &Coiote, kind: &str) {
    let (status, _) = coiote.put_control("/faults", &json!({"rate": 1, "kinds": [kind]})).await;
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
        assert_eq!(coiote.get_control("/tasks").await, json!([]), "{kind}");
    }

    for (kind, tasks) in [("reset", 0), ("lost", 1)] {
        always(&coiote, kind).await;
        let error = create().send().await.unwrap_err();
        assert!(is_reset(&error), "{kind}: {error:?}");
        assert_eq!(coiote.get_control("/tasks").await.as_array().unwrap().len(), tasks, "{kind}");
    }

    always(&coiote, "slow").await;
    let start = Instant::now();
    assert_eq!(answer(create()).await.0, StatusCode::CREATED);
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());

    let (status, _) = coiote.put_control("/faults", &json!({})).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(answer(create()).await.0, StatusCode::CREATED);
    let stats = coiote.get_control("/stats").await;
    let once = json!({"throttled": 1, "unavailable": 1, "failed": 1, "reset": 1, "lost": 1, "slow": 1, "gateway": 0,
        "gatewaylost": 0, "hang": 0, "route": 0, "blackHole": 0});
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
    coiote.put_control("/faults", &json!({})).await;
    assert_eq!(coiote.get("/devices").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_route_fails_alone() {
    let coiote = Coiote::start("routes");
    let routes =
        json!({"routes": {"POST /sessions/{deviceId}/allow-deregistered": 503, "POST /auth/certificates": 409}});
    assert_eq!(coiote.put_control("/faults", &routes).await.0, StatusCode::NO_CONTENT);
    let id = coiote.id_of("urn:dev:1").await;
    let (status, task) = coiote.create_task(&id, "AWSreadCertAuth", &[("keys", "")]).await;
    assert_eq!(status, StatusCode::CREATED, "{task}");
    let (status, error) = coiote.post(&format!("/sessions/{id}/allow-deregistered"), None).await;
    assert_eq!((status.as_u16(), &error["code"]), (503, &json!(5030)), "{error}");
    assert_eq!(coiote.get_control("/tasks").await[0]["status"], "scheduled");
    let (status, error) = coiote.post("/auth/certificates", Some(&json!({}))).await;
    assert_eq!((status.as_u16(), &error["code"]), (409, &json!(4090)), "{error}");
    assert_eq!(coiote.get_control("/stats").await["faults"]["route"], 2);
}

#[tokio::test]
async fn the_rate_leaves_the_other_calls_alone() {
    let coiote = Coiote::start("rate");
    coiote.put_control("/faults", &json!({"rate": 0.5, "kinds": ["failed", "unavailable"]})).await;
    let mut failed = 0;
    for _ in 0..100 {
        match coiote.get("/devices").await.0.as_u16() {
            200 => {}
            500 | 503 => failed += 1,
            other => panic!("{other}"),
        }
    }
    // Fails by chance once in 10^12 runs.
    assert!((15..=85).contains(&failed), "{failed}");
    let faults = &coiote.get_control("/stats").await["faults"];
    assert_eq!(faults["failed"].as_u64().unwrap() + faults["unavailable"].as_u64().unwrap(), failed);
}

#[tokio::test]
async fn invalid_faults_are_refused_and_change_nothing() {
    let coiote = Coiote::start("no-faults");
    coiote.put_control("/faults", &json!({"routes": {"GET /devices": 503}})).await;
    for (body, part) in [
        (json!({"rate": 2}), "rate: 2 is not a share of the calls, from 0 to 1"),
        (json!({"kinds": ["slwo"]}), "unknown variant `slwo`, expected one of `throttled`"),
        (json!({"chance": 1}), "unknown field `chance`, expected one of `rate`, `kinds`, `routes`"),
        (json!({"reports": {"lost": 2}}), "reports.lost: 2 is not a share, from 0 to 1"),
        (json!({"routes": {"GET /devices": 200}}), "routes: \"GET /devices\": 200 is not an error status"),
    ] {
        let (status, error) = coiote.put_control("/faults", &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(error["message"].as_str().unwrap().contains(part), "{body}: {error}");
    }
    assert_eq!(coiote.get("/devices").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_gateway_answers_with_a_page_of_its_own_whether_or_not_the_call_is_carried_out() {
    let coiote = Coiote::start("gateway");
    for (kind, tasks) in [("gateway", 0), ("gatewaylost", 1)] {
        always(&coiote, kind).await;
        let create = coiote.call(Method::POST, "/tasksFromTemplates/device/s%3A1").json(&reboot());
        let response = create.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
        assert!(response.text().await.unwrap().starts_with("<html>"));
        assert_eq!(coiote.get_control("/tasks").await.as_array().unwrap().len(), tasks, "{kind}");
    }
}

#[tokio::test]
async fn a_route_gives_any_answer_for_a_while() {
    let coiote = Coiote::start("any-answer");
    let since = "/taskReports/findSince?lastUpdateTime=2026-01-01T00:00:00Z";
    for (fault, status, text) in [
        (json!({"status": 200, "body": "[{\"taskId\":"}), 200, "[{\"taskId\":"),
        (json!({"status": 429, "body": "slow down", "retryAfter": "7"}), 429, "slow down"),
        (json!(403), 403, "{\"message\":\"the fault"),
        (json!("gateway"), 503, "<html>"),
    ] {
        let faults = json!({"routes": {"GET /taskReports/findSince": fault}});
        assert_eq!(coiote.put_control("/faults", &faults).await.0, StatusCode::NO_CONTENT);
        let response = coiote.call(Method::GET, since).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        let retry_after = response.headers().get("Retry-After").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(retry_after.as_deref(), (status == 429).then_some("7"));
        let body = response.text().await.unwrap();
        assert!(body.starts_with(text), "{body}");
        assert_eq!(coiote.get("/devices").await.0, StatusCode::OK);
    }

    coiote.put_control("/faults", &json!({"rate": 1, "kinds": ["unavailable"], "seconds": 0.3})).await;
    assert_eq!(coiote.get("/devices").await.0, StatusCode::SERVICE_UNAVAILABLE);
    let start = Instant::now();
    while coiote.get("/devices").await.0 != StatusCode::OK {
        assert!(start.elapsed() < DEADLINE, "they do not end");
    }
}

#[tokio::test]
async fn a_hanging_call_is_not_carried_out_and_is_cut_off_when_the_faults_are_over() {
    let coiote = Coiote::start("hang");
    // One connection is open already.
    assert_eq!(coiote.get("/devices").await.0, StatusCode::OK);
    for (faults, word) in [(json!({"rate": 1, "kinds": ["hang"]}), "hang"), (json!({"blackHole": true}), "blackHole")] {
        coiote.put_control("/faults", &faults).await;
        let handshakes = coiote.get_control("/stats").await["tlsHandshakes"].as_u64().unwrap();
        let create = || coiote.call(Method::POST, "/tasksFromTemplates/device/s%3A1").json(&reboot());
        let impatient = create().timeout(Duration::from_millis(300)).send().await.unwrap_err();
        assert!(impatient.is_timeout(), "{impatient:?}");
        let patient = tokio::spawn(create().send());
        let start = Instant::now();
        while coiote.get_control("/stats").await["faults"][word].as_u64() < Some(2) {
            assert!(start.elapsed() < DEADLINE, "{word}");
        }
        if word == "blackHole" {
            assert_eq!(coiote.get_control("/stats").await["tlsHandshakes"], handshakes);
        }
        assert!(!patient.is_finished());
        coiote.put_control("/faults", &json!({})).await;
        assert!(patient.await.unwrap().is_err());
        assert_eq!(coiote.get_control("/tasks").await, json!([]));
        assert_eq!(coiote.get("/devices").await.0, StatusCode::OK);
    }
}
