//! The connection to AWS IoT Core: results go into operation shadows, and AWS says whether it took them.
//!
//! rumqttc forgets what it has not sent when a new session begins, so every report is kept here until AWS has
//! accepted or rejected it, and is sent again after each reconnect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS, TlsConfiguration, Transport};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::cli::Iot;
use crate::installation::Installation;
use crate::pem::{self, PemError};

const KEEP_ALIVE: Duration = Duration::from_secs(30);
const RECONNECT_DELAY: Duration = Duration::from_secs(1);
/// AWS takes messages of up to 128 KB; rumqttc's own limit is 10 KB, less than a shadow with its metadata.
const LARGEST_PACKET: usize = 256 * 1024;
/// Orders that rumqttc may hold before we wait for it.
const REQUEST_QUEUE: usize = 64;

#[derive(Debug, Error)]
pub(crate) enum AwsError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("--iot-ca: {0}. Give the CA certificate of the broker.")]
    Ca(rustls::Error),
    #[error("--iot-cert and --iot-key cannot be used: {0}. Give a certificate and the key that belongs to it.")]
    Identity(rustls::Error),
}

/// What the installation wants of the connection.
#[derive(Debug)]
pub(crate) enum Order {
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
}

/// Starts the connection; the receiver hears of the first time that it is up and subscribed.
pub(crate) fn connect(
    iot: &Iot,
    installation: Arc<Installation>,
    orders: UnboundedReceiver<Order>,
) -> Result<oneshot::Receiver<()>, AwsError> {
    let mut options = MqttOptions::new(&iot.client_id, &iot.endpoint.host, iot.endpoint.port);
    options.set_keep_alive(KEEP_ALIVE);
    options.set_max_packet_size(LARGEST_PACKET, LARGEST_PACKET);
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls(iot)?))));
    let (client, event_loop) = AsyncClient::new(options, REQUEST_QUEUE);
    let (to_us, events) = unbounded_channel();
    let (ready, is_ready) = oneshot::channel();
    info!("connecting to AWS IoT at {}:{} as {}", iot.endpoint.host, iot.endpoint.port, iot.client_id);
    tokio::spawn(poll(event_loop, to_us));
    let connection = Connection::new(client, installation, ready);
    tokio::spawn(connection.run(orders, events));
    Ok(is_ready)
}

fn tls(iot: &Iot) -> Result<ClientConfig, AwsError> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates("--iot-ca", &iot.ca)? {
        roots.add(certificate).map_err(AwsError::Ca)?;
    }
    let chain = pem::certificates("--iot-cert", &iot.certificate)?;
    let key = pem::key("--iot-key", &iot.key)?;
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(AwsError::Identity)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(AwsError::Identity)
}

/// What the connection reports to us.
enum Happening {
    Up,
    Down,
    Subscribed,
    Message(Publish),
}

/// rumqttc works only while it is polled: this does nothing else, so that it never waits for us.
async fn poll(mut event_loop: EventLoop, to_us: UnboundedSender<Happening>) {
    let mut last_error = None;
    loop {
        let happening = match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                last_error = None;
                Happening::Up
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => Happening::Subscribed,
            Ok(Event::Incoming(Packet::Publish(message))) => Happening::Message(message),
            Ok(_) => continue,
            Err(error) => {
                let error = error.to_string();
                // Each reason once: a broker that stays away would fill the log.
                if last_error.as_ref() != Some(&error) {
                    warn!("no connection to AWS IoT: {error}; trying again every second");
                }
                last_error = Some(error);
                Happening::Down
            }
        };
        let down = matches!(happening, Happening::Down);
        if to_us.send(happening).is_err() {
            return;
        }
        if down {
            tokio::time::sleep(RECONNECT_DELAY).await;
        }
    }
}

struct Connection {
    client: AsyncClient,
    installation: Arc<Installation>,
    watched: BTreeSet<String>,
    /// Reports that AWS has not answered, in the order of their tasks.
    unsettled: BTreeMap<u64, Report>,
    connected: bool,
    /// Subscriptions that the broker has not confirmed.
    subscriptions_open: usize,
    ready: Option<oneshot::Sender<()>>,
}

struct Report {
    endpoint: String,
    task_id: String,
    payload: String,
}

impl Connection {
    fn new(client: AsyncClient, installation: Arc<Installation>, ready: oneshot::Sender<()>) -> Self {
        Self {
            client,
            installation,
            watched: BTreeSet::new(),
            unsettled: BTreeMap::new(),
            connected: false,
            subscriptions_open: 0,
            ready: Some(ready),
        }
    }

    async fn run(mut self, mut orders: UnboundedReceiver<Order>, mut events: UnboundedReceiver<Happening>) {
        let mut number = 0;
        loop {
            tokio::select! {
                // Orders first: what is watched from the start is subscribed to before we say that we are ready.
                biased;
                Some(order) = orders.recv() => {
                    number += 1;
                    self.carry_out(number, order).await;
                }
                Some(happening) = events.recv() => self.take_in(happening).await,
                else => return,
            }
        }
    }

    async fn carry_out(&mut self, number: u64, order: Order) {
        match order {
            Order::Watch { endpoint } => {
                if self.connected {
                    self.subscribe(&endpoint).await;
                }
                self.watched.insert(endpoint);
            }
            Order::Unwatch { endpoint } => {
                self.watched.remove(&endpoint);
                if self.connected {
                    for topic in answer_topics(&endpoint) {
                        self.warn_if_refused(self.client.unsubscribe(topic).await);
                    }
                }
            }
            Order::Report { endpoint, task_id, payload } => {
                let report = Report { endpoint, task_id, payload };
                if self.connected {
                    self.publish(&report).await;
                }
                self.unsettled.insert(number, report);
            }
        }
    }

    async fn take_in(&mut self, happening: Happening) {
        match happening {
            Happening::Up => {
                info!("connected to AWS IoT; {} result(s) to report", self.unsettled.len());
                self.connected = true;
                self.subscriptions_open = 0;
                // First the subscriptions, so that no answer is missed.
                let watched: Vec<_> = self.watched.iter().cloned().collect();
                for endpoint in watched {
                    self.subscribe(&endpoint).await;
                }
                for report in self.unsettled.values() {
                    self.publish(report).await;
                }
                self.tell_when_ready();
            }
            Happening::Down => self.connected = false,
            Happening::Subscribed => {
                self.subscriptions_open = self.subscriptions_open.saturating_sub(1);
                self.tell_when_ready();
            }
            Happening::Message(message) => self.answer(&message),
        }
    }

    fn tell_when_ready(&mut self) {
        if self.subscriptions_open == 0
            && let Some(ready) = self.ready.take()
        {
            // Nobody waits any more when we are being stopped.
            let _ = ready.send(());
        }
    }

    async fn subscribe(&mut self, endpoint: &str) {
        for topic in answer_topics(endpoint) {
            self.subscriptions_open += 1;
            self.warn_if_refused(self.client.subscribe(topic, QoS::AtLeastOnce).await);
        }
    }

    async fn publish(&self, report: &Report) {
        info!("{}: result of task {} sent to the operation shadow", report.endpoint, report.task_id);
        let topic = format!("{}/update", shadow(&report.endpoint));
        self.warn_if_refused(self.client.publish(topic, QoS::AtLeastOnce, false, report.payload.as_str()).await);
    }

    fn warn_if_refused(&self, done: Result<(), rumqttc::ClientError>) {
        if let Err(error) = done {
            warn!("the MQTT client took no order: {error}");
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
            let installation = Arc::new(Installation::new(Vec::new(), &[], Some(to_aws)).unwrap());
            installation.add_device("endpoint=urn:dev:1,id=one".parse().unwrap()).unwrap();
            let keys = Parameter { name: "keys".to_owned(), value: "Location".to_owned() };
            let task_id = installation.schedule("one", "AWSreadCertAuth", vec![keys]).unwrap();
            installation.run_scheduled("urn:dev:1");

            let (client, _event_loop) = AsyncClient::new(MqttOptions::new("test", "localhost", 1883), 8);
            let mut connection = Connection::new(client, installation.clone(), oneshot::channel().0);
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
