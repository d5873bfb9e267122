//! The installation: its devices, its tasks, its templates, and who may call it.
//!
//! REST, control and AWS meet here. Nothing in it waits, so one lock around everything is enough, and a task is taken
//! and run under it: never twice.

mod device_side;
mod integration;
mod restart;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::Method;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{info, warn};

use crate::aws::Order;
use crate::cli::NewDevice;
use crate::clock;
use crate::device::{Catalogue, DataFileError, Device, Registration, State};
use crate::external_certificate::ExternalCertificate;
use crate::faults::{Counts, Fault, Faults};
use crate::pem;
use crate::publication::{Outbox, is_thing_name};
use crate::tasks::{self, Report, ShadowUpdate, Status, Task};
use crate::template::{self, Parameter};

/// Why something was refused.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error("device {0:?} does not exist")]
    UnknownDevice(String),
    #[error("task template {0:?} does not exist")]
    UnknownTemplate(String),
    #[error("task {0:?} has no report for this device (yet)")]
    NoReport(String),
    #[error("{0}")]
    Parameters(String),
    #[error("{0}")]
    UnknownCertificate(String),
    #[error("device {0:?} exists already")]
    DeviceExists(String),
    #[error("{0}")]
    Invalid(String),
}

pub(crate) struct Installation {
    catalogue: Arc<Catalogue>,
    /// Absent where no AWS connection was configured.
    to_aws: Option<UnboundedSender<Order>>,
    /// Whether AWS is told of devices that register.
    announces: bool,
    inner: Mutex<Inner>,
    /// Wakes whoever waits for the next drift or notification.
    stirred: Notify,
}

/// What the options say of the installation.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) client_certificates: Vec<CertificateDer<'static>>,
    pub(crate) without_templates: Vec<String>,
    pub(crate) external_certificate: Option<ExternalCertificate>,
    pub(crate) announces: bool,
}

#[derive(Default)]
struct Inner {
    devices: Vec<Device>,
    tasks: Vec<Task>,
    /// What task ids start with: another one at each start from nothing, so that ids of an earlier run are unknown.
    task_prefix: String,
    templates: Setting<BTreeSet<String>>,
    client_certificates: Setting<Vec<CertificateDer<'static>>>,
    /// What Coiote connects to AWS with.
    external_certificate: Setting<Option<ExternalCertificate>>,
    connected: bool,
    /// Endpoint names of devices that this integration has announced, or is about to.
    announced: BTreeSet<String>,
    outbox: Outbox,
    faults: Faults,
    stats: Stats,
}

/// Given by the options until a call changes it: only then it outlives a restart, and otherwise the options of
/// the next run hold.
#[derive(Default)]
struct Setting<T> {
    value: T,
    changed: bool,
}

impl<T> Setting<T> {
    fn given(value: T) -> Self {
        Self { value, changed: false }
    }

    fn change(&mut self, value: T) {
        *self = Self { value, changed: true };
    }

    fn changed(&self) -> Option<&T> {
        self.changed.then_some(&self.value)
    }
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stats {
    tls_handshakes: u64,
    requests: BTreeMap<String, u64>,
    faults: Counts,
}

impl Installation {
    pub(crate) fn new(given: Given, to_aws: Option<UnboundedSender<Order>>) -> Result<Self, DataFileError> {
        let templates = template::all_names().filter(|name| !given.without_templates.contains(name)).collect();
        let inner = Inner {
            task_prefix: format!("d:{}", random_text()),
            templates: Setting::given(templates),
            client_certificates: Setting::given(given.client_certificates),
            external_certificate: Setting::given(given.external_certificate),
            ..Inner::default()
        };
        Ok(Self {
            catalogue: Arc::new(Catalogue::load()?),
            to_aws,
            announces: given.announces,
            inner: Mutex::new(inner),
            stirred: Notify::new(),
        })
    }

    // Devices

    /// One that is not deregistered registers at once.
    pub(crate) fn add_device(&self, new: NewDevice) -> Result<Value, Refusal> {
        let endpoint = new.endpoint.clone();
        let mut inner = self.inner();
        let device = self.insert_device(&mut inner, new)?;
        let (inside, registers) = (device.inside(), device.is_registered());
        if registers {
            self.tell_register(&mut inner, &endpoint);
        }
        Ok(inside)
    }

    fn insert_device<'i>(&self, inner: &'i mut Inner, new: NewDevice) -> Result<&'i mut Device, Refusal> {
        let NewDevice { endpoint, id, state, manufacturer, model } = new;
        let mut device = Device::new(self.catalogue.clone(), endpoint.clone(), id, state)
            .map_err(|error| Refusal::Invalid(error.to_string()))?;
        if endpoint.is_empty() || device.id.is_empty() {
            return Err(Refusal::Invalid("the endpoint name or the device id is empty".to_owned()));
        }
        if inner.devices.iter().any(|other| other.endpoint == endpoint || other.id == device.id) {
            return Err(Refusal::DeviceExists(endpoint));
        }
        device.set_make(manufacturer, model);
        info!("{endpoint}: device added with id {}, {}", device.id, device.state.word());
        if is_thing_name(&endpoint) {
            self.order(Order::Watch { endpoint: endpoint.clone() });
        }
        inner.devices.push(device);
        inner.by_endpoint(&endpoint)
    }

    /// Its tasks stay to be looked at; those that are scheduled run only if a device of that name is added again.
    pub(crate) fn remove_device(&self, endpoint: &str) -> Result<(), Refusal> {
        let mut inner = self.inner();
        inner.by_endpoint(endpoint)?;
        inner.devices.retain(|device| device.endpoint != endpoint);
        for task in inner.tasks.iter_mut().filter(|task| task.device == endpoint && task.status == Status::Done) {
            task.of_removed_device = true;
        }
        inner.announced.remove(endpoint);
        info!("{endpoint}: device removed");
        self.order(Order::Unwatch { endpoint: endpoint.to_owned() });
        Ok(())
    }

    pub(crate) fn set_state(&self, endpoint: &str, state: State) -> Result<Value, Refusal> {
        let mut inner = self.inner();
        let device = inner.by_endpoint(endpoint)?;
        let told = device.change_state(state);
        let inside = device.inside();
        info!("{endpoint}: is now {}", state.word());
        match told {
            Some(Registration::Register) => self.tell_register(&mut inner, endpoint),
            Some(Registration::Update) => self.tell_update(&mut inner, endpoint),
            // The shadow keeps what it has of a device that is gone.
            Some(Registration::Deregister) | None => {}
        }
        // One that wakes up notifies what has become due.
        self.stir();
        Ok(inside)
    }

    pub(crate) fn has_device(&self, endpoint: &str) -> bool {
        self.inner().by_endpoint(endpoint).is_ok()
    }

    pub(crate) fn devices_inside(&self) -> Vec<Value> {
        self.inner().devices.iter().map(Device::inside).collect()
    }

    pub(crate) fn data_model(&self, endpoint: &str) -> Result<Map<String, Value>, Refusal> {
        Ok(self.inner().by_endpoint(endpoint)?.readable_values())
    }

    /// Ids of all devices, or of the one with this endpoint name.
    pub(crate) fn device_ids(&self, endpoint: Option<&str>) -> Vec<String> {
        let inner = self.inner();
        let wanted = inner.devices.iter().filter(|device| endpoint.is_none_or(|name| device.endpoint == name));
        wanted.map(|device| device.id.clone()).collect()
    }

    pub(crate) fn description(&self, device_id: &str) -> Result<Value, Refusal> {
        Ok(self.inner().by_id(device_id)?.description())
    }

    // Tasks

    pub(crate) fn schedule(
        &self,
        device_id: &str,
        template: &str,
        parameters: Vec<Parameter>,
    ) -> Result<String, Refusal> {
        let mut inner = self.inner();
        let device = inner.by_id(device_id)?.endpoint.clone();
        if !inner.templates.value.contains(template) {
            return Err(Refusal::UnknownTemplate(template.to_owned()));
        }
        let decoded = template::decode(template, &parameters, &self.catalogue).map_err(Refusal::Parameters)?;
        let id = format!("{}:{}", inner.task_prefix, inner.tasks.len() + 1);
        let shown: Vec<_> = parameters.iter().map(|p| format!("{}={:?}", p.name, p.value)).collect();
        info!("{device}: task {id} scheduled: {template} {}", shown.join(" "));
        inner.tasks.push(Task {
            id: id.clone(),
            device,
            template: template.to_owned(),
            parameters,
            decoded,
            status: Status::Scheduled,
            report: None,
            shadow_update: ShadowUpdate::None,
            of_removed_device: false,
        });
        Ok(id)
    }

    /// Tries to reach the device. Gives its endpoint name when it is there, and so runs its tasks.
    pub(crate) fn start_session(&self, device_id: &str) -> Result<Option<String>, Refusal> {
        let mut inner = self.inner();
        let device = inner.by_id(device_id)?;
        let endpoint = device.endpoint.clone();
        let state = device.state;
        let waiting = inner.tasks.iter().filter(|t| t.device == endpoint && t.status == Status::Scheduled).count();
        if state == State::Online {
            info!("{endpoint}: session started, {waiting} task(s) to run");
            return Ok(Some(endpoint));
        }
        info!("{endpoint}: session asked for, but the device is {}: {waiting} task(s) wait for it", state.word());
        Ok(None)
    }

    /// Runs what is scheduled for the device, oldest first, as long as it is online.
    pub(crate) fn run_scheduled(&self, endpoint: &str) {
        while self.run_next(endpoint) {}
    }

    /// Runs what is scheduled for all who are online: after a restart nobody asks for a session again.
    pub(crate) fn run_all_scheduled(&self) {
        let endpoints: Vec<_> = self.inner().devices.iter().map(|device| device.endpoint.clone()).collect();
        for endpoint in endpoints {
            self.run_scheduled(&endpoint);
        }
    }

    fn run_next(&self, endpoint: &str) -> bool {
        let mut inner = self.inner();
        let Inner { devices, tasks, .. } = &mut *inner;
        let device = devices.iter_mut().find(|device| device.endpoint == endpoint && device.state == State::Online);
        let task = tasks.iter_mut().find(|task| task.device == endpoint && task.status == Status::Scheduled);
        let (Some(device), Some(task)) = (device, task) else {
            return false;
        };
        info!("{endpoint}: task {} runs", task.id);
        let start_time = clock::now();
        let outcome = device.run(&task.decoded, Instant::now());
        device.notice_changes();
        self.stir();
        let report = Report::new(&task.id, &device.id, start_time, &outcome);
        let answer = shortened(&Value::Object(outcome.result.clone()).to_string());
        info!("{endpoint}: task {} ended with {:?}: {}; result {answer}", task.id, report.status, report.summary);
        task.status = Status::Done;
        task.report = Some(report);
        if let Some(operation) = task.decoded.reported_as() {
            let payload = tasks::shadow_update(operation, &outcome, &task.id);
            task.shadow_update = self.report_to_aws(endpoint, &task.id, payload);
        }
        true
    }

    fn report_to_aws(&self, endpoint: &str, task_id: &str, payload: Value) -> ShadowUpdate {
        if self.to_aws.is_none() || !is_thing_name(endpoint) {
            info!("{endpoint}: result of task {task_id} kept, since there is no AWS connection, or no such thing");
            return ShadowUpdate::Kept { payload };
        }
        self.order(Order::Report {
            endpoint: endpoint.to_owned(),
            task_id: task_id.to_owned(),
            payload: payload.to_string(),
        });
        ShadowUpdate::Sent { payload }
    }

    pub(crate) fn shadow_accepted(&self, endpoint: &str, task_id: &str, version: Option<u64>) {
        let shown = version.map_or_else(|| "unknown".to_owned(), |version| version.to_string());
        info!("{endpoint}: AWS accepted the result of task {task_id}; operation shadow version {shown}");
        self.settle(task_id, |payload| ShadowUpdate::Accepted { version, payload });
    }

    pub(crate) fn shadow_rejected(&self, endpoint: &str, task_id: &str, code: Option<u64>, message: String) {
        let shown = code.unwrap_or_default();
        warn!("{endpoint}: AWS rejected the result of task {task_id}: {shown} {message}");
        self.settle(task_id, |payload| ShadowUpdate::Rejected { code, message, payload });
    }

    fn settle(&self, task_id: &str, settled: impl FnOnce(Value) -> ShadowUpdate) {
        if let Some(task) = self.inner().tasks.iter_mut().find(|task| task.id == task_id) {
            let sent = std::mem::replace(&mut task.shadow_update, ShadowUpdate::None);
            task.shadow_update = settled(sent.into_payload());
        }
    }

    /// The task report as JSON.
    pub(crate) fn report(&self, task_id: &str, device_id: &str) -> Result<Value, Refusal> {
        let mut inner = self.inner();
        let endpoint = inner.by_id(device_id)?.endpoint.clone();
        inner
            .tasks
            .iter()
            .find(|task| task.id == task_id && task.device == endpoint)
            .and_then(|task| serde_json::to_value(task.report.as_ref()?).ok())
            .ok_or_else(|| Refusal::NoReport(task_id.to_owned()))
    }

    /// All tasks, oldest first, or those of one device.
    pub(crate) fn tasks(&self, endpoint: Option<&str>) -> Result<Value, serde_json::Error> {
        let inner = self.inner();
        let wanted: Vec<_> =
            inner.tasks.iter().filter(|task| endpoint.is_none_or(|name| task.device == name)).collect();
        serde_json::to_value(wanted)
    }

    // Templates, certificates, faults, counts

    pub(crate) fn add_template(&self, name: &str) -> Result<(), Refusal> {
        if !template::all_names().any(|known| known == name) {
            return Err(Refusal::UnknownTemplate(name.to_owned()));
        }
        let mut inner = self.inner();
        let mut templates = inner.templates.value.clone();
        templates.insert(name.to_owned());
        inner.templates.change(templates);
        info!("template {name} added");
        Ok(())
    }

    pub(crate) fn remove_template(&self, name: &str) -> Result<(), Refusal> {
        let mut inner = self.inner();
        let mut templates = inner.templates.value.clone();
        if !templates.remove(name) {
            return Err(Refusal::UnknownTemplate(name.to_owned()));
        }
        inner.templates.change(templates);
        info!("template {name} removed");
        Ok(())
    }

    pub(crate) fn templates(&self) -> Vec<String> {
        self.inner().templates.value.iter().cloned().collect()
    }

    pub(crate) fn register_client_certificates(&self, certificates: Vec<CertificateDer<'static>>) {
        info!("{} client certificate(s) registered in place of the earlier ones", certificates.len());
        self.inner().client_certificates.change(certificates);
    }

    /// In addition to the others; a second time makes no difference.
    pub(crate) fn register_client_certificate(&self, certificate: CertificateDer<'static>) {
        let mut inner = self.inner();
        info!("client certificate {} registered", pem::fingerprint(&certificate));
        let mut certificates = inner.client_certificates.value.clone();
        if !certificates.contains(&certificate) {
            certificates.push(certificate);
        }
        inner.client_certificates.change(certificates);
    }

    pub(crate) fn unregister_client_certificate(&self, certificate: &CertificateDer<'_>) -> Result<(), Refusal> {
        let mut inner = self.inner();
        let mut certificates = inner.client_certificates.value.clone();
        let before = certificates.len();
        certificates.retain(|registered| registered != certificate);
        if certificates.len() == before {
            return Err(Refusal::UnknownCertificate("the client certificate is not registered".to_owned()));
        }
        info!("client certificate {} is registered no more", pem::fingerprint(certificate));
        inner.client_certificates.change(certificates);
        Ok(())
    }

    pub(crate) fn knows_client(&self, certificate: &CertificateDer<'_>) -> bool {
        self.inner().client_certificates.value.iter().any(|registered| registered == certificate)
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        info!("{faults:?} in place of the earlier ones");
        self.inner().faults = faults;
    }

    /// The fault that a REST call meets, if any: it is counted.
    pub(crate) fn meet_fault(&self, method: &Method, path: &str) -> Option<Fault> {
        let mut inner = self.inner();
        let fault = inner.faults.meet(method, path)?;
        inner.stats.faults.add(fault);
        Some(fault)
    }

    pub(crate) fn count_handshake(&self) {
        self.inner().stats.tls_handshakes += 1;
    }

    pub(crate) fn count_request(&self, request: String) {
        *self.inner().stats.requests.entry(request).or_default() += 1;
    }

    pub(crate) fn stats(&self) -> Stats {
        self.inner().stats.clone()
    }

    fn order(&self, order: Order) {
        if let Some(to_aws) = &self.to_aws
            && to_aws.send(order).is_err()
        {
            warn!("the AWS connection has ended: nothing more is reported");
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn by_id(&mut self, id: &str) -> Result<&mut Device, Refusal> {
        let found = self.devices.iter_mut().find(|device| device.id == id);
        found.ok_or_else(|| Refusal::UnknownDevice(id.to_owned()))
    }

    fn by_endpoint(&mut self, endpoint: &str) -> Result<&mut Device, Refusal> {
        let found = self.devices.iter_mut().find(|device| device.endpoint == endpoint);
        found.ok_or_else(|| Refusal::UnknownDevice(endpoint.to_owned()))
    }
}

/// For the log: a whole data model would bury the line. The control API has all of it.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 400;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes)", text.get(..end).unwrap_or(text), text.len()),
        None => text.to_owned(),
    }
}

/// They only have to differ.
fn random_text() -> String {
    (0..22).map(|_| fastrand::alphanumeric()).collect()
}
