//! Hands a task to Coiote: find the device, create the task; and then start a session.

use std::cell::Cell;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bounded_cache::Memory;
use coiote::Client;
use coiote_access::{Access, Call, call_with_retries};
use lambda_support::Deadline;
use lwm2m::Task;
use requests::{NotDone, Reason};
use shadow::ThingName;

const FIND_DEVICE: Call = Call { name: "find_device", time_metric: "FindDeviceTime" };
const CREATE_TASK: Call = Call { name: "create_task", time_metric: "CreateTaskTime" };
const START_SESSION: Call = Call { name: "start_session", time_metric: "StartSessionTime" };

/// The way to Coiote, with the ids of devices that were found before.
pub(crate) struct Forwarder {
    access: Arc<Access>,
    /// By endpoint name, so that a device is looked up once and not for every request.
    device_ids: Memory<String, String>,
}

/// A device at Coiote.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) id: String,
    /// Its id was not just asked for, so it may have changed.
    pub(crate) is_remembered: bool,
}

/// A task that Coiote has taken.
#[derive(Debug, Clone)]
pub(crate) struct Created {
    pub(crate) task_id: String,
    pub(crate) device_id: String,
    /// By Coiote's clock, in seconds since 1970; 0 where it does not say.
    pub(crate) handed_over_at: u64,
    /// When the call was begun, by our clock.
    pub(crate) sent_at: requests::Millis,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error(transparent)]
    Access(#[from] coiote_access::Error),
    #[error("Coiote knows no device with the endpoint name {0}")]
    DeviceUnknown(ThingName),
    #[error("Coiote knows {count} devices with the endpoint name {thing}; an endpoint name has to be unique")]
    DeviceAmbiguous { thing: ThingName, count: usize },
    #[error("Coiote has no task template {template}; its operator has to add it ({said})")]
    TemplateMissing { template: String, said: String },
    /// The task may have been created.
    #[error("{0}")]
    Unknown(coiote_access::Error),
}

impl ForwardError {
    /// Stable; the documentation says what to do about each.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            ForwardError::Access(error) | ForwardError::Unknown(error) => error.code(),
            ForwardError::DeviceUnknown(_) => "DEVICE_UNKNOWN",
            ForwardError::DeviceAmbiguous { .. } => "DEVICE_AMBIGUOUS",
            ForwardError::TemplateMissing { .. } => "TEMPLATE_MISSING",
        }
    }

    /// Whether a later attempt may succeed.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            ForwardError::Access(error) | ForwardError::Unknown(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// The failure of Coiote as a whole that it is, if any.
    pub(crate) fn outage(&self) -> Option<&coiote_access::Error> {
        match self {
            ForwardError::Access(error) | ForwardError::Unknown(error) => Some(error).filter(|error| error.is_outage()),
            _ => None,
        }
    }

    /// What a request's record is told of it.
    pub(crate) fn not_done(
        &self,
        name: requests::Name,
        mark: &str,
        again_at: requests::Millis,
        at: requests::Millis,
    ) -> NotDone {
        NotDone {
            name,
            mark: mark.to_owned(),
            reason: Reason::new(self.code(), self.to_string()),
            maybe: matches!(self, ForwardError::Unknown(_)),
            again_at: self.is_retryable().then_some(again_at),
            at,
        }
    }
}

impl Forwarder {
    pub(crate) fn new(access: Access) -> Forwarder {
        Forwarder { access: Arc::new(access), device_ids: Memory::default() }
    }

    /// Begins what can be done before the first event is there.
    pub(crate) fn warm_up(&self) {
        self.access.warm_up();
    }

    /// Waits until no call is under way: between two events an environment may be frozen.
    pub(crate) async fn wait_until_idle(&self, deadline: Deadline) {
        self.access.wait_until_idle(deadline).await;
    }

    /// Finds the device, which changes nothing at Coiote. Of a task that must not be created twice it also shows that the
    /// connection works: one that was lost while nobody looked would leave open whether the task was created.
    pub(crate) async fn find(
        &self,
        thing: &ThingName,
        may_run_twice: bool,
        deadline: Deadline,
    ) -> Result<Device, ForwardError> {
        let must_prove = !may_run_twice && !self.access.is_proven(deadline).await;
        if !must_prove && let Some(id) = self.device_ids.get(thing.as_str()) {
            return Ok(Device { id, is_remembered: true });
        }
        self.look_up(thing, deadline).await
    }

    /// Creates the task.
    pub(crate) async fn create(
        &self,
        device: &Device,
        thing: &ThingName,
        task: &Task,
        may_run_twice: bool,
        deadline: Deadline,
    ) -> Result<Created, ForwardError> {
        let mut device_id = device.id.clone();
        let span = tracing::Span::current();
        span.record("device_id", device_id.as_str()).record("template", task.template.as_str());
        let sent_at = lambda_support::now();
        // One of several tries may have reached Coiote, whatever became of the last one.
        let maybe = Cell::new(false);
        let mut created = self.create_task(&device_id, task, may_run_twice, &maybe, deadline).await;
        let is_not_found =
            |error: &coiote_access::Error| matches!(error, coiote_access::Error::Coiote(coiote::Error::NotFound(_)));
        if device.is_remembered && created.as_ref().is_err_and(is_not_found) {
            // The device was removed, and perhaps added again since: then it has another id now.
            self.device_ids.forget(thing.as_str());
            device_id = self.look_up(thing, deadline).await.map_err(|error| if_maybe(&maybe, error))?.id;
            created = self.create_task(&device_id, task, may_run_twice, &maybe, deadline).await;
        }
        let (created, duration_ms) = created.map_err(|error| {
            if is_not_found(&error) {
                self.device_ids.forget(thing.as_str());
            }
            if_maybe(&maybe, not_created(error, thing, task))
        })?;
        let task_id = created.id;
        span.record("task_id", task_id.as_str());
        tracing::debug!(call = CREATE_TASK.name, duration_ms, "task created");
        let handed_over_at = created.created_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Ok(Created { task_id, device_id, handed_over_at: handed_over_at.map_or(0, |at| at.as_secs()), sent_at })
    }

    /// Wakes the device. The task is there, so the request is on its way whatever happens to this call: what does is a
    /// notice.
    pub(crate) async fn wake(&self, created: &Created, deadline: Deadline) -> Option<Reason> {
        let device_id = created.device_id.as_str();
        let start = async |client: &Client| {
            let is_retryable = |error: &coiote::Error| error.is_retryable();
            call_with_retries(START_SESSION, deadline, is_retryable, |time| client.start_session(device_id, time)).await
        };
        match self.access.call(deadline, start).await {
            Ok(((), duration_ms)) => {
                tracing::debug!(call = START_SESSION.name, duration_ms, "session started");
                None
            }
            Err(error) => {
                let (code, reason) = (error.code(), error.to_string());
                tracing::warn!(code, reason, "session not started");
                let message = format!("Coiote has the task and runs it when the device next comes back: {error}");
                Some(Reason::new("SESSION_NOT_STARTED", message))
            }
        }
    }

    async fn create_task(
        &self,
        device_id: &str,
        task: &Task,
        may_run_twice: bool,
        maybe: &Cell<bool>,
        deadline: Deadline,
    ) -> Result<(coiote::CreatedTask, f64), coiote_access::Error> {
        let is_retryable =
            |error: &coiote::Error| error.is_retryable() && (may_run_twice || !error.may_have_been_done());
        let create = async |client: &Client| {
            let create = |time| async move {
                let created = client.create_task(device_id, &task.template, &task.parameters, time).await;
                if created.as_ref().is_err_and(coiote::Error::may_have_been_done) {
                    maybe.set(true);
                }
                created
            };
            call_with_retries(CREATE_TASK, deadline, is_retryable, create).await
        };
        self.access.call(deadline, create).await
    }

    async fn look_up(&self, thing: &ThingName, deadline: Deadline) -> Result<Device, ForwardError> {
        let find = async |client: &Client| {
            let is_retryable = |error: &coiote::Error| error.is_retryable();
            call_with_retries(FIND_DEVICE, deadline, is_retryable, |time| client.find_devices(thing.as_str(), time))
                .await
        };
        let (found, duration_ms) = self.access.call(deadline, find).await?;
        match found.as_slice() {
            [id] => {
                tracing::Span::current().record("device_id", id.as_str());
                tracing::debug!(call = FIND_DEVICE.name, duration_ms, "device found");
                self.device_ids.put(thing.as_str().to_owned(), id.clone());
                Ok(Device { id: id.clone(), is_remembered: false })
            }
            [] => {
                self.device_ids.forget(thing.as_str());
                Err(ForwardError::DeviceUnknown(thing.clone()))
            }
            several => Err(ForwardError::DeviceAmbiguous { thing: thing.clone(), count: several.len() }),
        }
    }
}

/// The error of a task that an earlier try may have created.
fn if_maybe(maybe: &Cell<bool>, error: ForwardError) -> ForwardError {
    match error {
        ForwardError::Access(error) if maybe.get() => ForwardError::Unknown(error),
        ForwardError::DeviceUnknown(_)
        | ForwardError::TemplateMissing { .. }
        | ForwardError::DeviceAmbiguous { .. }
            if maybe.get() =>
        {
            ForwardError::Unknown(coiote_access::Error::Coiote(coiote::Error::Refused(error.to_string())))
        }
        other => other,
    }
}

/// An unknown device and an unknown template can have the same status; only Coiote's words tell them apart.
fn not_created(error: coiote_access::Error, thing: &ThingName, task: &Task) -> ForwardError {
    use coiote::Error::{NotFound, Refused};
    let names_template = |said: &str| said.contains(&task.template) || said.to_ascii_lowercase().contains("template");
    let is_missing = |said: &str| {
        let said = said.to_ascii_lowercase();
        ["not found", "no such", "not exist", "unknown"].iter().any(|words| said.contains(words))
    };
    if error.may_have_been_done() {
        return ForwardError::Unknown(error);
    }
    let coiote_access::Error::Coiote(error) = error else { return ForwardError::Access(error) };
    match error {
        NotFound(said) if names_template(&said) => {
            ForwardError::TemplateMissing { template: task.template.clone(), said }
        }
        Refused(said) if names_template(&said) && is_missing(&said) => {
            ForwardError::TemplateMissing { template: task.template.clone(), said }
        }
        NotFound(_) => ForwardError::DeviceUnknown(thing.clone()),
        other => ForwardError::Access(other.into()),
    }
}
