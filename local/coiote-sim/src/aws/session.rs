//! One MQTT session: from the attempt to connect until it breaks.

use std::collections::VecDeque;
use std::sync::Arc;

use rumqttc::{
    AsyncClient, ClientError, Event, EventLoop, MqttOptions, Outgoing, Packet, Publish, PublishOptions, QoS,
    TlsConfiguration, Transport,
};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::AwsError;
use super::in_flight::InFlight;
use super::topics;
use crate::aws_command::OperationShadowUpdate;
use crate::cli::HostPort;
use crate::external_certificate::ExternalCertificate;
use crate::publication::Publication;

const KEEP_ALIVE_SECONDS: u16 = 30;
/// AWS takes messages of up to 128 KB; rumqttc's own limit is 10 KB, less than a shadow with its metadata.
const LARGEST_PACKET: usize = 256 * 1024;
/// Number of requests that rumqttc queues before a call to it waits.
const REQUEST_QUEUE: usize = 64;

/// Address of AWS IoT Core, and the roots that its certificate is verified with.
pub(super) struct Broker {
    pub(super) endpoint: HostPort,
    pub(super) client_id: String,
    pub(super) roots: Arc<RootCertStore>,
}

impl Broker {
    /// Starts a session. Its first event says whether the connection came about.
    pub(super) fn open(&self, certificate: &ExternalCertificate) -> Result<Session, AwsError> {
        let mut options = MqttOptions::new(&self.client_id, (self.endpoint.host.as_str(), self.endpoint.port));
        options.set_keep_alive(KEEP_ALIVE_SECONDS);
        options.set_max_packet_size(LARGEST_PACKET, LARGEST_PACKET);
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(self.tls(certificate)?))));
        let (client, event_loop) = AsyncClient::builder(options).capacity(REQUEST_QUEUE).try_build()?;
        let (sender, events) = unbounded_channel();
        let polling = tokio::spawn(poll(event_loop, sender));
        Ok(Session {
            client,
            events,
            polling,
            up: false,
            subscriptions_open: 0,
            held_back: VecDeque::new(),
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

/// Event of a session.
pub(super) enum SessionEvent {
    Up,
    /// The session has broken, for this reason.
    Down(String),
    Subscribed,
    Message(Publish),
    /// The oldest message that was handed to rumqttc and not sent yet has gone out, under this packet id.
    Sent(u16),
    /// The broker has confirmed the message with this packet id.
    Confirmed(u16),
}

/// Polls rumqttc and passes its events on, until the session ends.
///
/// rumqttc works only while it is polled, so this is a task of its own that never waits for the rest.
async fn poll(mut event_loop: EventLoop, sender: UnboundedSender<SessionEvent>) {
    loop {
        let event = match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => SessionEvent::Up,
            Ok(Event::Incoming(Packet::SubAck(_))) => SessionEvent::Subscribed,
            Ok(Event::Incoming(Packet::Publish(message))) => SessionEvent::Message(message),
            Ok(Event::Incoming(Packet::PubAck(confirmed))) => SessionEvent::Confirmed(confirmed.pkid),
            Ok(Event::Outgoing(Outgoing::Publish(packet))) => SessionEvent::Sent(packet),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => continue,
            Err(error) => SessionEvent::Down(error.to_string()),
        };
        let down = matches!(event, SessionEvent::Down(_));
        if sender.send(event).is_err() || down {
            return;
        }
    }
}

pub(super) struct Session {
    client: AsyncClient,
    events: UnboundedReceiver<SessionEvent>,
    polling: JoinHandle<()>,
    pub(super) up: bool,
    /// Number of subscriptions that the broker has not confirmed.
    subscriptions_open: usize,
    /// Messages that wait until all subscriptions are confirmed, oldest first.
    held_back: VecDeque<Message>,
    pub(super) in_flight: InFlight,
    /// Number of the last publication of this session. A command for one up to it comes late: the publication was sent
    /// when the session came up.
    last_published: u64,
}

/// Message to publish, with the number of the publication whose confirmation is awaited.
struct Message {
    number: Option<u64>,
    topic: String,
    payload: String,
}

impl Session {
    /// Next event of the session.
    pub(super) async fn next_event(&mut self) -> SessionEvent {
        let event = self.events.recv().await;
        event.unwrap_or_else(|| SessionEvent::Down("the MQTT client has ended".to_owned()))
    }

    /// Whether the session is up and all its subscriptions are confirmed.
    pub(super) fn is_ready(&self) -> bool {
        self.up && self.subscriptions_open == 0
    }

    pub(super) async fn subscribe(&mut self, endpoint: &str) {
        for topic in topics::response_topics(endpoint) {
            let subscribed = self.client.subscribe(topic, QoS::AtLeastOnce).await;
            self.subscriptions_open += usize::from(subscribed.is_ok());
            warn_if_refused(subscribed);
        }
    }

    pub(super) async fn unsubscribe(&mut self, endpoint: &str) {
        for topic in topics::response_topics(endpoint) {
            warn_if_refused(self.client.unsubscribe(topic).await);
        }
    }

    /// Notes that the broker has confirmed a subscription.
    pub(super) async fn subscribed(&mut self) {
        self.subscriptions_open = self.subscriptions_open.saturating_sub(1);
        if self.subscriptions_open == 0 {
            while let Some(message) = self.held_back.pop_front() {
                self.hand_out(message).await;
            }
        }
    }

    pub(super) async fn update_shadow(&mut self, update: &OperationShadowUpdate) {
        let OperationShadowUpdate { endpoint, task_id, payload } = update;
        info!("{endpoint}: result of task {task_id} sent to the operation shadow");
        let topic = topics::update_topic(endpoint);
        self.send(Message { number: None, topic, payload: payload.clone() }).await;
    }

    pub(super) async fn publish(&mut self, number: u64, publication: &Publication) {
        if number <= self.last_published {
            return;
        }
        self.last_published = number;
        let (topic, payload) = (publication.topic(), publication.payload.to_string());
        self.send(Message { number: Some(number), topic, payload }).await;
    }

    /// Sends a message after the subscriptions that were asked for before it: otherwise its response could be missed.
    ///
    /// rumqttc queues publishes apart from subscriptions, and may send them first.
    async fn send(&mut self, message: Message) {
        if self.subscriptions_open == 0 {
            self.hand_out(message).await;
        } else {
            self.held_back.push_back(message);
        }
    }

    async fn hand_out(&mut self, Message { number, topic, payload }: Message) {
        self.in_flight.handed_out(number);
        warn_if_refused(self.client.publish(topic, payload, PublishOptions::at_least_once()).await);
    }

    /// Ends the session: with DISCONNECT where it is up.
    pub(super) async fn end(self) {
        if self.up {
            // Does not wait for confirmations: everything that is not confirmed is sent again in the next session.
            warn_if_refused(self.client.disconnect_now().await);
        } else {
            self.polling.abort();
        }
    }
}

fn warn_if_refused(done: Result<(), ClientError>) {
    if let Err(error) = done {
        warn!("the MQTT client took no order: {error}");
    }
}
