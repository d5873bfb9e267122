//! Root certificates that the functions trust, for connections to Coiote and to AWS alike. The server is always verified.
//!
//! The public roots are constants. Reading and parsing the system's roots, as HTTP clients do by default, takes three times as
//! many instructions as everything else in a function's start.

#![warn(missing_docs)]

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ConfigBuilder, Error, RootCertStore};

/// Begins a TLS client configuration that trusts the public roots and `extra_roots`.
///
/// Fails if one of `extra_roots` is not a valid certificate.
pub fn tls_config_builder(
    extra_roots: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in extra_roots {
        roots.add(root)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots))
}
