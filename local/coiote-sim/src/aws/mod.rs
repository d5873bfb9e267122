//! The connection to AWS IoT Core. It writes results into operation shadows and takes in whether AWS accepted them; it
//! sends publications about devices, which the broker confirms.
//!
//! Every message is kept until it is answered or confirmed, and is sent again after each reconnect. A session that
//! breaks is therefore dropped with its state, and the next one starts empty.

mod in_flight;
mod session;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::Publish;
use rustls::RootCertStore;
use thiserror::Error;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use session::{Broker, Session, SessionEvent};
use topics::UpdateResponse;

use crate::aws_command::{AwsCommand, OperationShadowUpdate};
use crate::cli::Iot;
use crate::external_certificate::{ExternalCertificate, ExternalCertificateError};
use crate::installation::Installation;
use crate::pem::{self, PemError};

const RECONNECT_DELAY: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
pub(crate) enum AwsError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("--iot-ca: {0}. Give the CA certificate of the broker.")]
    Ca(rustls::Error),
    #[error(transparent)]
    Certificate(#[from] ExternalCertificateError),
    #[error("the certificate to connect to AWS IoT with cannot be used: {0}")]
    Identity(rustls::Error),
    #[error("the MQTT client cannot be set up: {0}")]
    Client(#[from] rumqttc::ClientBuildError),
}

/// Starts the task that connects once there is a certificate.
///
/// The receiver resolves when the first session is up and all its subscriptions are confirmed.
pub(crate) fn connect(
    iot: &Iot,
    installation: Arc<Installation>,
    commands: UnboundedReceiver<AwsCommand>,
) -> Result<oneshot::Receiver<()>, AwsError> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates("--iot-ca", &iot.ca)? {
        roots.add(certificate).map_err(AwsError::Ca)?;
    }
    let broker = Broker { endpoint: iot.endpoint.clone(), client_id: iot.client_id.clone(), roots: Arc::new(roots) };
    let (ready, is_ready) = oneshot::channel();
    tokio::spawn(Connection::new(broker, installation, ready).run(commands));
    Ok(is_ready)
}

struct Connection {
    broker: Broker,
    installation: Arc<Installation>,
    certificate: Option<ExternalCertificate>,
    session: Option<Session>,
    retry_at: Instant,
    last_error: Option<String>,
    /// Endpoint names of the devices whose operation shadows are subscribed to.
    subscribed: BTreeSet<String>,
    /// Shadow updates that AWS has not answered, in the order of their tasks.
    unanswered: BTreeMap<u64, OperationShadowUpdate>,
    /// Taken when the connection has been ready once.
    ready: Option<oneshot::Sender<()>>,
}

impl Connection {
    fn new(broker: Broker, installation: Arc<Installation>, ready: oneshot::Sender<()>) -> Self {
        Self {
            broker,
            installation,
            certificate: None,
            session: None,
            retry_at: Instant::now(),
            last_error: None,
            subscribed: BTreeSet::new(),
            unanswered: BTreeMap::new(),
            ready: Some(ready),
        }
    }

    async fn run(mut self, mut commands: UnboundedReceiver<AwsCommand>) {
        let mut number = 0;
        loop {
            let may_connect = self.session.is_none() && self.certificate.is_some();
            tokio::select! {
                // Commands first: subscriptions from the start are made before the connection counts as ready.
                biased;
                command = commands.recv() => match command {
                    Some(command) => {
                        number += 1;
                        self.carry_out(number, command).await;
                    }
                    None => return,
                },
                event = next_event(&mut self.session) => self.handle(event).await,
                () = tokio::time::sleep_until(self.retry_at), if may_connect => self.open(),
            }
        }
    }

    fn open(&mut self) {
        let Some(certificate) = &self.certificate else { return };
        match self.broker.open(certificate) {
            Ok(session) => self.session = Some(session),
            Err(error) => self.failed(error.to_string()),
        }
    }

    fn failed(&mut self, error: String) {
        // Each reason once: a broker that stays away would fill the log.
        if self.last_error.as_ref() != Some(&error) {
            warn!("no connection to AWS IoT: {error}; trying again every second");
        }
        self.last_error = Some(error);
        self.retry_at = Instant::now() + RECONNECT_DELAY;
    }

    /// The session, if it is up.
    fn up(&mut self) -> Option<&mut Session> {
        self.session.as_mut().filter(|session| session.up)
    }

    async fn carry_out(&mut self, number: u64, command: AwsCommand) {
        match command {
            AwsCommand::UseCertificate(certificate) => self.use_certificate(certificate).await,
            AwsCommand::Subscribe { endpoint } => {
                if let Some(session) = self.up() {
                    session.subscribe(&endpoint).await;
                }
                self.subscribed.insert(endpoint);
            }
            AwsCommand::Unsubscribe { endpoint } => {
                self.subscribed.remove(&endpoint);
                if let Some(session) = self.up() {
                    session.unsubscribe(&endpoint).await;
                }
            }
            AwsCommand::UpdateShadow(update) => {
                if let Some(session) = self.up() {
                    session.update_shadow(&update).await;
                }
                self.unanswered.insert(number, update);
            }
            AwsCommand::Publish { number } => {
                if let Some(publication) = self.installation.publication(number)
                    && let Some(session) = self.up()
                {
                    session.publish(number, &publication).await;
                }
            }
        }
    }

    async fn use_certificate(&mut self, certificate: Option<ExternalCertificate>) {
        if let Some(session) = self.session.take() {
            session.end().await;
        }
        self.installation.set_connected(false);
        let Broker { endpoint, client_id, .. } = &self.broker;
        match &certificate {
            Some(_) => info!("connecting to AWS IoT at {}:{} as {client_id}", endpoint.host, endpoint.port),
            None => info!("disconnected from AWS IoT"),
        }
        self.certificate = certificate;
        self.last_error = None;
        self.retry_at = Instant::now();
    }

    async fn handle(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Up => self.begin().await,
            SessionEvent::Down(error) => {
                self.session = None;
                self.installation.set_connected(false);
                self.failed(error);
            }
            SessionEvent::Subscribed => {
                if let Some(session) = &mut self.session {
                    session.subscribed().await;
                }
                self.notify_when_ready();
            }
            SessionEvent::Message(message) => self.settle(&message),
            SessionEvent::Sent(packet) => {
                if let Some(session) = &mut self.session {
                    session.in_flight.sent(packet);
                }
            }
            SessionEvent::Confirmed(packet) => {
                let confirmed = self.session.as_mut().and_then(|session| session.in_flight.confirmed(packet));
                if let Some(number) = confirmed {
                    self.installation.confirm(number);
                }
            }
        }
    }

    async fn begin(&mut self) {
        let Some(session) = &mut self.session else { return };
        let waiting = self.installation.unconfirmed();
        info!("connected to AWS IoT; {} result(s) and {} message(s) to send", self.unanswered.len(), waiting.len());
        self.last_error = None;
        session.up = true;
        self.installation.set_connected(true);
        // Subscriptions first, so that no response is missed.
        for endpoint in &self.subscribed {
            session.subscribe(endpoint).await;
        }
        for update in self.unanswered.values() {
            session.update_shadow(update).await;
        }
        for (number, publication) in waiting {
            session.publish(number, &publication).await;
        }
        self.notify_when_ready();
    }

    fn notify_when_ready(&mut self) {
        if self.session.as_ref().is_some_and(Session::is_ready)
            && let Some(ready) = self.ready.take()
        {
            // Nobody waits any more when the process is being stopped.
            let _ = ready.send(());
        }
    }

    /// Matches a response to its update by the client token. Other writers of the shadow get responses on the same topics.
    fn settle(&mut self, message: &Publish) {
        let Ok(topic) = std::str::from_utf8(&message.topic) else { return };
        let Some((endpoint, accepted)) = topics::parse_response_topic(topic) else { return };
        let response: UpdateResponse = match serde_json::from_slice(&message.payload) {
            Ok(response) => response,
            Err(error) => return warn!("{endpoint}: AWS sent what cannot be read on {topic}: {error}"),
        };
        let answered = self
            .unanswered
            .iter()
            .find(|(_, update)| update.endpoint == endpoint && Some(&update.task_id) == response.client_token.as_ref());
        let Some(number) = answered.map(|(number, _)| *number) else { return };
        if let Some(update) = self.unanswered.remove(&number) {
            if accepted {
                self.installation.shadow_accepted(endpoint, &update.task_id, response.version);
            } else {
                self.installation.shadow_rejected(endpoint, &update.task_id, response.code, response.message);
            }
        }
    }
}

/// Next event of the session; pending for ever without one.
async fn next_event(session: &mut Option<Session>) -> SessionEvent {
    match session {
        Some(session) => session.next_event().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::QoS;
    use serde_json::json;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::installation::{InstallationOptions, NewTask};
    use crate::template::Parameter;

    #[tokio::test]
    async fn settles_an_update_by_its_client_token() {
        for (word, client_token, status) in [
            ("accepted", "other", json!("sent")),
            ("accepted", "task", json!("accepted")),
            ("rejected", "task", json!("rejected")),
        ] {
            let (to_aws, mut commands) = unbounded_channel();
            let installation = Arc::new(Installation::new(InstallationOptions::default(), Some(to_aws)).unwrap());
            installation.add_device("endpoint=urn:dev:1,id=one".parse().unwrap()).unwrap();
            let keys = Parameter { name: "keys".to_owned(), value: "Location".to_owned() };
            let task_id = installation.schedule("one", NewTask::new("AWSreadCertAuth", vec![keys])).unwrap();
            installation.run_scheduled("urn:dev:1");

            let broker = Broker {
                endpoint: "localhost:8883".parse().unwrap(),
                client_id: "test".to_owned(),
                roots: Arc::new(RootCertStore::empty()),
            };
            let mut connection = Connection::new(broker, installation.clone(), oneshot::channel().0);
            let mut number = 0;
            while let Ok(command) = commands.try_recv() {
                number += 1;
                connection.carry_out(number, command).await;
            }
            let client_token = if client_token == "task" { &task_id } else { client_token };
            let response = json!({"clientToken": client_token, "version": 7, "code": 413, "message": "too large"});
            let topic = format!("$aws/things/urn:dev:1/shadow/name/operation/update/{word}");
            connection.settle(&Publish::new(topic, QoS::AtLeastOnce, response.to_string()));

            let tasks = installation.tasks(None).unwrap();
            assert_eq!(tasks[0]["shadowUpdate"]["status"], status, "{word} {client_token}");
            assert_eq!(connection.unanswered.len(), usize::from(status == "sent"));
        }
    }
}
