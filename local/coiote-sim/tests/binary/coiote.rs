//! The local Coiote as a process, and its clients.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Client, Identity, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const PASSWORD: &str = "pass word: żółw";
const BASE: &str = "/api/coiotedm/v3";
/// Log of the process, in its folder. A test that fails prints it.
const LOG: &str = "log.txt";

/// A running local Coiote; it ends with the test.
pub(crate) struct Coiote {
    process: Child,
    pub(crate) folder: PathBuf,
    options: Vec<String>,
    pub(crate) rest: String,
    pub(crate) control: String,
    /// Client with the registered certificate.
    pub(crate) known: Client,
    /// Client without a certificate.
    pub(crate) nobody: Client,
    /// Client with an unregistered certificate.
    pub(crate) stranger: Client,
}

impl Coiote {
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, |_| Vec::new())
    }

    /// Starts it with further options, which may name files in the folder.
    pub(crate) fn start_with(name: &str, options: impl Fn(&Path) -> Vec<String>) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [server, lambda, other] =
            [(); 3].map(|()| generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap());
        for (name, text) in [
            ("server.pem", server.cert.pem()),
            ("server-key.pem", server.signing_key.serialize_pem()),
            ("client.pem", lambda.cert.pem()),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let options = options(&folder);
        let (process, ready) = run_in(&folder, &options);
        Self {
            process,
            folder,
            options,
            rest: rest_of(&ready),
            control: control_of(&ready),
            known: client(&server, Some(&lambda)),
            nobody: client(&server, None),
            stranger: client(&server, Some(&other)),
        }
    }

    /// Stops it with a signal such as `TERM`, and expects success.
    pub(crate) async fn stop(&mut self, signal: &str) {
        let mut kill = Command::new("kill");
        assert!(kill.arg(format!("-{signal}")).arg(self.process.id().to_string()).status().unwrap().success());
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if let Some(ended) = self.process.try_wait().unwrap() {
                return assert!(ended.success(), "{ended}");
            }
            // Not blocking: calls of the test go on meanwhile.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("it does not end on SIG{signal}");
    }

    /// Starts it again with the same options. Its addresses change.
    pub(crate) fn start_again(&mut self) {
        let (process, ready) = run_in(&self.folder, &self.options);
        self.process = process;
        self.rest = rest_of(&ready);
        self.control = control_of(&ready);
    }

    /// REST call that is not sent yet.
    pub(crate) fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.known.request(method, format!("{}{path}", self.rest)).header("Authorization", "Certificate")
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.call(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let request = self.call(Method::POST, path);
        answer(body.into_iter().fold(request, |request, body| request.json(body))).await
    }

    pub(crate) async fn create_task(
        &self,
        device: &str,
        template: &str,
        parameters: &[(&str, &str)],
    ) -> (StatusCode, Value) {
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let body = json!({"templateName": template, "config": {"parameters": parameters}});
        self.post(&format!("/tasksFromTemplates/device/{device}"), Some(&body)).await
    }

    /// Schedules a task, starts a session, and waits for the report.
    pub(crate) async fn run(&self, device: &str, template: &str, parameters: &[(&str, &str)]) -> Value {
        let (status, task) = self.create_task(device, template, parameters).await;
        assert_eq!(status, StatusCode::CREATED, "{task}");
        let runs = self.runs(&task).await.len();
        let (status, answer) = self.post(&format!("/sessions/{device}/allow-deregistered"), None).await;
        assert_eq!((status, answer), (StatusCode::OK, json!({})));
        // Not by the report: a task that equals an earlier one has that one's until it has run again.
        let start = Instant::now();
        while self.runs(&task).await.len() == runs {
            assert!(start.elapsed() < DEADLINE, "{task} does not run");
        }
        self.report(&task, device).await
    }

    /// Runs of the task.
    pub(crate) async fn runs(&self, task: &Value) -> Vec<Value> {
        let path = format!("/runs?task={}", task.as_str().unwrap().replace(':', "%3A"));
        self.get_control(&path).await.as_array().unwrap().clone()
    }

    /// Reports by `findSince`.
    pub(crate) async fn reports_since(&self, query: &str) -> Vec<Value> {
        let (status, reports) = self.get(&format!("/taskReports/findSince?{query}")).await;
        assert_eq!(status, StatusCode::OK, "{reports}");
        reports.as_array().unwrap().clone()
    }

    pub(crate) async fn report(&self, task: &Value, device: &str) -> Value {
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

    pub(crate) async fn get_control(&self, path: &str) -> Value {
        answer(self.nobody.get(format!("{}{path}", self.control))).await.1
    }

    pub(crate) async fn post_control(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.nobody.post(format!("{}{path}", self.control)).json(body)).await
    }

    pub(crate) async fn put_control(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.nobody.put(format!("{}{path}", self.control)).json(body)).await
    }

    /// Makes a set-up call with user and password.
    pub(crate) async fn set_up(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = self.nobody.request(method, format!("{}{path}", self.rest));
        answer(request.basic_auth("admin", Some(PASSWORD)).json(body)).await
    }

    /// Waits until `GET /integration` is as wanted, and returns it.
    pub(crate) async fn integration(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let integration = self.get_control("/integration").await;
            if wanted(&integration) {
                return integration;
            }
            assert!(start.elapsed() < DEADLINE, "{integration}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn id_of(&self, endpoint: &str) -> String {
        let criteria = format!("properties.endpointName eq '{endpoint}'");
        let url =
            reqwest::Url::parse_with_params(&format!("{}/devices", self.rest), [("searchCriteria", criteria)]).unwrap();
        let request = self.known.get(url);
        let (status, ids) = answer(request.header("Authorization", "Certificate")).await;
        assert_eq!(status, StatusCode::OK);
        ids[0].as_str().unwrap().replace(':', "%3A")
    }
}

impl Drop for Coiote {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.folder.join(LOG)).unwrap_or_default());
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Command line with a device that is online and one that sleeps. The folder holds the files that it names.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coiote-sim"));
    for (option, name) in [
        ("--tls-cert", "server.pem"),
        ("--tls-key", "server-key.pem"),
        ("--client-cert", "client.pem"),
        ("--state", "state.json"),
    ] {
        command.arg(option).arg(folder.join(name));
    }
    command
        .args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"])
        .args(["--without-template", "AWSdiscoverCertAuth"])
        .args(["--device", "endpoint=urn:dev:1", "--device", "endpoint=sleeper,id=s:1,state=sleeping"]);
    command
}

/// Options of the user for set-up calls.
pub(crate) fn with_user(folder: &Path) -> Vec<String> {
    let file = folder.join("password.txt");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    ["--user", "admin", "--password-file", file.to_str().unwrap()].map(ToOwned::to_owned).into()
}

/// Starts the process, whose log goes into a file, and reads the line that it prints when it is ready.
fn run_in(folder: &Path, options: &[String]) -> (Child, Value) {
    let log = File::options().create(true).append(true).open(folder.join(LOG)).unwrap();
    let mut process = command(folder).args(options).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["ready"], true);
    (process, ready)
}

fn rest_of(ready: &Value) -> String {
    format!("{}{BASE}", ready["rest"].as_str().unwrap())
}

fn control_of(ready: &Value) -> String {
    ready["control"].as_str().unwrap().to_owned()
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

pub(crate) async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let body = response.text().await.unwrap();
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

pub(crate) fn property<'r>(report: &'r Value, name: &str) -> &'r str {
    let properties = report["properties"].as_array().unwrap();
    properties.iter().find(|property| property["name"] == name).unwrap()["value"].as_str().unwrap()
}
