//! The calls to Coiote that hand a task over: find the device, create the task, start a session.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use bounded_cache::BoundedCache;
use coiote::Client;
use coiote_access::{Access, Call, FIND_DEVICE, START_SESSION, call_with_retries};
use lambda_support::Deadline;
use lwm2m::Task;
use requests::{Reason, code};
use shadow::ThingName;

use crate::forward_error::ForwardError;

const CREATE_TASK: Call = Call { name: "create_task", time_metric: "CreateTaskTime" };

/// Client of Coiote that remembers the ids of devices.
pub(crate) struct Forwarder {
    access: Arc<Access>,
    /// By endpoint name, so that a device is looked up once and not for every request.
    device_ids: BoundedCache<String, String>,
}

/// Terms on which one request is handed over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery<'a> {
    pub(crate) thing: &'a ThingName,
    /// Whether the task may be created again although an earlier call may have created it.
    pub(crate) may_run_twice: bool,
    pub(crate) deadline: Deadline,
}

/// A device at Coiote.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    id: String,
    /// Whether the id is from an earlier look-up: it may have changed since.
    is_remembered: bool,
}

/// A task that Coiote has taken.
#[derive(Debug, Clone)]
pub(crate) struct Created {
    pub(crate) task_id: String,
    pub(crate) device_id: String,
    /// By Coiote's clock, in seconds since 1970; 0 where it does not say.
    pub(crate) handed_over_at: u64,
    /// Whole seconds, rounded up, from the begin of the call to the response.
    pub(crate) call_took: u64,
    /// When the call began, by this function's clock.
    pub(crate) sent_at: requests::Millis,
}

impl Forwarder {
    pub(crate) fn new(access: Access) -> Forwarder {
        Forwarder { access: Arc::new(access), device_ids: BoundedCache::default() }
    }

    /// Begins to read the secret before the first event comes.
    pub(crate) fn warm_up(&self) {
        self.access.warm_up();
    }

    /// Waits until no call is under way: between two events an environment may be frozen.
    pub(crate) async fn wait_until_idle(&self, deadline: Deadline) {
        self.access.wait_until_idle(deadline).await;
    }

    /// Finds the device, which changes nothing at Coiote. For a task that must not be created twice, it also proves the
    /// connection: a call on a connection that was lost unnoticed would leave open whether the task was created.
    pub(crate) async fn find(&self, delivery: Delivery<'_>) -> Result<Device, ForwardError> {
        let must_prove = !delivery.may_run_twice && !self.access.is_proven();
        if !must_prove && let Some(id) = self.device_ids.get(delivery.thing.as_str()) {
            return Ok(Device { id, is_remembered: true });
        }
        self.look_up(delivery).await
    }

    /// Creates the task. A remembered device that Coiote does not find is looked up again.
    pub(crate) async fn create(
        &self,
        device: &Device,
        task: &Task,
        delivery: Delivery<'_>,
    ) -> Result<Created, ForwardError> {
        let thing = delivery.thing;
        let mut device_id = device.id.clone();
        let span = tracing::Span::current();
        span.record("device_id", device_id.as_str()).record("template", task.template.as_str());
        let (begun, sent_at) = (Instant::now(), lambda_support::now());
        // One of several tries may have reached Coiote, whatever became of the last one.
        let may_exist = Cell::new(false);
        let mut created = self.create_task(&device_id, task, delivery, &may_exist).await;
        let is_not_found =
            |error: &coiote_access::Error| matches!(error, coiote_access::Error::Coiote(coiote::Error::NotFound(_)));
        if device.is_remembered && created.as_ref().is_err_and(is_not_found) {
            // The device was removed, and perhaps added again since: then it has another id now.
            self.device_ids.remove(thing.as_str());
            let found = self.look_up(delivery).await;
            device_id = found.map_err(|error| error.of_task_that_may_exist(may_exist.get()))?.id;
            created = self.create_task(&device_id, task, delivery, &may_exist).await;
        }
        let (created, duration_ms) = created.map_err(|error| {
            if is_not_found(&error) {
                self.device_ids.remove(thing.as_str());
            }
            ForwardError::of_create(error, thing, task).of_task_that_may_exist(may_exist.get())
        })?;
        let task_id = created.id;
        span.record("task_id", task_id.as_str());
        tracing::debug!(call = CREATE_TASK.name, duration_ms, "task created");
        let handed_over_at = created.created_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Ok(Created {
            task_id,
            device_id,
            handed_over_at: handed_over_at.map_or(0, |at| at.as_secs()),
            call_took: begun.elapsed().as_secs() + 1,
            sent_at,
        })
    }

    /// Wakes the device. A failure is only a notice: Coiote has the task, so the request is on its way.
    pub(crate) async fn wake(&self, created: &Created, deadline: Deadline) -> Option<Reason> {
        let device_id = created.device_id.as_str();
        let start = async |client: &Client| {
            let is_retryable = |error: &coiote::Error| error.is_retryable();
            call_with_retries(START_SESSION, deadline, is_retryable, |time| client.start_session(device_id, time)).await
        };
        match self.access.with_secret_refresh(deadline, start).await {
            Ok(((), duration_ms)) => {
                tracing::debug!(call = START_SESSION.name, duration_ms, "session started");
                None
            }
            Err(error) => {
                let (code, reason) = (error.code(), error.to_string());
                tracing::warn!(code, reason, "session not started");
                let message = format!("Coiote has the task and runs it when the device next comes back: {error}");
                Some(Reason::new(code::SESSION_NOT_STARTED, message))
            }
        }
    }

    /// Creates the task, and sets `may_exist` when a try of it may have reached Coiote. Also returns the duration in
    /// milliseconds.
    async fn create_task(
        &self,
        device_id: &str,
        task: &Task,
        Delivery { may_run_twice, deadline, .. }: Delivery<'_>,
        may_exist: &Cell<bool>,
    ) -> Result<(coiote::CreatedTask, f64), coiote_access::Error> {
        let is_retryable =
            |error: &coiote::Error| error.is_retryable() && (may_run_twice || !error.may_have_been_done());
        let create = async |client: &Client| {
            let create = |time| async move {
                let created = client.create_task(device_id, &task.template, &task.parameters, time).await;
                if created.as_ref().is_err_and(coiote::Error::may_have_been_done) {
                    may_exist.set(true);
                }
                created
            };
            call_with_retries(CREATE_TASK, deadline, is_retryable, create).await
        };
        self.access.with_secret_refresh(deadline, create).await
    }

    async fn look_up(&self, Delivery { thing, deadline, .. }: Delivery<'_>) -> Result<Device, ForwardError> {
        let find = async |client: &Client| {
            let is_retryable = |error: &coiote::Error| error.is_retryable();
            call_with_retries(FIND_DEVICE, deadline, is_retryable, |time| client.find_devices(thing.as_str(), time))
                .await
        };
        let (found, duration_ms) = self.access.with_secret_refresh(deadline, find).await?;
        match found.as_slice() {
            [id] => {
                tracing::Span::current().record("device_id", id.as_str());
                tracing::debug!(call = FIND_DEVICE.name, duration_ms, "device found");
                self.device_ids.insert(thing.as_str().to_owned(), id.clone());
                Ok(Device { id: id.clone(), is_remembered: false })
            }
            [] => {
                self.device_ids.remove(thing.as_str());
                Err(ForwardError::DeviceUnknown(thing.clone()))
            }
            several => Err(ForwardError::DeviceAmbiguous { thing: thing.clone(), count: several.len() }),
        }
    }
}
