//! TLS with client certificates that only prove possession of their key.
//!
//! Coiote registers certificates one by one and trusts no CA for them, and set-up calls come without one. So TLS asks for
//! a certificate, checks possession of its key, and leaves it to the API whether it is registered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use super::connection::{Connection, Lifeline};
use crate::cli::Options;
use crate::installation::Installation;
use crate::pem::{self, PemError};

/// Time limit for a TLS handshake: a peer that connects and sends nothing does not stay for ever.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of connections whose handshake is done and that axum has not taken.
const WAITING_CONNECTIONS: usize = 64;

#[derive(Debug, Error)]
pub(crate) enum TlsSetupError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("--tls-cert and --tls-key cannot be used: {0}. Give a certificate and the key that belongs to it.")]
    Identity(#[from] rustls::Error),
    #[error("--listen {address}: {error}. Choose another port, or 0 for a free one.")]
    Listen { address: SocketAddr, error: io::Error },
}

/// Client at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) certificate: Option<CertificateDer<'static>>,
    pub(super) lifeline: Lifeline,
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        let connection = stream.io();
        Self { certificate: connection.peer_certificate(), lifeline: connection.lifeline() }
    }
}

/// Listener that yields connections after their handshake. A slow handshake holds up no other.
pub(crate) struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(Connection, SocketAddr)>,
}

impl TlsListener {
    pub(crate) async fn bind(options: &Options, installation: Arc<Installation>) -> Result<Self, TlsSetupError> {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(options)?));
        let failed = |error| TlsSetupError::Listen { address: options.listen, error };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (done, ready) = mpsc::channel(WAITING_CONNECTIONS);
        tokio::spawn(accept(listener, acceptor, installation, done));
        Ok(Self { address, ready })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Listener for TlsListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The accepting task ends only together with the process.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Accepts TCP connections for ever, each with a task for its handshake.
async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    installation: Arc<Installation>,
    done: mpsc::Sender<(Connection, SocketAddr)>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(shake_hands(stream, peer, acceptor.clone(), installation.clone(), done.clone()));
            }
            Err(error) => {
                // Most likely out of file descriptors: trying again at once would only spin.
                warn!("TCP connection not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Passes the connection on after its TLS handshake.
async fn shake_hands(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    installation: Arc<Installation>,
    done: mpsc::Sender<(Connection, SocketAddr)>,
) {
    // Without it a response waits until the client acknowledges the handshake, which it does 40 ms later.
    if let Err(error) = stream.set_nodelay(true) {
        warn!("TCP_NODELAY not set for {peer}: {error}");
    }
    if installation.is_black_hole() {
        // The connection stays open, and nothing is ever sent on it.
        installation.faults_changed().await;
        return drop(stream);
    }
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let connection = Connection::new(stream);
            installation.count_handshake();
            let who = match connection.peer_certificate() {
                Some(certificate) if installation.is_registered_client(&certificate) => "a registered",
                Some(_) => "an unregistered",
                None => "no",
            };
            info!("TLS connection accepted from {peer}, with {who} client certificate");
            // Fails only while the server is being stopped.
            let _ = done.send((connection, peer)).await;
        }
        Ok(Err(error)) => warn!("TLS connection refused from {peer}: {error}"),
        Err(_) => warn!("TLS connection refused from {peer}: no handshake within {HANDSHAKE_TIMEOUT:?}"),
    }
}

fn server_config(options: &Options) -> Result<ServerConfig, TlsSetupError> {
    let chain = pem::certificates("--tls-cert", &options.tls_cert)?;
    let key = pem::key("--tls-key", &options.tls_key)?;
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(PossessionOnly { provider }))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts any certificate whose key the peer proves to hold.
#[derive(Debug)]
struct PossessionOnly {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for PossessionOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
