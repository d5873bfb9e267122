//! Access to Coiote from a function: one connection, made of the secret once, and kept as long as the execution environment.

mod credentials;
mod retry;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use coiote::{Client, Identity};
use lambda_support::Deadline;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::AbortHandle;

pub use credentials::{Credentials, CredentialsError};
pub use retry::{Call, call_with_retries};

/// Time limit of a single call; Coiote answers in well under a second.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Time limit for reading the secret before the first event.
const WARM_UP_LIMIT: Duration = Duration::from_secs(4);

/// How long a request waits for that, before it reads the secret itself.
const WARM_UP_PATIENCE: Duration = Duration::from_secs(1);

/// How long a connection counts as being there because it just was. An environment may have been frozen meanwhile.
const FRESH: Duration = Duration::from_secs(5);

/// Access to Coiote that outlives an invocation.
pub struct Access {
    url: String,
    credentials: Credentials,
    connection: Mutex<Option<Connection>>,
    warm_up: OnceLock<AbortHandle>,
}

struct Connection {
    identity: Identity,
    client: Client,
    /// When a call succeeded last. The time of day, because a monotonic clock may stand still with the environment.
    proven_at: Option<SystemTime>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Coiote(#[from] coiote::Error),
    #[error("the function's time was used up before Coiote was asked")]
    OutOfTime,
}

impl Error {
    /// Stable; the documentation says what to do about each.
    pub fn code(&self) -> &'static str {
        use coiote::Error as Coiote;
        match self {
            Error::Credentials(CredentialsError::Unavailable { .. }) => "SECRET_UNAVAILABLE",
            Error::Credentials(CredentialsError::Invalid { .. }) | Error::Coiote(Coiote::InvalidSecret(_)) => {
                "SECRET_INVALID"
            }
            Error::Coiote(Coiote::InvalidUrl(_)) => "COIOTE_URL_INVALID",
            Error::Coiote(Coiote::Unreachable(_)) => "COIOTE_UNREACHABLE",
            Error::Coiote(Coiote::NotTrusted(_)) => "COIOTE_NOT_TRUSTED",
            Error::Coiote(Coiote::Unauthorized(_)) => "COIOTE_UNAUTHORIZED",
            Error::Coiote(Coiote::TimedOut) => "COIOTE_TIMED_OUT",
            Error::Coiote(Coiote::Interrupted(_)) => "COIOTE_INTERRUPTED",
            Error::Coiote(Coiote::Throttled { .. }) => "COIOTE_THROTTLED",
            Error::Coiote(Coiote::Unavailable { .. } | Coiote::Failed(_)) => "COIOTE_UNAVAILABLE",
            Error::Coiote(Coiote::Refused(_)) => "COIOTE_REFUSED",
            Error::Coiote(Coiote::NotFound(_) | Coiote::UnexpectedAnswer(_)) => "COIOTE_UNEXPECTED_ANSWER",
            Error::OutOfTime => "OUT_OF_TIME",
        }
    }

    /// Whether a later attempt may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Coiote(error) => error.is_retryable(),
            Error::Credentials(CredentialsError::Unavailable { is_retryable, .. }) => *is_retryable,
            Error::Credentials(CredentialsError::Invalid { .. }) => false,
            Error::OutOfTime => true,
        }
    }

    /// Whether Coiote is away, or so busy that it says so: the next request would meet the same.
    pub fn is_outage(&self) -> bool {
        use coiote::Error as Coiote;
        matches!(
            self,
            Error::Coiote(
                Coiote::Unreachable(_)
                    | Coiote::TimedOut
                    | Coiote::Interrupted(_)
                    | Coiote::Throttled { .. }
                    | Coiote::Unavailable { .. }
                    | Coiote::Failed(_)
            )
        )
    }

    /// Whether Coiote may have done what it was asked for although the call failed.
    pub fn may_have_been_done(&self) -> bool {
        matches!(self, Error::Coiote(error) if error.may_have_been_done())
    }

    /// Time that Coiote asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Error::Coiote(error) = self { error.retry_after() } else { None }
    }

    /// Whether the certificate or the roots are to blame, which a newer secret may correct.
    fn may_be_the_secret(&self) -> bool {
        matches!(self, Error::Coiote(coiote::Error::Unauthorized(_) | coiote::Error::NotTrusted(_)))
    }
}

impl Access {
    /// Access as the function's variables describe it: `COIOTE_URL`, and `COIOTE_SECRET_ID`, the name of the secret.
    pub fn from_env(secrets_manager: aws_sdk_secretsmanager::Client) -> Access {
        let variable = |name: &str| std::env::var(name).ok();
        let credentials = Credentials::new(secrets_manager, variable("COIOTE_SECRET_ID"));
        Access::new(variable("COIOTE_URL").unwrap_or_default(), credentials)
    }

    /// `url`: `https://host:port`, without a path.
    pub fn new(url: String, credentials: Credentials) -> Access {
        Access { url, credentials, connection: Mutex::new(None), warm_up: OnceLock::new() }
    }

    /// Reads the secret while Lambda is asked for the first event, and while that one is claimed.
    pub fn warm_up(self: &Arc<Self>) {
        let access = Arc::clone(self);
        let reading = tokio::spawn(async move {
            let mut connection = access.connection.lock().await;
            let deadline = Deadline::within(WARM_UP_LIMIT);
            // Whatever is wrong, the request that needs it finds out again, and says so where its author looks.
            if let Ok(identity) = access.read_secret(deadline).await {
                *connection = access.connect(identity).ok();
            }
        });
        self.warm_up.get_or_init(|| reading.abort_handle());
    }

    /// Waits until no call is under way: between two events an environment may be frozen.
    pub async fn wait_until_idle(&self, deadline: Deadline) {
        let _ = tokio::time::timeout(deadline.left(), self.connection.lock()).await;
    }

    /// Whether the connection has just worked.
    pub async fn is_proven(&self, deadline: Deadline) -> bool {
        let Ok(slot) = self.lock(deadline).await else { return false };
        let proven_at = slot.as_ref().and_then(|connection| connection.proven_at);
        proven_at.and_then(|at| at.elapsed().ok()).is_some_and(|since| since < FRESH)
    }

    /// Makes calls on the connection. Where Coiote refuses the certificate, or is not trusted itself, the secret is read again,
    /// because it may have been changed.
    pub async fn call<T>(
        &self,
        deadline: Deadline,
        call: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut slot = self.lock(deadline).await?;
        let connection = self.connected(&mut slot, deadline).await?;
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

    async fn read_secret(&self, deadline: Deadline) -> Result<Identity, Error> {
        let time = deadline.time_for(CALL_LIMIT).ok_or(Error::OutOfTime)?;
        let read = tokio::time::timeout(time, self.credentials.read());
        Ok(read.await.map_err(|_| self.credentials.timed_out())??)
    }

    fn connect(&self, identity: Identity) -> Result<Connection, Error> {
        let client = Client::new(&self.url, &identity).map_err(|error| match error {
            coiote::Error::InvalidSecret(why) => Error::from(self.credentials.invalid(why)),
            other => Error::from(other),
        })?;
        Ok(Connection { identity, client, proven_at: None })
    }

    /// Held while a call is made: an execution environment handles one event at a time.
    async fn lock(&self, deadline: Deadline) -> Result<MutexGuard<'_, Option<Connection>>, Error> {
        let patience = deadline.left().min(WARM_UP_PATIENCE);
        if let Ok(connection) = tokio::time::timeout(patience, self.connection.lock()).await {
            return Ok(connection);
        }
        // Before the first event an environment may have been frozen in mid-call.
        if let Some(warm_up) = self.warm_up.get() {
            warm_up.abort();
        }
        let lock = tokio::time::timeout(deadline.left(), self.connection.lock());
        lock.await.map_err(|_| Error::OutOfTime)
    }

    async fn connected<'a>(
        &self,
        slot: &'a mut Option<Connection>,
        deadline: Deadline,
    ) -> Result<&'a mut Connection, Error> {
        let connection = match slot.take() {
            Some(connection) => connection,
            None => self.connect(self.read_secret(deadline).await?)?,
        };
        Ok(slot.insert(connection))
    }
}
