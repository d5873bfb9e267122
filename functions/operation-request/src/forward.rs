//! Hands a task to Coiote: find the device, create the task; and then start a session.
//!
//! What may get better is tried again, with growing pauses, while Lambda leaves time for it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use backon::{ExponentialBuilder, Retryable};
use coiote::{Client, Identity};
use lwm2m::Task;
use memory::Memory;
use runtime::{Deadline, milliseconds};
use shadow::operation::{Delivery, OUTCOME_UNKNOWN};
use shadow::{Reason, ThingName};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::AbortHandle;

use crate::credentials::{Credentials, CredentialsError};

/// No single call is given more than this; Coiote answers in well under a second.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Tries after the first one, of each call.
const RETRIES: usize = 4;

const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A call is not begun with less time than this.
const SHORTEST_CALL: Duration = Duration::from_millis(500);

/// What is read before the first event is there may take so long.
const WARM_UP_LIMIT: Duration = Duration::from_secs(4);

/// For so long a request waits for it, before it reads the secret itself.
const WARM_UP_PATIENCE: Duration = Duration::from_secs(1);

/// For so long a connection counts as being there because it just was. An environment may have been frozen meanwhile.
const FRESH: Duration = Duration::from_secs(5);

/// A call to Coiote: its name in the log, and the metric of its time.
#[derive(Debug, Clone, Copy)]
struct Call {
    name: &'static str,
    time: &'static str,
}

const FIND_DEVICE: Call = Call { name: "find_device", time: "FindDeviceTime" };
const CREATE_TASK: Call = Call { name: "create_task", time: "CreateTaskTime" };
const START_SESSION: Call = Call { name: "start_session", time: "StartSessionTime" };

/// What outlives an invocation: the connection to Coiote, made of the secret once, and the ids of devices.
pub(crate) struct Forwarder {
    url: String,
    credentials: Credentials,
    /// By endpoint name, so that a device is looked up once and not for every request.
    device_ids: Memory<String, String>,
    connection: Mutex<Option<Connection>>,
    warm_up: OnceLock<AbortHandle>,
}

struct Connection {
    identity: Identity,
    client: Client,
    /// When a call succeeded last. The time of day, because a monotonic clock may stand still with the environment.
    proven_at: Option<SystemTime>,
}

/// A device at Coiote.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    id: String,
    /// Not just asked for, so it may have changed.
    is_remembered: bool,
}

/// A task that Coiote has taken.
#[derive(Debug, Clone)]
pub(crate) struct Created {
    pub(crate) task_id: String,
    device_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Coiote(#[from] coiote::Error),
    #[error("Coiote knows no device with the endpoint name {0}")]
    DeviceUnknown(ThingName),
    #[error("Coiote knows {count} devices with the endpoint name {thing}; an endpoint name has to be unique")]
    DeviceAmbiguous { thing: ThingName, count: usize },
    #[error("Coiote has no task template {template}; its operator has to add it ({said})")]
    TemplateMissing { template: String, said: String },
    #[error("the function's time was used up before the request was handed to Coiote")]
    OutOfTime,
    #[error("it may have reached Coiote and is not sent twice: {0}")]
    OutcomeUnknown(coiote::Error),
}

impl ForwardError {
    /// Stable; the README says what to do about each.
    pub(crate) fn code(&self) -> &'static str {
        use coiote::Error as Coiote;
        match self {
            ForwardError::Credentials(CredentialsError::Unavailable { .. }) => "SECRET_UNAVAILABLE",
            ForwardError::Credentials(CredentialsError::Invalid { .. })
            | ForwardError::Coiote(Coiote::InvalidSecret(_)) => "SECRET_INVALID",
            ForwardError::Coiote(Coiote::InvalidUrl(_)) => "COIOTE_URL_INVALID",
            ForwardError::Coiote(Coiote::Unreachable(_)) => "COIOTE_UNREACHABLE",
            ForwardError::Coiote(Coiote::NotTrusted(_)) => "COIOTE_NOT_TRUSTED",
            ForwardError::Coiote(Coiote::Unauthorized(_)) => "COIOTE_UNAUTHORIZED",
            ForwardError::Coiote(Coiote::TimedOut) => "COIOTE_TIMED_OUT",
            ForwardError::Coiote(Coiote::Interrupted(_)) => "COIOTE_INTERRUPTED",
            ForwardError::Coiote(Coiote::Throttled { .. }) => "COIOTE_THROTTLED",
            ForwardError::Coiote(Coiote::Unavailable { .. } | Coiote::Failed(_)) => "COIOTE_UNAVAILABLE",
            ForwardError::Coiote(Coiote::Refused(_)) => "COIOTE_REFUSED",
            ForwardError::Coiote(Coiote::NotFound(_) | Coiote::UnexpectedAnswer(_)) => "COIOTE_UNEXPECTED_ANSWER",
            ForwardError::DeviceUnknown(_) => "DEVICE_UNKNOWN",
            ForwardError::DeviceAmbiguous { .. } => "DEVICE_AMBIGUOUS",
            ForwardError::TemplateMissing { .. } => "TEMPLATE_MISSING",
            ForwardError::OutOfTime => "OUT_OF_TIME",
            ForwardError::OutcomeUnknown(_) => OUTCOME_UNKNOWN,
        }
    }

    /// Whether a later attempt may succeed.
    pub(crate) fn may_get_better(&self) -> bool {
        match self {
            ForwardError::Coiote(error) => error.may_get_better(),
            ForwardError::Credentials(CredentialsError::Unavailable { may_get_better, .. }) => *may_get_better,
            ForwardError::OutOfTime => true,
            _ => false,
        }
    }

    /// Whether the certificate or the roots are to blame, which a newer secret may correct.
    fn may_be_the_secret(&self) -> bool {
        matches!(self, ForwardError::Coiote(coiote::Error::Unauthorized(_) | coiote::Error::NotTrusted(_)))
    }
}

/// [`ForwardError::may_get_better`] of an error of which only the code is known, as it stands in a shadow.
pub(crate) fn may_get_better(code: &str) -> bool {
    matches!(
        code,
        "COIOTE_UNREACHABLE"
            | "COIOTE_TIMED_OUT"
            | "COIOTE_INTERRUPTED"
            | "COIOTE_THROTTLED"
            | "COIOTE_UNAVAILABLE"
            | "SECRET_UNAVAILABLE"
            | "OUT_OF_TIME"
    )
}

impl Forwarder {
    pub(crate) fn new(url: String, credentials: Credentials) -> Forwarder {
        let (device_ids, connection, warm_up) = (Memory::default(), Mutex::new(None), OnceLock::new());
        Forwarder { url, credentials, device_ids, connection, warm_up }
    }

    /// Reads the secret while Lambda is asked for the first event, and while that one is claimed.
    pub(crate) fn warm_up(self: &Arc<Self>) {
        let forwarder = Arc::clone(self);
        let reading = tokio::spawn(async move {
            let mut connection = forwarder.connection.lock().await;
            let deadline = Deadline::within(WARM_UP_LIMIT);
            // Whatever is wrong, the request that needs it finds out again, and says so where its author looks.
            if let Ok(identity) = forwarder.read_secret(deadline).await {
                *connection = forwarder.connect(identity).ok();
            }
        });
        self.warm_up.get_or_init(|| reading.abort_handle());
    }

    /// Comes back when nothing is under way any more: between two events an environment may be frozen.
    pub(crate) async fn rest(&self, deadline: Deadline) {
        let _ = tokio::time::timeout(deadline.left(), self.connection.lock()).await;
    }

    /// Finds the device, which changes nothing at Coiote. Of a task that must not be created twice it also shows that the
    /// connection works: one that was lost while nobody looked would leave open whether the task was created.
    pub(crate) async fn find(
        &self,
        thing: &ThingName,
        delivery: Delivery,
        deadline: Deadline,
    ) -> Result<Device, ForwardError> {
        let mut slot = self.lock(deadline).await?;
        let connection = self.connected(&mut slot, deadline).await?;
        let is_proven = connection.proven_at.and_then(|at| at.elapsed().ok()).is_some_and(|since| since < FRESH);
        let must_prove = delivery == Delivery::AtMostOnce && !is_proven;
        if !must_prove && let Some(id) = self.device_ids.get(thing.as_str()) {
            return Ok(Device { id, is_remembered: true });
        }
        let look_up = async |client: &Client| self.look_up(client, thing, deadline).await;
        let id = self.trusted(connection, deadline, look_up).await?;
        Ok(Device { id, is_remembered: false })
    }

    /// Creates the task.
    pub(crate) async fn create(
        &self,
        device: &Device,
        thing: &ThingName,
        task: &Task,
        delivery: Delivery,
        deadline: Deadline,
    ) -> Result<Created, ForwardError> {
        let mut slot = self.lock(deadline).await?;
        let connection = self.connected(&mut slot, deadline).await?;
        let hand_over = async |client: &Client| self.hand_over(client, device, thing, task, delivery, deadline).await;
        self.trusted(connection, deadline, hand_over).await
    }

    /// Wakes the device. The task is there, so the request is on its way whatever happens to this call: what does is a
    /// notice.
    pub(crate) async fn wake(&self, created: &Created, deadline: Deadline) -> Option<Reason> {
        let Created { task_id, device_id } = created;
        let connection = self.connection.lock().await;
        let client = &connection.as_ref()?.client;
        let may_get_better = |error: &coiote::Error| error.may_get_better();
        let start = |time| client.start_session(device_id, time);
        match again_and_again(START_SESSION, deadline, may_get_better, start).await {
            Ok(((), duration_ms)) => {
                tracing::info!(call = START_SESSION.name, task_id, device_id, duration_ms, "session started");
                None
            }
            Err(error) => {
                let (code, reason) = (error.code(), error.to_string());
                tracing::warn!(task_id, device_id, code, reason, "session not started");
                let message = format!("Coiote has the task and runs it when the device next comes back: {error}");
                Some(Reason::new("SESSION_NOT_STARTED", message))
            }
        }
    }

    async fn read_secret(&self, deadline: Deadline) -> Result<Identity, ForwardError> {
        let time = deadline.allows(CALL_LIMIT).ok_or(ForwardError::OutOfTime)?;
        let read = tokio::time::timeout(time, self.credentials.read());
        Ok(read.await.map_err(|_| self.credentials.too_late())??)
    }

    fn connect(&self, identity: Identity) -> Result<Connection, ForwardError> {
        let client = Client::new(&self.url, &identity).map_err(|error| match error {
            coiote::Error::InvalidSecret(why) => ForwardError::from(self.credentials.invalid(why)),
            other => ForwardError::from(other),
        })?;
        Ok(Connection { identity, client, proven_at: None })
    }

    /// Held while a request is dealt with: an execution environment handles one event at a time.
    async fn lock(&self, deadline: Deadline) -> Result<MutexGuard<'_, Option<Connection>>, ForwardError> {
        let patience = deadline.left().min(WARM_UP_PATIENCE);
        if let Ok(connection) = tokio::time::timeout(patience, self.connection.lock()).await {
            return Ok(connection);
        }
        // Before the first event an environment may have been frozen in mid-call.
        if let Some(warm_up) = self.warm_up.get() {
            warm_up.abort();
        }
        let lock = tokio::time::timeout(deadline.left(), self.connection.lock());
        lock.await.map_err(|_| ForwardError::OutOfTime)
    }

    async fn connected<'a>(
        &self,
        slot: &'a mut Option<Connection>,
        deadline: Deadline,
    ) -> Result<&'a mut Connection, ForwardError> {
        let connection = match slot.take() {
            Some(connection) => connection,
            None => self.connect(self.read_secret(deadline).await?)?,
        };
        Ok(slot.insert(connection))
    }

    /// Where Coiote refuses the certificate, or is not trusted itself, the secret is read again: it may have been changed.
    async fn trusted<T>(
        &self,
        connection: &mut Connection,
        deadline: Deadline,
        call: impl AsyncFn(&Client) -> Result<T, ForwardError>,
    ) -> Result<T, ForwardError> {
        let mut result = call(&connection.client).await;
        if let Err(refused) = &result
            && refused.may_be_the_secret()
        {
            let identity = self.read_secret(deadline).await?;
            if identity != connection.identity {
                tracing::info!(code = refused.code(), reason = %refused, "the secret has changed; trying again with it");
                *connection = self.connect(identity)?;
                result = call(&connection.client).await;
            }
        }
        if result.is_ok() {
            connection.proven_at = Some(SystemTime::now());
        }
        result
    }

    async fn hand_over(
        &self,
        client: &Client,
        device: &Device,
        thing: &ThingName,
        task: &Task,
        delivery: Delivery,
        deadline: Deadline,
    ) -> Result<Created, ForwardError> {
        let mut device_id = device.id.clone();
        let mut created = create_task(client, &device_id, task, delivery, deadline).await;
        if device.is_remembered && matches!(created, Err(ForwardError::Coiote(coiote::Error::NotFound(_)))) {
            // The device was removed, and perhaps added again since: then it has another id now.
            self.device_ids.forget(thing.as_str());
            device_id = self.look_up(client, thing, deadline).await?;
            created = create_task(client, &device_id, task, delivery, deadline).await;
        }
        let (task_id, duration_ms) = created.map_err(|error| match error {
            ForwardError::Coiote(error) => {
                if matches!(error, coiote::Error::NotFound(_)) {
                    self.device_ids.forget(thing.as_str());
                }
                not_created(error, thing, task)
            }
            other => other,
        })?;
        let template = task.template.as_str();
        tracing::info!(call = CREATE_TASK.name, task_id, device_id, template, duration_ms, "task created");
        Ok(Created { task_id, device_id })
    }

    async fn look_up(&self, client: &Client, thing: &ThingName, deadline: Deadline) -> Result<String, ForwardError> {
        let may_get_better = |error: &coiote::Error| error.may_get_better();
        let find = |time| client.find_devices(thing.as_str(), time);
        let (found, duration_ms) = again_and_again(FIND_DEVICE, deadline, may_get_better, find).await?;
        match found.as_slice() {
            [id] => {
                tracing::info!(call = FIND_DEVICE.name, device_id = id, duration_ms, "device found");
                self.device_ids.put(thing.as_str().to_owned(), id.clone());
                Ok(id.clone())
            }
            [] => {
                self.device_ids.forget(thing.as_str());
                Err(ForwardError::DeviceUnknown(thing.clone()))
            }
            several => Err(ForwardError::DeviceAmbiguous { thing: thing.clone(), count: several.len() }),
        }
    }
}

async fn create_task(
    client: &Client,
    device_id: &str,
    task: &Task,
    delivery: Delivery,
    deadline: Deadline,
) -> Result<(String, f64), ForwardError> {
    let may_be_twice = |error: &coiote::Error| delivery == Delivery::AtMostOnce && error.may_have_been_done();
    let may_be_sent_again = |error: &coiote::Error| error.may_get_better() && !may_be_twice(error);
    let create = |time| client.create_task(device_id, &task.template, &task.parameters, time);
    again_and_again(CREATE_TASK, deadline, may_be_sent_again, create).await.map_err(|error| match error {
        ForwardError::Coiote(error) if may_be_twice(&error) => ForwardError::OutcomeUnknown(error),
        other => other,
    })
}

/// Makes a call until it succeeds, until trying again is of no use, or until there is no time for it. `call` is given the
/// time that it may take; how many milliseconds it took in the end is told as well.
async fn again_and_again<T, F: Future<Output = Result<T, coiote::Error>>>(
    Call { name, time: metric }: Call,
    deadline: Deadline,
    may_be_tried_again: impl Fn(&coiote::Error) -> bool,
    call: impl Fn(Duration) -> F,
) -> Result<(T, f64), ForwardError> {
    let pauses = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_times(RETRIES).with_jitter();
    let attempt = || async {
        let time = deadline.allows(CALL_LIMIT).ok_or((ForwardError::OutOfTime, 0.0))?;
        let begun = Instant::now();
        let result = call(time).await;
        let duration_ms = milliseconds(begun);
        metrics::histogram!(metric).record(duration_ms);
        result.map(|done| (done, duration_ms)).map_err(|error| (ForwardError::from(error), duration_ms))
    };
    let tried = attempt
        .retry(pauses)
        .when(|(error, _)| matches!(error, ForwardError::Coiote(error) if may_be_tried_again(error)))
        .adjust(|(error, _), pause| {
            let asked = if let ForwardError::Coiote(error) = error { error.retry_after() } else { None };
            let pause = pause?.max(asked.unwrap_or_default());
            (deadline.left() > pause.saturating_add(SHORTEST_CALL)).then_some(pause)
        })
        .notify(|(error, duration_ms), pause| {
            let (code, pause_ms) = (error.code(), u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
            metrics::counter!("CoioteRetries").increment(1);
            tracing::warn!(call = name, code, reason = %error, duration_ms, pause_ms, "trying again");
        });
    tried.await.map_err(|(error, duration_ms)| {
        tracing::warn!(call = name, code = error.code(), reason = %error, duration_ms, "call failed");
        error
    })
}

/// An unknown device and an unknown template can have the same status; only Coiote's words tell them apart.
fn not_created(error: coiote::Error, thing: &ThingName, task: &Task) -> ForwardError {
    use coiote::Error::{NotFound, Refused};
    let names_template = |said: &str| said.contains(&task.template) || said.to_ascii_lowercase().contains("template");
    let is_missing = |said: &str| {
        let said = said.to_ascii_lowercase();
        ["not found", "no such", "not exist", "unknown"].iter().any(|words| said.contains(words))
    };
    match error {
        NotFound(said) if names_template(&said) => {
            ForwardError::TemplateMissing { template: task.template.clone(), said }
        }
        Refused(said) if names_template(&said) && is_missing(&said) => {
            ForwardError::TemplateMissing { template: task.template.clone(), said }
        }
        NotFound(_) => ForwardError::DeviceUnknown(thing.clone()),
        other => ForwardError::Coiote(other),
    }
}
