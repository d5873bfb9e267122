//! Hands a task to Coiote: find the device, create the task, start a session.

use std::time::Duration;

use coiote::{Client, DeviceIds, Identity};
use lwm2m::Task;
use runtime::Deadline;
use shadow::{Reason, ThingName};
use tokio::sync::Mutex;

use crate::credentials::{Credentials, CredentialsError};

/// No single call is given more than this; Coiote answers in well under a second.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// What outlives an invocation: the connection to Coiote, made of the secret once, and the ids of devices.
pub(crate) struct Forwarder {
    url: String,
    credentials: Credentials,
    device_ids: DeviceIds,
    connection: Mutex<Option<Connection>>,
}

struct Connection {
    identity: Identity,
    client: Client,
}

/// A task that Coiote has taken.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) task_id: String,
    /// What the author should know although it worked.
    pub(crate) notice: Option<Reason>,
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
            ForwardError::Coiote(Coiote::Throttled(_)) => "COIOTE_THROTTLED",
            ForwardError::Coiote(Coiote::Unavailable(_)) => "COIOTE_UNAVAILABLE",
            ForwardError::Coiote(Coiote::Refused(_)) => "COIOTE_REFUSED",
            ForwardError::Coiote(Coiote::NotFound(_) | Coiote::UnexpectedAnswer(_)) => "COIOTE_UNEXPECTED_ANSWER",
            ForwardError::DeviceUnknown(_) => "DEVICE_UNKNOWN",
            ForwardError::DeviceAmbiguous { .. } => "DEVICE_AMBIGUOUS",
            ForwardError::TemplateMissing { .. } => "TEMPLATE_MISSING",
            ForwardError::OutOfTime => "OUT_OF_TIME",
        }
    }

    /// Whether the certificate or the roots are to blame, which a newer secret may correct.
    fn may_be_the_secret(&self) -> bool {
        matches!(self, ForwardError::Coiote(coiote::Error::Unauthorized(_) | coiote::Error::NotTrusted(_)))
    }
}

impl Forwarder {
    pub(crate) fn new(url: String, credentials: Credentials) -> Forwarder {
        Forwarder { url, credentials, device_ids: DeviceIds::default(), connection: Mutex::new(None) }
    }

    /// Where Coiote refuses the certificate, or is not trusted itself, the secret is read again: it may have been changed.
    pub(crate) async fn forward(
        &self,
        thing: &ThingName,
        task: &Task,
        deadline: Deadline,
    ) -> Result<Forwarded, ForwardError> {
        // Held for the whole invocation: an execution environment handles one event at a time.
        let mut connection = self.connection.lock().await;
        let current = match connection.take() {
            Some(connection) => connection,
            None => self.connect(self.read_secret(deadline).await?)?,
        };
        let current = connection.insert(current);

        let refused = match self.hand_over(&current.client, thing, task, deadline).await {
            Err(error) if error.may_be_the_secret() => error,
            result => return result,
        };
        let identity = self.read_secret(deadline).await?;
        if identity == current.identity {
            return Err(refused);
        }
        tracing::info!(%refused, "the secret has changed; trying again with it");
        *current = self.connect(identity)?;
        self.hand_over(&current.client, thing, task, deadline).await
    }

    async fn read_secret(&self, deadline: Deadline) -> Result<Identity, ForwardError> {
        let read = tokio::time::timeout(time_for_a_call(deadline)?, self.credentials.read());
        Ok(read.await.map_err(|_| ForwardError::OutOfTime)??)
    }

    fn connect(&self, identity: Identity) -> Result<Connection, ForwardError> {
        let client = Client::new(&self.url, &identity).map_err(|error| match error {
            coiote::Error::InvalidSecret(why) => ForwardError::from(self.credentials.invalid(why)),
            other => ForwardError::from(other),
        })?;
        Ok(Connection { identity, client })
    }

    async fn hand_over(
        &self,
        client: &Client,
        thing: &ThingName,
        task: &Task,
        deadline: Deadline,
    ) -> Result<Forwarded, ForwardError> {
        let cached = self.device_ids.get(thing.as_str());
        let was_cached = cached.is_some();
        let mut device_id = match cached {
            Some(id) => id,
            None => self.look_up(client, thing, deadline).await?,
        };
        let mut created = create_task(client, &device_id, task, deadline).await;
        if was_cached && matches!(created, Err(ForwardError::Coiote(coiote::Error::NotFound(_)))) {
            // The device was removed, and perhaps added again since: then it has another id now.
            self.device_ids.forget(thing.as_str());
            device_id = self.look_up(client, thing, deadline).await?;
            created = create_task(client, &device_id, task, deadline).await;
        }
        let task_id = created.map_err(|error| match error {
            ForwardError::Coiote(error) => {
                if matches!(error, coiote::Error::NotFound(_)) {
                    self.device_ids.forget(thing.as_str());
                }
                not_created(error, thing, task)
            }
            other => other,
        })?;
        tracing::info!(task_id, device_id, template = task.template, "task created");

        // The task is there, so the request is on its way whatever happens to this call.
        let notice = match start_session(client, &device_id, deadline).await {
            Ok(()) => {
                tracing::info!(task_id, device_id, "session started");
                None
            }
            Err(error) => {
                tracing::warn!(task_id, device_id, code = error.code(), %error, "session not started");
                let message = format!("Coiote has the task and runs it when the device next comes back: {error}");
                Some(Reason::new("SESSION_NOT_STARTED", message))
            }
        };
        Ok(Forwarded { task_id, notice })
    }

    async fn look_up(&self, client: &Client, thing: &ThingName, deadline: Deadline) -> Result<String, ForwardError> {
        let mut ids = client.find_devices(thing.as_str(), time_for_a_call(deadline)?).await?;
        match (ids.pop(), ids.len()) {
            (Some(id), 0) => {
                tracing::info!(device_id = id, "device found");
                self.device_ids.put(thing.as_str(), &id);
                Ok(id)
            }
            (None, _) => Err(ForwardError::DeviceUnknown(thing.clone())),
            (Some(_), others) => Err(ForwardError::DeviceAmbiguous { thing: thing.clone(), count: others + 1 }),
        }
    }
}

async fn create_task(
    client: &Client,
    device_id: &str,
    task: &Task,
    deadline: Deadline,
) -> Result<String, ForwardError> {
    let time = time_for_a_call(deadline)?;
    Ok(client.create_task(device_id, &task.template, &task.parameters, time).await?)
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

async fn start_session(client: &Client, device_id: &str, deadline: Deadline) -> Result<(), ForwardError> {
    Ok(client.start_session(device_id, time_for_a_call(deadline)?).await?)
}

fn time_for_a_call(deadline: Deadline) -> Result<Duration, ForwardError> {
    deadline.allows(CALL_LIMIT).ok_or(ForwardError::OutOfTime)
}
