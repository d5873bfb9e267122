//! Stand-in for AWS IoT Core: as much of MQTT 3.1.1 as the tests need.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::coiote::DEADLINE;

/// Broker that takes connections with known certificates.
pub(crate) struct Broker {
    port: u16,
    ca: String,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// Topic and payload, in the order of arrival.
    messages: Vec<(String, Value)>,
    /// Client certificates of the connections.
    connections: Vec<CertificateDer<'static>>,
    subscriptions: Vec<String>,
    /// Number of subscriptions when the first message arrived.
    subscriptions_before_messages: Option<usize>,
    confirms_nothing: bool,
}

impl Broker {
    pub(crate) fn start(known: &[&CertifiedKey<KeyPair>]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let own = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        for certificate in known {
            roots.add(certificate.cert.der().clone()).unwrap();
        }
        let key = PrivateKeyDer::from_pem_slice(own.signing_key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder()
            .with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let broker = Self { port: listener.local_addr().unwrap().port(), ca: own.cert.pem(), seen: Arc::default() };
        let (acceptor, seen) = (TlsAcceptor::from(Arc::new(config)), broker.seen.clone());
        // In its own thread: a test blocks while it waits for the process, which waits for the broker.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(accept(listener, acceptor, seen));
        });
        broker
    }

    /// Options of the local Coiote for this broker.
    pub(crate) fn options(&self, folder: &Path) -> Vec<String> {
        let file = folder.join("broker.pem");
        std::fs::write(&file, &self.ca).unwrap();
        let endpoint = format!("localhost:{}", self.port);
        ["--iot-endpoint", &endpoint, "--iot-ca", file.to_str().unwrap()].map(ToOwned::to_owned).into()
    }

    pub(crate) fn confirm_nothing(&self, nothing: bool) {
        self.seen.lock().unwrap().confirms_nothing = nothing;
    }

    pub(crate) fn connections(&self) -> Vec<CertificateDer<'static>> {
        self.seen.lock().unwrap().connections.clone()
    }

    pub(crate) fn subscriptions(&self) -> Vec<String> {
        self.seen.lock().unwrap().subscriptions.clone()
    }

    pub(crate) fn subscriptions_before_messages(&self) -> Option<usize> {
        self.seen.lock().unwrap().subscriptions_before_messages
    }

    /// Waits for the number of messages and takes them. A message too many fails this call or the next one.
    pub(crate) async fn messages(&self, count: usize) -> Vec<(String, Value)> {
        let wait = async {
            while self.seen.lock().unwrap().messages.len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = tokio::time::timeout(DEADLINE, wait).await;
        let messages = std::mem::take(&mut self.seen.lock().unwrap().messages);
        assert!(ended.is_ok() && messages.len() == count, "{count} messages are wanted: {messages:#?}");
        messages
    }
}

async fn accept(listener: std::net::TcpListener, acceptor: TlsAcceptor, seen: Arc<Mutex<Seen>>) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, seen) = (acceptor.clone(), seen.clone());
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
                seen.lock().unwrap().connections.push(certificate);
                // Ends with an error when the client goes.
                let _ = serve(stream, &seen).await;
            }
        });
    }
}

async fn serve(mut stream: TlsStream<TcpStream>, seen: &Mutex<Seen>) -> std::io::Result<()> {
    loop {
        let first = stream.read_u8().await?;
        let body = body(&mut stream).await?;
        let answer = match first >> 4 {
            1 => vec![0x20, 2, 0, 0],
            3 => {
                let (topic, rest) = text(&body);
                let (id, payload) = rest.split_at(2);
                let mut seen = seen.lock().unwrap();
                let subscriptions = seen.subscriptions.len();
                seen.subscriptions_before_messages.get_or_insert(subscriptions);
                seen.messages.push((topic, serde_json::from_slice(payload).unwrap()));
                if seen.confirms_nothing { vec![] } else { vec![0x40, 2, id[0], id[1]] }
            }
            8 => {
                seen.lock().unwrap().subscriptions.push(text(&body[2..]).0);
                vec![0x90, 3, body[0], body[1], 1]
            }
            10 => vec![0xb0, 2, body[0], body[1]],
            12 => vec![0xd0, 0],
            14 => return Ok(()),
            other => panic!("MQTT packet {other}"),
        };
        stream.write_all(&answer).await?;
        stream.flush().await?;
    }
}

async fn body(stream: &mut TlsStream<TcpStream>) -> std::io::Result<Vec<u8>> {
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = usize::from(stream.read_u8().await?);
        length |= (byte & 127) << shift;
        shift += 7;
        if byte & 128 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// Splits off a string with a length before it.
fn text(bytes: &[u8]) -> (String, &[u8]) {
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    (String::from_utf8(bytes[2..2 + length].to_vec()).unwrap(), &bytes[2 + length..])
}
