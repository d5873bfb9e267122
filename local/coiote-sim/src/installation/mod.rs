//! State of the local Coiote: devices, tasks, templates, certificates, faults.
//!
//! The REST API, the control API and the connection to AWS meet here. Nothing in it waits, so one lock around everything
//! is enough. A task is taken and run under that lock, so it never runs twice.

mod device_actions;
mod integration;
mod restart;
mod task_lifecycle;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::Method;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{info, warn};

use crate::aws_command::AwsCommand;
use crate::cli::NewDevice;
use crate::device::{Catalogue, DataFileError, Device, DeviceState, Registration};
use crate::external_certificate::ExternalCertificate;
use crate::faults::{Fault, FaultCounts, Faults};
use crate::pem;
use crate::publication::{Outbox, is_thing_name};
use crate::task::TaskStatus;
use crate::task_list::TaskList;
use crate::template;

pub(crate) use task_lifecycle::{NewTask, WantedReports};

/// Refusal of a call.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error("device {0:?} does not exist")]
    UnknownDevice(String),
    #[error("task template {0:?} does not exist")]
    UnknownTemplate(String),
    #[error("task {0:?} does not exist")]
    UnknownTask(String),
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

/// The local Coiote behind its APIs.
pub(crate) struct Installation {
    catalogue: Arc<Catalogue>,
    /// `None` if no connection to AWS is configured.
    to_aws: Option<UnboundedSender<AwsCommand>>,
    /// Announce devices that register to AWS (`--announce`).
    announces: bool,
    inner: Mutex<Inner>,
    /// Wakes the timer of drift, notifications and held results.
    timer_changed: Notify,
    /// Wakes calls that hang until the faults change.
    faults_changed: Notify,
}

/// Settings of the installation that the command line gives.
#[derive(Debug, Default)]
pub(crate) struct InstallationOptions {
    pub(crate) client_certificates: Vec<CertificateDer<'static>>,
    pub(crate) without_templates: Vec<String>,
    pub(crate) external_certificate: Option<ExternalCertificate>,
    pub(crate) announces: bool,
}

#[derive(Default)]
struct Inner {
    devices: Vec<Device>,
    tasks: TaskList,
    /// Results that the faults delay, and when they are due.
    held: Vec<(Instant, AwsCommand)>,
    /// Prefix of task ids. It differs at each start without saved state, so that ids of an earlier run are unknown.
    task_prefix: String,
    templates: Overridable<BTreeSet<String>>,
    client_certificates: Overridable<Vec<CertificateDer<'static>>>,
    /// Certificate that Coiote connects to AWS with.
    external_certificate: Overridable<Option<ExternalCertificate>>,
    connected: bool,
    /// Endpoint names of devices that this integration has announced or is announcing.
    announced: BTreeSet<String>,
    outbox: Outbox,
    faults: Faults,
    stats: Stats,
}

/// Value of the options until a call changes it. Only a changed value outlives a restart; otherwise the options of the
/// next run apply.
#[derive(Default)]
struct Overridable<T> {
    value: T,
    changed: bool,
}

impl<T> Overridable<T> {
    fn from_options(value: T) -> Self {
        Self { value, changed: false }
    }

    fn change(&mut self, value: T) {
        *self = Self { value, changed: true };
    }

    fn changed(&self) -> Option<&T> {
        self.changed.then_some(&self.value)
    }
}

/// Counts since the start, as `GET /stats` of the control API shows them.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stats {
    tls_handshakes: u64,
    requests: BTreeMap<String, u64>,
    /// Calls that are not answered yet.
    in_flight: u64,
    /// Highest value that `in_flight` has had.
    most_in_flight: u64,
    faults: FaultCounts,
}

impl Installation {
    pub(crate) fn new(
        options: InstallationOptions,
        to_aws: Option<UnboundedSender<AwsCommand>>,
    ) -> Result<Self, DataFileError> {
        let templates = template::all_names().filter(|name| !options.without_templates.contains(name)).collect();
        let inner = Inner {
            task_prefix: format!("d:{}", random_text()),
            templates: Overridable::from_options(templates),
            client_certificates: Overridable::from_options(options.client_certificates),
            external_certificate: Overridable::from_options(options.external_certificate),
            ..Inner::default()
        };
        Ok(Self {
            catalogue: Arc::new(Catalogue::load()?),
            to_aws,
            announces: options.announces,
            inner: Mutex::new(inner),
            timer_changed: Notify::new(),
            faults_changed: Notify::new(),
        })
    }

    // Devices

    /// Adds a device. It registers at once, unless it is added as deregistered.
    pub(crate) fn add_device(&self, new: NewDevice) -> Result<Value, Refusal> {
        let endpoint = new.endpoint.clone();
        let mut inner = self.inner();
        let device = self.insert_device(&mut inner, new)?;
        let (view, registers) = (device.control_view(), device.is_registered());
        if registers {
            self.publish_register(&mut inner, &endpoint);
        }
        Ok(view)
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
        device.set_manufacturer_and_model(manufacturer, model);
        info!("{endpoint}: device added with id {}, {}", device.id, device.state.word());
        if is_thing_name(&endpoint) {
            self.command(AwsCommand::Subscribe { endpoint: endpoint.clone() });
        }
        inner.devices.push(device);
        inner.by_endpoint(&endpoint)
    }

    /// Removes a device. Its tasks remain visible; scheduled ones run only if a device of that name is added again.
    pub(crate) fn remove_device(&self, endpoint: &str) -> Result<(), Refusal> {
        let mut inner = self.inner();
        inner.by_endpoint(endpoint)?;
        inner.devices.retain(|device| device.endpoint != endpoint);
        for task in inner.tasks.iter_mut().filter(|task| task.device == endpoint && task.status == TaskStatus::Done) {
            task.of_removed_device = true;
        }
        inner.announced.remove(endpoint);
        info!("{endpoint}: device removed");
        self.command(AwsCommand::Unsubscribe { endpoint: endpoint.to_owned() });
        Ok(())
    }

    pub(crate) fn set_state(&self, endpoint: &str, state: DeviceState) -> Result<Value, Refusal> {
        let mut inner = self.inner();
        let device = inner.by_endpoint(endpoint)?;
        let registration = device.change_state(state);
        let view = device.control_view();
        info!("{endpoint}: is now {}", state.word());
        match registration {
            Some(Registration::Register) => self.publish_register(&mut inner, endpoint),
            Some(Registration::Update) => self.publish_update(&mut inner, endpoint),
            // The shadow keeps its values of a device that has deregistered.
            Some(Registration::Deregister) | None => {}
        }
        // A device that wakes up sends the notifications that have become due.
        self.wake_timer();
        Ok(view)
    }

    pub(crate) fn has_device(&self, endpoint: &str) -> bool {
        self.inner().by_endpoint(endpoint).is_ok()
    }

    pub(crate) fn device_views(&self) -> Vec<Value> {
        self.inner().devices.iter().map(Device::control_view).collect()
    }

    pub(crate) fn data_model(&self, endpoint: &str) -> Result<Map<String, Value>, Refusal> {
        Ok(self.inner().by_endpoint(endpoint)?.readable_values())
    }

    /// Ids of all devices, or of the one with the endpoint name.
    pub(crate) fn device_ids(&self, endpoint: Option<&str>) -> Vec<String> {
        let inner = self.inner();
        let wanted = inner.devices.iter().filter(|device| endpoint.is_none_or(|name| device.endpoint == name));
        wanted.map(|device| device.id.clone()).collect()
    }

    pub(crate) fn description(&self, device_id: &str) -> Result<Value, Refusal> {
        Ok(self.inner().by_id(device_id)?.description())
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

    /// Adds a certificate to the registered ones, unless it is one of them.
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

    pub(crate) fn is_registered_client(&self, certificate: &CertificateDer<'_>) -> bool {
        self.inner().client_certificates.value.iter().any(|registered| registered == certificate)
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        info!("{faults:?} in place of the earlier ones");
        self.inner().faults = faults;
        self.faults_changed.notify_waiters();
    }

    /// Resolves when the present faults have been replaced or are over.
    pub(crate) async fn faults_changed(&self) {
        let changed = self.faults_changed.notified();
        let until = self.inner().faults.until();
        match until {
            Some(until) => tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until.into()) => {}
            },
            None => changed.await,
        }
    }

    /// Whether a new connection falls into the black hole. It is counted then.
    pub(crate) fn is_black_hole(&self) -> bool {
        let mut inner = self.inner();
        let is_black_hole = inner.faults.is_black_hole();
        if is_black_hole {
            inner.stats.faults.add(&Fault::BlackHole);
        }
        is_black_hole
    }

    /// Fault that a REST call meets, if any. It is counted.
    pub(crate) fn fault_for_call(&self, method: &Method, path: &str) -> Option<Fault> {
        let mut inner = self.inner();
        let fault = inner.faults.fault_for(method, path)?;
        inner.stats.faults.add(&fault);
        Some(fault)
    }

    /// Delay of slow responses.
    pub(crate) fn slow_by(&self) -> Duration {
        self.inner().faults.slow_by()
    }

    pub(crate) fn count_handshake(&self) {
        self.inner().stats.tls_handshakes += 1;
    }

    pub(crate) fn count_request(&self, request: String) {
        *self.inner().stats.requests.entry(request).or_default() += 1;
    }

    pub(crate) fn begin_call(&self) {
        let stats = &mut self.inner().stats;
        stats.in_flight += 1;
        stats.most_in_flight = stats.most_in_flight.max(stats.in_flight);
    }

    pub(crate) fn end_call(&self) {
        self.inner().stats.in_flight -= 1;
    }

    pub(crate) fn stats(&self) -> Stats {
        self.inner().stats.clone()
    }

    fn command(&self, command: AwsCommand) {
        if let Some(to_aws) = &self.to_aws
            && to_aws.send(command).is_err()
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

/// Text that differs at each start. It is no secret.
fn random_text() -> String {
    (0..22).map(|_| fastrand::alphanumeric()).collect()
}
