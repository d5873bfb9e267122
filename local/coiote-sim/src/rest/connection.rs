//! TLS connection that a handler can cut, so that its client gets no response.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    lifeline: Lifeline,
}

/// Handle with which a handler cuts its connection.
///
/// Cutting need not wake anything: axum runs a handler in the task of its connection, which reads or writes as soon as
/// the handler is done, fails, and drops the connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Lifeline(Arc<AtomicBool>);

impl Lifeline {
    pub(super) fn cut(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_cut(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Connection {
    pub(super) fn new(stream: TlsStream<TcpStream>) -> Self {
        Self { stream, lifeline: Lifeline::default() }
    }

    pub(super) fn lifeline(&self) -> Lifeline {
        self.lifeline.clone()
    }

    /// The client's own certificate, without its chain.
    pub(super) fn peer_certificate(&self) -> Option<CertificateDer<'static>> {
        let (_, connection) = self.stream.get_ref();
        connection.peer_certificates()?.first().cloned().map(CertificateDer::into_owned)
    }

    fn stream(self: Pin<&mut Self>) -> io::Result<Pin<&mut TlsStream<TcpStream>>> {
        let connection = self.get_mut();
        if connection.lifeline.is_cut() {
            return Err(ErrorKind::ConnectionReset.into());
        }
        Ok(Pin::new(&mut connection.stream))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.lifeline.is_cut() {
            // Closing is then a TCP reset. If that cannot be set, the connection ends all the same.
            let _ = self.stream.get_ref().0.set_zero_linger();
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}
