//! The connection to AWS IoT Core: results go into operation shadows, and AWS says whether it took them; what Coiote
//! tells of its devices goes out beside them, and the broker confirms it.
//!
//! Every message is kept until it is answered or confirmed, and is sent again after each reconnect. So a session that
//! breaks is thrown away with all that it holds, and another one begins with nothing in it.

mod in_flight;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, Publish, QoS, TlsConfiguration, Transport,
};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use in_flight::InFlight;

use crate::cli::{HostPort, Iot};
use crate::external_certificate::{ExternalCertificate, ExternalCertificateError};
use crate::installation::Installation;
use crate::pem::{self, PemError};
use crate::publication::Publication;

const KEEP_ALIVE: Duration = Duration::from_secs(30);
const RECONNECT_DELAY: Duration = Duration::from_secs(1);
/// AWS takes messages of up to 128 KB; rumqttc's own limit is 10 KB, less than a shadow with its metadata.
const LARGEST_PACKET: usize = 256 * 1024;
/// Orders that rumqttc may hold before we wait for it.
// placeholder
const REQUEST_QUEUE: usize = 64;

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
}

/// What the installation wants of the connection.
#[derive(Debug)]
pub(crate) enum Order {
    /// Connect with this certificate, in place of an earlier one; without one, be disconnected.
    Identify(Option<ExternalCertificate>),
    /// Listen to what AWS says about the operation shadow of this device.
    Watch {
        endpoint: String,
    },
    Unwatch {
        endpoint: String,
    },
    /// Update the operation shadow.
    Report {
        endpoint: String,
        task_id: String,
        payload: String,
    },
    /// Send a publication that waits in the installation.
    Publish {
        number: u64,
    },
}

/// Starts what connects once there is a certificate; the receiver hears of the first time that it is up and subscribed.
pub(crate) fn connect(
    iot: &Iot,
    installation: Arc<Installation>,
    orders: UnboundedReceiver<Order>,
) -> Result<oneshot::Receiver<()>, AwsError> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates("--iot-ca", &iot.ca)? {
        roots.add(certificate).map_err(AwsError::Ca)?;
    }
    let broker = Broker { endpoint: iot.endpoint.clone(), client_id: iot.client_id.clone(), roots: Arc::new(roots) };
    let (ready, is_ready) = oneshot::channel();
    tokio::spawn(Connection::new(broker, installation, ready).run(orders));
    Ok(is_ready)
}

/// Where AWS IoT Core is, and how it is recognised.
struct Broker {
    endpoint: HostPort,
    client_id: String,
    roots: Arc<RootCertStore>,
}

impl Broker {
    /// Begins a session; whether it comes about is heard from it.
    fn open(&self, certificate: &ExternalCertificate) -> Result<Session, AwsError> {
        let mut options = MqttOptions::new(&self.client_id, &self.endpoint.host, self.endpoint.port);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_max_packet_size(LARGEST_PACKET, LARGEST_PACKET);
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(self.tls(certificate)?))));
        let (client, event_loop) = AsyncClient::new(options, REQUEST_QUEUE);
        let (to_us, happenings) = unbounded_channel();
        let polling = tokio::spawn(poll(event_loop, to_us));
        Ok(Session {
            client,
            happenings,
            polling,
            up: false,
            subscriptions_open: 0,
            in_flight: InFlight::default(),
            last_published: 0,
        })
    }

    fn tls(&self, certificate: &ExternalCertificate) -> Result<ClientConfig, AwsError> {
        let (chain, key) = certificate.identity()?;
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(AwsError::Identity)?
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(chain, key)
            .map_err(AwsError::Identity)
    }
}

/// What a session reports to us.
enum Happening {
    Up,
    Down(String),
    Subscribed,
    Message(Publish),
    /// The next message that we handed out has gone, under this packet id.
    Sent(u16),
    Confirmed(u16),
}

/// rumqttc works only while it is polled: this does nothing else, so that it never waits for us. It ends with its
/// session.
async fn poll(mut event_loop: EventLoop, to_us: UnboundedSender<Happening>) {
    loop {
        let happening = match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => Happening::Up,
            Ok(Event::Incoming(Packet::SubAck(_))) => Happening::Subscribed,
            Ok(Event::Incoming(Packet::Publish(message))) => Happening::Message(message),
            Ok(Event::Incoming(Packet::PubAck(confirmed))) => Happening::Confirmed(confirmed.pkid),
            Ok(Event::Outgoing(Outgoing::Publish(packet))) => Happening::Sent(packet),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => continue,
            Err(error) => Happening::Down(error.to_string()),
        };
        let down = matches!(happening, Happening::Down(_));
        if to_us.send(happening).is_err() || down {
            return;
        }
    }
}

/// One MQTT session, from the attempt to connect until it breaks.
struct Session {
    client: AsyncClient,
    happenings: UnboundedReceiver<Happening>,
    polling: JoinHandle<()>,
    up: bool,
    /// Subscriptions that the broker has not confirmed.
    subscriptions_open: usize,
    in_flight: InFlight,
    /// The last publication that went into this session: an order for one that was sent when it came up is stale.
    last_published: u64,
}

impl Session {
    async fn subscribe(&mut self, endpoint: &str) {
        for topic in answer_topics(endpoint) {
            self.subscriptions_open += 1;
            warn_if_refused(self.client.subscribe(topic, QoS::AtLeastOnce).await);
        }
    }

    async fn unsubscribe(&mut self, endpoint: &str) {
        for topic in answer_topics(endpoint) {
            warn_if_refused(self.client.unsubscribe(topic).await);
        }
    }

    async fn report(&mut self, report: &Report) {
        info!("{}: result of task {} sent to the operation shadow", report.endpoint, report.task_id);
        let topic = format!("{}/update", shadow(&report.endpoint));
        self.in_flight.handed_out(None);
        warn_if_refused(self.client.publish(topic, QoS::AtLeastOnce, false, report.payload.as_str()).await);
    }

    async fn publish(&mut self, number: u64, publication: &Publication) {
        if number <= self.last_published {
            return;
        }
        self.last_published = number;
        self.in_flight.handed_out(Some(number));
        let payload = publication.payload.to_string();
        warn_if_refused(self.client.publish(publication.topic(), QoS::AtLeastOnce, false, payload).await);
    }

    /// In order, where there is somebody to take leave of.
    async fn end(self) {
        if self.up {
            warn_if_refused(self.client.disconnect().await);
        } else {
            self.polling.abort();
        }
    }
}

fn warn_if_refused(done: Result<(), rumqttc::ClientError>) {
    if let Err(error) = done {
        warn!("the MQTT client took no order: {error}");
    }
}

struct Connection {
    broker: Broker,
    installation: Arc<Installation>,
    identity: Option<ExternalCertificate>,
    session: Option<Session>,
    retry_at: Instant,
    last_error: Option<String>,
    watched: BTreeSet<String>,
    /// Reports that AWS has not answered, in the order of their tasks.
    unsettled: BTreeMap<u64, Report>,
    ready: Option<oneshot::Sender<()>>,
}

struct Report {
    endpoint: String,
    task_id: String,
    payload: String,
}

impl Connection {
    fn new(broker: Broker, installation: Arc<Installation>, ready: oneshot::Sender<()>) -> Self {
        Self {
            broker,
            installation,
            identity: None,
            session: None,
            retry_at: Instant::now(),
            last_error: None,
            watched: BTreeSet::new(),
            unsettled: BTreeMap::new(),
            ready: Some(ready),
        }
    }

    async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        let mut number = 0;
        loop {
            let may_connect = self.session.is_none() && self.identity.is_some();
            tokio::select! {
                // Orders first: what is watched from the start is subscribed to before we say that we are ready.
                biased;
                order = orders.recv() => match order {
                    Some(order) => {
                        number += 1;
                        self.carry_out(number, order).await;
                    }
                    None => return,
                },
                happening = next_happening(&mut self.session) => self.take_in(happening).await,
                () = tokio::time::sleep_until(self.retry_at), if may_connect => self.open(),
            }
        }
    }

    fn open(&mut self) {
        let Some(certificate) = &self.identity else { return };
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

    /// The session, where it can be used.
    fn up(&mut self) -> Option<&mut Session> {
        self.session.as_mut().filter(|session| session.up)
    }

    async fn carry_out(&mut self, number: u64, order: Order) {
        match order {
            Order::Identify(identity) => self.identify(identity).await,
            Order::Watch { endpoint } => {
                if let Some(session) = self.up() {
                    session.subscribe(&endpoint).await;
                }
                self.watched.insert(endpoint);
            }
            Order::Unwatch { endpoint } => {
                self.watched.remove(&endpoint);
                if let Some(session) = self.up() {
                    session.unsubscribe(&endpoint).await;
                }
            }
            Order::Report { endpoint, task_id, payload } => {
                let report = Report { endpoint, task_id, payload };
                if let Some(session) = self.up() {
                    session.report(&report).await;
                }
                self.unsettled.insert(number, report);
            }
            Order::Publish { number } => {
                if let Some(publication) = self.installation.publication(number)
                    && let Some(session) = self.up()
                {
                    session.publish(number, &publication).await;
                }
            }
        }
    }

    async fn identify(&mut self, identity: Option<ExternalCertificate>) {
        if let Some(session) = self.session.take() {
            session.end().await;
        }
        self.installation.set_connected(false);
        let Broker { endpoint, client_id, .. } = &self.broker;
        match &identity {
            Some(_) => info!("connecting to AWS IoT at {}:{} as {client_id}", endpoint.host, endpoint.port),
            None => info!("disconnected from AWS IoT"),
        }
        self.identity = identity;
        self.last_error = None;
        self.retry_at = Instant::now();
    }

    async fn take_in(&mut self, happening: Happening) {
        match happening {
            Happening::Up => self.begin().await,
            Happening::Down(error) => {
                self.session = None;
                self.installation.set_connected(false);
                self.failed(error);
            }
            Happening::Subscribed => {
                if let Some(session) = &mut self.session {
                    session.subscriptions_open = session.subscriptions_open.saturating_sub(1);
                }
                self.tell_when_ready();
            }
            Happening::Message(message) => self.answer(&message),
            Happening::Sent(packet) => {
                if let Some(session) = &mut self.session {
                    session.in_flight.sent(packet);
                }
            }
            Happening::Confirmed(packet) => {
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
        info!("connected to AWS IoT; {} result(s) and {} message(s) to send", self.unsettled.len(), waiting.len());
        self.last_error = None;
        session.up = true;
        self.installation.set_connected(true);
        // First the subscriptions, so that no answer is missed.
        for endpoint in &self.watched {
            session.subscribe(endpoint).await;
        }
        for report in self.unsettled.values() {
            session.report(report).await;
        }
        for (number, publication) in waiting {
            session.publish(number, &publication).await;
        }
        self.tell_when_ready();
    }

    fn tell_when_ready(&mut self) {
        if self.session.as_ref().is_some_and(|session| session.up && session.subscriptions_open == 0)
            && let Some(ready) = self.ready.take()
        {
            // Nobody waits any more when we are being stopped.
            let _ = ready.send(());
        }
    }

    /// Matches an answer to the report that it is for; other writers of the shadow get answers on the same topics.
    fn answer(&mut self, message: &Publish) {
        let Some((endpoint, accepted)) = answer_topic(&message.topic) else {
            return;
        };
        let answer: Answer = match serde_json::from_slice(&message.payload) {
            Ok(answer) => answer,
            Err(error) => return warn!("{endpoint}: AWS sent what cannot be read on {}: {error}", message.topic),
        };
        let settled = self
            .unsettled
            .iter()
            .find(|(_, report)| report.endpoint == endpoint && Some(&report.task_id) == answer.client_token.as_ref());
        let Some(number) = settled.map(|(number, _)| *number) else {
            return;
        };
        if let Some(report) = self.unsettled.remove(&number) {
            if accepted {
                self.installation.shadow_accepted(endpoint, &report.task_id, answer.version);
            } else {
                self.installation.shadow_rejected(endpoint, &report.task_id, answer.code, answer.message);
            }
        }
    }
}

/// Waits for ever where there is no session.
async fn next_happening(session: &mut Option<Session>) -> Happening {
    match session {
        Some(session) => {
            let happening = session.happenings.recv().await;
            happening.unwrap_or_else(|| Happening::Down("the MQTT client has ended".to_owned()))
        }
        None => std::future::pending().await,
    }
}

/// What stands in update/accepted and update/rejected, as far as it concerns us.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    client_token: Option<String>,
    version: Option<u64>,
    code: Option<u64>,
    #[serde(default)]
    message: String,
}

fn shadow(endpoint: &str) -> String {
    format!("$aws/things/{endpoint}/shadow/name/operation")
}

fn answer_topics(endpoint: &str) -> [String; 2] {
    ["accepted", "rejected"].map(|word| format!("{}/update/{word}", shadow(endpoint)))
}

/// Endpoint name, and whether it is an acceptance.
fn answer_topic(topic: &str) -> Option<(&str, bool)> {
    let (endpoint, rest) = topic.strip_prefix("$aws/things/")?.split_once('/')?;
    match rest {
        "shadow/name/operation/update/accepted" => Some((endpoint, true)),
        "shadow/name/operation/update/rejected" => Some((endpoint, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::installation::{Given, NewTask};
    use crate::template::Parameter;

    #[test]
    fn reads_back_its_own_topics() {
        let [accepted, rejected] = answer_topics("urn:dev:1");
        assert_eq!(accepted, "$aws/things/urn:dev:1/shadow/name/operation/update/accepted");
        assert_eq!(answer_topic(&accepted), Some(("urn:dev:1", true)));
        assert_eq!(answer_topic(&rejected), Some(("urn:dev:1", false)));
        assert_eq!(answer_topic("$aws/things/urn:dev:1/shadow/update/accepted"), None);
    }

    #[tokio::test]
    async fn settles_a_report_by_its_client_token() {
        for (word, client_token, ended) in [
            ("accepted", "other", json!("sent")),
            ("accepted", "task", json!("accepted")),
            ("rejected", "task", json!("rejected")),
        ] {
            let (to_aws, mut orders) = unbounded_channel();
            let installation = Arc::new(Installation::new(Given::default(), Some(to_aws)).unwrap());
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
            while let Ok(order) = orders.try_recv() {
                number += 1;
                connection.carry_out(number, order).await;
            }
            let client_token = if client_token == "task" { &task_id } else { client_token };
            let answer = json!({"clientToken": client_token, "version": 7, "code": 413, "message": "too large"});
            let topic = format!("$aws/things/urn:dev:1/shadow/name/operation/update/{word}");
            connection.answer(&Publish::new(topic, QoS::AtLeastOnce, answer.to_string()));

            let tasks = installation.tasks(None).unwrap();
            assert_eq!(tasks[0]["shadowUpdate"]["status"], ended, "{word} {client_token}");
            assert_eq!(connection.unsettled.len(), usize::from(ended == "sent"));
        }
    }
}
