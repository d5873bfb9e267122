//! The binary as a whole, over HTTPS and its control API. What it reports to AWS is tested with a broker elsewhere.

// Clippy spares test functions only; what they call is test code too.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Client, Identity, StatusCode};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(20);
const BASE: &str = "/api/coiotedm/v3";

/// A running local Coiote; it ends with the test.
struct Coiote {
    process: Child,
    folder: PathBuf,
    rest: String,
    control: String,
    /// With the registered certificate, without any, and with one that nobody registered.
    known: Client,
    nobody: Client,
    stranger: Client,
}

impl Coiote {
    fn start(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [server, lambda, other] =
            [(); 3].map(|()| generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap());
        let file = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut process = Command::new(env!("CARGO_BIN_EXE_coiote-sim"))
            .args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"])
            .arg("--tls-cert")
            .arg(file("server.pem", server.cert.pem()))
            .arg("--tls-key")
            .arg(file("server-key.pem", server.signing_key.serialize_pem()))
            .arg("--client-cert")
            .arg(file("client.pem", lambda.cert.pem()))
            .args(["--without-template", "AWSdiscoverCertAuth"])
            .args(["--device", "endpoint=urn:dev:1", "--device", "endpoint=sleeper,id=s:1,state=sleeping"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["ready"], true);
        Self {
            process,
            folder,
            rest: format!("{}{BASE}", ready["rest"].as_str().unwrap()),
            control: ready["control"].as_str().unwrap().to_owned(),
            known: client(&server, Some(&lambda)),
            nobody: client(&server, None),
            stranger: client(&server, Some(&other)),
        }
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.known.get(format!("{}{path}", self.rest)).header("Authorization", "Certificate")).await
    }

    async fn post(&self, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let request = self.known.post(format!("{}{path}", self.rest)).header("Authorization", "Certificate");
        answer(body.into_iter().fold(request, |request, body| request.json(body))).await
    }

    async fn create_task(&self, device: &str, template: &str, parameters: &[(&str, &str)]) -> (StatusCode, Value) {
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let body = json!({"templateName": template, "config": {"parameters": parameters}});
        self.post(&format!("/tasksFromTemplates/device/{device}"), Some(&body)).await
    }

    /// Schedules a task, starts a session, and waits for the report.
    async fn run(&self, device: &str, template: &str, parameters: &[(&str, &str)]) -> Value {
        let (status, task) = self.create_task(device, template, parameters).await;
        assert_eq!(status, StatusCode::CREATED, "{task}");
        let (status, answer) = self.post(&format!("/sessions/{device}/allow-deregistered"), None).await;
        assert_eq!((status, answer), (StatusCode::OK, json!({})));
        self.report(&task, device).await
    }

    async fn report(&self, task: &Value, device: &str) -> Value {
        let path = format!("/taskReports/{}/{device}", task.as_str().unwrap().replace(':', "%3A"));
        let start = Instant::now();
        loop {
            match self.get(&path).await {
                (StatusCode::OK, report) => return report,
                (StatusCode::NOT_FOUND, error) if error["code"] == 4041 => {}
                other => panic!("{other:?}"),
            }
            assert!(start.elapsed() < DEADLINE, "no report of {task}");
        }
    }

    async fn inside(&self, path: &str) -> Value {
        answer(self.nobody.get(format!("{}{path}", self.control))).await.1
    }

    async fn steer(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.nobody.post(format!("{}{path}", self.control)).json(body)).await
    }

    async fn id_of(&self, endpoint: &str) -> String {
        let criteria = format!("properties.endpointName eq '{endpoint}'");
        let request = self.known.get(format!("{}/devices", self.rest)).query(&[("searchCriteria", criteria)]);
        let (status, ids) = answer(request.header("Authorization", "Certificate")).await;
        assert_eq!(status, StatusCode::OK);
        ids[0].as_str().unwrap().replace(':', "%3A")
    }
}

impl Drop for Coiote {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn client(server: &CertifiedKey<rcgen::KeyPair>, own: Option<&CertifiedKey<rcgen::KeyPair>>) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .tls_certs_only([Certificate::from_pem(server.cert.pem().as_bytes()).unwrap()])
        .timeout(DEADLINE);
    let builder = own.into_iter().fold(builder, |builder, own| {
        let pem = format!("{}{}", own.signing_key.serialize_pem(), own.cert.pem());
        builder.identity(Identity::from_pem(pem.as_bytes()).unwrap())
    });
    builder.build().unwrap()
}

async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let body = response.text().await.unwrap();
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

fn property<'r>(report: &'r Value, name: &str) -> &'r str {
    let properties = report["properties"].as_array().unwrap();
    properties.iter().find(|property| property["name"] == name).unwrap()["value"].as_str().unwrap()
}

#[tokio::test]
async fn reads_and_writes() {
    let coiote = Coiote::start("reads-and-writes");
    let id = coiote.id_of("urn:dev:1").await;
    assert_ne!(id, "urn%3Adev%3A1");
    assert!(id.contains("%3A"), "{id}");

    let values = [("keys", "LwM2M Server.1.Lifetime,Device.0.UTC Offset"), ("values", "68,+02:00")];
    let report = coiote.run(&id, "AWSwriteCertAuth", &values).await;
    assert_eq!(report["status"], "Success");
    assert_eq!(property(&report, "failedKeys"), "");

    let keys = [("keys", "Device.0.UTC Offset,Device.0.UTC Ofset,LwM2M Server.1.Lifetime")];
    let report = coiote.run(&id, "AWSreadCertAuth", &keys).await;
    assert_eq!(report["status"], "Warning");
    assert_eq!(property(&report, "failedKeys"), "Device.0.UTC Ofset");
    let result = json!({"LwM2M Server": {"1": {"Lifetime": "68"}}, "Device": {"0": {"UTC Offset": "+02:00"}}});
    assert_eq!(serde_json::from_str::<Value>(property(&report, "result")).unwrap(), result);

    // Without a connection to AWS the report is kept, in the form in which it would go out.
    let tasks = coiote.inside("/tasks?device=urn:dev:1").await;
    let update = &tasks[1]["shadowUpdate"];
    assert_eq!(update["status"], "kept");
    assert_eq!(
        update["payload"],
        json!({
            "state": {"reported": {"operation": "read", "failedKeys": ["Device.0.UTC Ofset"], "result": result}},
            "clientToken": tasks[1]["id"],
        })
    );
    assert_eq!(coiote.inside("/devices/urn:dev:1/datamodel").await["LwM2M Server"]["1"]["Lifetime"], "68");
}

#[tokio::test]
async fn a_sleeping_device_runs_its_task_when_it_wakes_up_and_only_once() {
    let coiote = Coiote::start("sleeping");
    let (_, task) = coiote.create_task("s%3A1", "AWSexecuteCertAuth", &[("keys", "Device.0.Reboot")]).await;
    let (status, _) = coiote.post("/sessions/s%3A1/allow-deregistered", None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(coiote.inside("/tasks?device=sleeper").await[0]["status"], "scheduled");

    let (status, device) = coiote.steer("/devices/sleeper/state", &json!({"state": "online"})).await;
    assert_eq!((status, &device["state"]), (StatusCode::OK, &json!("online")));
    assert_eq!(coiote.report(&task, "s%3A1").await["status"], "Success");
    coiote.post("/sessions/s%3A1/allow-deregistered", None).await;
    coiote.run("s%3A1", "AWSreadCertAuth", &[("keys", "")]).await;
    let devices = coiote.inside("/devices").await;
    assert_eq!(devices[1]["reboots"], 1);
    assert_eq!(coiote.inside("/tasks?device=sleeper").await[0]["shadowUpdate"], json!({"status": "none"}));
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
    let stats = coiote.inside("/stats").await;
    assert_eq!(stats["requests"], json!({"GET /devices": 5}));
    assert!(stats["tlsHandshakes"].as_u64() >= Some(3), "{stats}");
}

#[tokio::test]
async fn client_certificates_can_be_replaced() {
    let coiote = Coiote::start("replace");
    let path = format!("{}/client-certs", coiote.control);
    let replace = |pem: Vec<String>| coiote.nobody.put(&path).json(&json!({"pem": pem}));
    let registered = std::fs::read_to_string(coiote.folder.join("client.pem")).unwrap();
    assert_eq!(answer(replace(vec![])).await, (StatusCode::OK, json!({"registered": 0})));
    assert_eq!(coiote.get("/devices").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(answer(replace(vec![registered])).await, (StatusCode::OK, json!({"registered": 1})));
    assert_eq!(coiote.get("/devices").await.0, StatusCode::OK);
    assert_eq!(answer(replace(vec!["nonsense".to_owned()])).await.0, StatusCode::BAD_REQUEST);
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
        ("/tasks", json!({}), 404, 4040, "no such resource"),
    ] {
        let (got, error) = coiote.post(path, Some(&body)).await;
        assert_eq!((got.as_u16(), &error["code"]), (status, &json!(code)), "{path} {body}: {error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }
    for (path, status, code) in [
        ("/devices?searchCriteria=id%20eq%20'a'", 400, 4000),
        ("/devices/nobody", 404, 4040),
        ("/taskReports/none/s%3A1", 404, 4041),
        ("/taskReports/none/nobody", 404, 4040),
    ] {
        let (got, error) = coiote.get(path).await;
        assert_eq!((got.as_u16(), &error["code"]), (status, &json!(code)), "{path}: {error}");
    }
    let (_, none) = coiote.get("/devices?searchCriteria=properties.endpointName+eq+'nobody'").await;
    assert_eq!(none, json!([]));
    assert_eq!(coiote.inside("/tasks").await, json!([]));

    let template = format!("{}/templates/AWSdiscoverCertAuth", coiote.control);
    assert_eq!(answer(coiote.nobody.put(&template)).await.0, StatusCode::NO_CONTENT);
    let report = coiote.run(&coiote.id_of("urn:dev:1").await, "AWSdiscoverCertAuth", &[("keys", "Location")]).await;
    assert!(property(&report, "result").contains("</6/0/0>"), "{report}");
}

#[tokio::test]
async fn devices_come_and_go() {
    let coiote = Coiote::start("fleet");
    let new = json!({"endpoint": "urn:dev:2", "id": "two", "state": "deregistered"});
    assert_eq!(coiote.steer("/devices", &new).await.0, StatusCode::CREATED);
    assert_eq!(coiote.steer("/devices", &new).await.0, StatusCode::CONFLICT);
    assert_eq!(coiote.steer("/devices", &json!({"endpoint": "a/b"})).await.0, StatusCode::BAD_REQUEST);
    let (_, device) = coiote.get("/devices/two").await;
    assert_eq!(device["manufacturer"], "anjay");
    assert_eq!(device["modelName"], "demo_client");
    assert_eq!(device["properties"]["endpointName"], "urn:dev:2");
    let removal = coiote.nobody.delete(format!("{}/devices/urn:dev:2", coiote.control));
    assert_eq!(answer(removal).await.0, StatusCode::NO_CONTENT);
    assert_eq!(coiote.get("/devices/two").await.0, StatusCode::NOT_FOUND);
}
