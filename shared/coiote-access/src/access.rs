//! The connection to Coiote that outlives an invocation.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use coiote::{Client, Identity};
use lambda_support::Deadline;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::AbortHandle;

use crate::{CALL_LIMIT, Credentials, Error};

/// Time limit for reading the secret before the first event.
const WARM_UP_LIMIT: Duration = Duration::from_secs(4);

/// Longest time that a call waits for that, before it reads the secret itself.
const WARM_UP_WAIT: Duration = Duration::from_secs(1);

/// Time after a success for which a connection counts as open. Later the environment may have been frozen.
const PROVEN_FOR: Duration = Duration::from_secs(5);

/// Access to Coiote, kept from one invocation to the next.
pub struct Access {
    url: String,
    credentials: Credentials,
    connection: Mutex<Option<Connection>>,
    warm_up: OnceLock<AbortHandle>,
}

/// Client together with the secret that it was made from.
struct Connection {
    identity: Identity,
    client: Client,
    /// Time of the last call that succeeded. By the wall clock, because a monotonic clock may stop while the environment is
    /// frozen.
    proven_at: Option<SystemTime>,
}

impl Access {
    /// Access by the function's variables: `COIOTE_URL`, and `COIOTE_SECRET_ID`, the name of the secret.
    pub fn from_env(secrets_manager: aws_sdk_secretsmanager::Client) -> Access {
        let variable = |name: &str| std::env::var(name).ok();
        let credentials = Credentials::new(secrets_manager, variable("COIOTE_SECRET_ID"));
        Access::new(variable("COIOTE_URL").unwrap_or_default(), credentials)
    }

    /// Access to the installation at `url` (`https://host:port`, without a path).
    pub fn new(url: String, credentials: Credentials) -> Access {
        Access { url, credentials, connection: Mutex::new(None), warm_up: OnceLock::new() }
    }

    /// Begins to read the secret, while Lambda is asked for the first event and that one is claimed.
    pub fn warm_up(self: &Arc<Self>) {
        let access = Arc::clone(self);
        let reading = tokio::spawn(async move {
            let mut connection = access.connection.lock().await;
            let deadline = Deadline::within(WARM_UP_LIMIT);
            // A failure is left to the first request, which meets it again and reports it to its author.
            if let Ok(identity) = access.read_secret(deadline).await {
                *connection = access.connect(identity).ok();
            }
        });
        self.warm_up.get_or_init(|| reading.abort_handle());
    }

    /// Waits until no call is under way, as the environment may be frozen between two events.
    pub async fn wait_until_idle(&self, deadline: Deadline) {
        let _ = tokio::time::timeout(deadline.left(), self.connection.lock()).await;
    }

    /// Whether a call on the connection has just succeeded.
    pub async fn is_proven(&self, deadline: Deadline) -> bool {
        let Ok(slot) = self.lock(deadline).await else { return false };
        let proven_at = slot.as_ref().and_then(|connection| connection.proven_at);
        proven_at.and_then(|at| at.elapsed().ok()).is_some_and(|since| since < PROVEN_FOR)
    }

    /// Makes calls on the connection. If Coiote refuses the certificate or is not trusted, the secret is read again, and if it
    /// has changed, the calls are made again with it.
    pub async fn with_secret_refresh<T>(
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

    /// Reads the secret within the time that is left.
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

    /// Locks the connection, for as long as a call is made: an execution environment handles one event at a time.
    async fn lock(&self, deadline: Deadline) -> Result<MutexGuard<'_, Option<Connection>>, Error> {
        let wait = deadline.left().min(WARM_UP_WAIT);
        if let Ok(connection) = tokio::time::timeout(wait, self.connection.lock()).await {
            return Ok(connection);
        }
        // The environment may have been frozen while the warm-up was making its call.
        if let Some(warm_up) = self.warm_up.get() {
            warm_up.abort();
        }
        let lock = tokio::time::timeout(deadline.left(), self.connection.lock());
        lock.await.map_err(|_| Error::OutOfTime)
    }

    /// The connection, made from the secret if there is none.
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
