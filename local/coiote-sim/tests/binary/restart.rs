//! State that outlives a restart.

use std::os::unix::fs::PermissionsExt;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::coiote::{Coiote, command};

async fn seen(coiote: &Coiote) -> [Value; 4] {
    [
        coiote.get_control("/devices").await,
        coiote.get_control("/tasks").await,
        coiote.get_control("/devices/urn:dev:1/datamodel").await,
        coiote.get_control("/templates").await,
    ]
}

#[tokio::test]
async fn tasks_reports_and_devices_outlive_a_restart() {
    let mut coiote = Coiote::start("restart");
    let id = coiote.id_of("urn:dev:1").await;
    coiote.run(&id, "AWSwriteCertAuth", &[("keys", "Device.0.UTC Offset"), ("values", "+02:00")]).await;
    coiote.run(&id, "AWSexecuteCertAuth", &[("keys", "Device.0.Reboot")]).await;
    coiote.run(&id, "AWSobserveCertAuth", &[("keys", "Device.0"), ("attributes", "[{'pmin':5}]")]).await;
    let report = coiote.run(&id, "AWSreadCertAuth", &[("keys", "Device.0.UTC Offset,Nothing")]).await;
    let (_, waiting) = coiote.create_task("s%3A1", "AWSexecuteCertAuth", &[("keys", "Device.0.Reboot")]).await;
    coiote.post_control("/devices", &json!({"endpoint": "later", "state": "deregistered"})).await;
    coiote.put_control("/templates/AWSdiscoverCertAuth", &json!(null)).await;
    let before = seen(&coiote).await;
    assert_eq!((&before[0][0]["reboots"], before[0].as_array().unwrap().len()), (&json!(1), 3));

    for signal in ["TERM", "INT"] {
        coiote.stop(signal).await;
        let file = coiote.folder.join("state.json");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        coiote.start_again();
        assert_eq!(seen(&coiote).await, before, "{signal}");
    }
    assert_eq!(coiote.report(&before[1][3]["id"], &id).await, report);

    // Waiting tasks and new ids go on where they stopped.
    coiote.post_control("/devices/sleeper/state", &json!({"state": "online"})).await;
    coiote.report(&waiting, "s%3A1").await;
    assert_eq!(coiote.get_control("/devices").await[1]["reboots"], 1);
    let (status, next) = coiote.create_task(&id, "AWSdiscoverCertAuth", &[("keys", "Location")]).await;
    assert_eq!(status, StatusCode::CREATED, "{next}");
    assert_eq!(next, before[1][4]["id"].as_str().unwrap().replace(":5", ":6"));

    // A task that is scheduled for an online device runs at the start, without a session.
    coiote.stop("TERM").await;
    coiote.start_again();
    assert_eq!(coiote.get_control("/tasks").await[5]["status"], "done");
}

/// Calls come in while the process is stopped: every answered one must be in the file.
#[tokio::test]
async fn no_task_is_lost_whose_creation_was_answered() {
    let mut coiote = Coiote::start("stop");
    let reboot = json!({"templateName": "AWSexecuteCertAuth", "config": {"parameters": [
        {"name": "keys", "value": "Device.0.Reboot"}]}});
    let create = coiote.call(reqwest::Method::POST, "/tasksFromTemplates/device/s%3A1").json(&reboot);
    let callers = (0..8).map(|_| {
        let create = create.try_clone().unwrap();
        tokio::spawn(async move {
            let mut created = Vec::new();
            loop {
                let Ok(response) = create.try_clone().unwrap().send().await else { return created };
                let Ok(task) = response.json::<Value>().await else { return created };
                created.push(task);
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    while coiote.get_control("/tasks").await.as_array().unwrap().len() < 50 {}
    coiote.stop("TERM").await;
    coiote.start_again();
    let tasks = coiote.get_control("/tasks").await;
    let kept: Vec<_> = tasks.as_array().unwrap().iter().map(|task| &task["id"]).collect();
    for caller in callers {
        let created = caller.await.unwrap();
        assert!(!created.is_empty());
        assert!(created.iter().all(|id| kept.contains(&id)));
    }
}

#[tokio::test]
async fn faults_and_counts_start_anew() {
    let mut coiote = Coiote::start("healed");
    coiote.put_control("/faults", &json!({"rate": 1, "kinds": ["failed"]})).await;
    assert_eq!(coiote.get("/devices").await.0, StatusCode::INTERNAL_SERVER_ERROR);
    coiote.stop("TERM").await;
    coiote.start_again();
    assert_eq!(coiote.get("/devices").await.0, StatusCode::OK);
    assert_eq!(coiote.get_control("/stats").await["faults"]["failed"], 0);
}

#[tokio::test]
async fn does_not_start_from_a_state_that_it_cannot_read() {
    let mut coiote = Coiote::start("unreadable");
    coiote.stop("TERM").await;
    let file = coiote.folder.join("state.json");
    std::fs::write(&file, "{\"devices\": [").unwrap();
    let ended = command(&coiote.folder).output().unwrap();
    assert!(!ended.status.success() && ended.stdout.is_empty());
    let log = String::from_utf8(ended.stderr).unwrap();
    let expected = format!(
        "coiote-sim: --state {}: EOF while parsing a list at line 1 column 13. \
         Give a file that the local Coiote wrote, or remove it to start afresh.\n",
        file.display()
    );
    assert!(log.ends_with(&expected), "{log}");
    // The file is left as it is.
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"devices\": [");
}
