//! The connection to Coiote that outlives an invocation.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use coiote::{Client, Identity};
use lambda_support::Deadline;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
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
    /// Calls share it, and whoever reads the secret has it alone.
    connection: RwLock<Option<Connection>>,
    /// Time of the last call on this connection that succeeded. By the wall clock, because a monotonic clock may stop while the
    /// environment is frozen.
    proven_at: Mutex<Option<SystemTime>>,
    warm_up: OnceLock<AbortHandle>,
}

/// Client together with the secret that it was made from.
struct Connection {
    identity: Arc<Identity>,
    client: Client,
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
        let (connection, proven_at) = (RwLock::new(None), Mutex::new(None));
        Access { url, credentials, connection, proven_at, warm_up: OnceLock::new() }
    }

    /// Begins to read the secret, while Lambda is asked for the first event and that one is claimed.
    pub fn warm_up(self: &Arc<Self>) {
        let access = Arc::clone(self);
        let reading = tokio::spawn(async move {
            let mut connection = access.connection.write().await;
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
        let _ = tokio::time::timeout(deadline.left(), self.connection.write()).await;
    }

    /// Whether a call on the connection has just succeeded.
    pub fn is_proven(&self) -> bool {
        let proven_at = self.proven_at.lock().map_or(None, |proven_at| *proven_at);
        proven_at.and_then(|at| at.elapsed().ok()).is_some_and(|since| since < PROVEN_FOR)
    }

    /// Makes calls on the connection. If Coiote refuses the certificate or is not trusted, the secret is read again, and if it
    /// has changed, the calls are made again with it.
    pub async fn with_secret_refresh<T>(
        &self,
        deadline: Deadline,
        call: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let connection = self.shared(deadline).await?;
        let identity = Arc::clone(&connection.identity);
        let mut result = call(&connection.client).await;
        drop(connection);
        if let Err(refused) = &result
            && refused.may_be_the_secret()
            && self.refresh(&identity, refused, deadline).await?
        {
            result = call(&self.shared(deadline).await?.client).await;
        }
        if result.is_ok() {
            self.set_proven(Some(SystemTime::now()));
        }
        result
    }

    /// Reads the secret again after a refusal, and connects with it if it has changed. Returns whether there is another
    /// connection than that with this identity now.
    async fn refresh(&self, identity: &Identity, refused: &Error, deadline: Deadline) -> Result<bool, Error> {
        let mut slot = self.acquire(deadline, || self.connection.write()).await?;
        // Another call may have been refused before, and have read it.
        if slot.as_ref().is_some_and(|connection| *connection.identity == *identity) {
            let read = self.read_secret(deadline).await?;
            if read == *identity {
                return Ok(false);
            }
            tracing::info!(code = refused.code(), reason = %refused, "the secret has changed; trying again with it");
            *slot = Some(self.connect(read)?);
        }
        Ok(true)
    }

    fn set_proven(&self, at: Option<SystemTime>) {
        if let Ok(mut proven_at) = self.proven_at.lock() {
            *proven_at = at;
        }
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
        self.set_proven(None);
        Ok(Connection { identity: Arc::new(identity), client })
    }

    /// The connection, made from the secret if there is none. It stays as long as a call is made with it.
    async fn shared(&self, deadline: Deadline) -> Result<RwLockReadGuard<'_, Connection>, Error> {
        let there = self.acquire(deadline, || self.connection.read()).await?;
        if let Ok(connection) = RwLockReadGuard::try_map(there, Option::as_ref) {
            return Ok(connection);
        }
        let mut slot = self.acquire(deadline, || self.connection.write()).await?;
        if slot.is_none() {
            *slot = Some(self.connect(self.read_secret(deadline).await?)?);
        }
        RwLockReadGuard::try_map(RwLockWriteGuard::downgrade(slot), Option::as_ref).map_err(|_| Error::OutOfTime)
    }

    /// Locks the connection within the time that is left.
    async fn acquire<L: Future>(&self, deadline: Deadline, lock: impl Fn() -> L) -> Result<L::Output, Error> {
        let wait = deadline.left().min(WARM_UP_WAIT);
        if let Ok(locked) = tokio::time::timeout(wait, lock()).await {
            return Ok(locked);
        }
        // The environment may have been frozen while the warm-up was making its call.
        if let Some(warm_up) = self.warm_up.get() {
            warm_up.abort();
        }
        tokio::time::timeout(deadline.left(), lock()).await.map_err(|_| Error::OutOfTime)
    }
}
