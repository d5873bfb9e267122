//! Whom the functions trust, towards Coiote and AWS alike. The other side is always verified.
//!
//! The public roots are constants. Reading and parsing the system's, as clients do by themselves, takes three times as many
//! instructions as everything else that happens when a function starts.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ConfigBuilder, Error, RootCertStore};

/// Trusts the public roots, and `more`.
pub fn tls_config_builder(
    more: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in more {
        roots.add(root)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots))
}
