//! The set-up calls: `/auth/certificates`, with which the Lambda authenticates, and
//! `/awsIntegration/auth/externalCertificate`, with which Coiote connects to AWS IoT.
//!
//! What these bodies hold is secret, so no message quotes them.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::Value;

use super::body;
use super::error::ApiError;
use crate::external_certificate::ExternalCertificate;
use crate::installation::Installation;
use crate::pem;

type Body = Result<Bytes, BytesRejection>;
/// Coiote answers `null` where there is nothing to say.
type Nothing = Result<Json<Value>, ApiError>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClientCertificate {
    certificate_pem: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct External {
    certificate_pem: String,
    private_key: String,
}

pub(super) async fn register(State(installation): State<Arc<Installation>>, headers: HeaderMap, body: Body) -> Nothing {
    installation.register_client_certificate(client_certificate(&headers, body)?);
    Ok(Json(Value::Null))
}

pub(super) async fn unregister(
    State(installation): State<Arc<Installation>>,
    headers: HeaderMap,
    body: Body,
) -> Nothing {
    installation.unregister_client_certificate(&client_certificate(&headers, body)?)?;
    Ok(Json(Value::Null))
}

pub(super) async fn give_external(
    State(installation): State<Arc<Installation>>,
    headers: HeaderMap,
    body: Body,
) -> Nothing {
    let External { certificate_pem, private_key } = serde_json::from_slice(&body::json(&headers, body)?)
        .map_err(|_| ApiError::bad_request("the body is not {\"certificatePem\": text, \"privateKey\": text}"))?;
    let certificate = ExternalCertificate::new(certificate_pem, private_key)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    installation.give_external_certificate(certificate);
    Ok(Json(Value::Null))
}

/// A body is allowed, and says nothing: there is one certificate.
pub(super) async fn take_external(State(installation): State<Arc<Installation>>) -> Nothing {
    installation.take_external_certificate()?;
    Ok(Json(Value::Null))
}

fn client_certificate(headers: &HeaderMap, body: Body) -> Result<CertificateDer<'static>, ApiError> {
    let ClientCertificate { certificate_pem } = serde_json::from_slice(&body::json(headers, body)?)
        .map_err(|_| ApiError::bad_request("the body is not {\"certificatePem\": text}"))?;
    pem::certificate_in(&certificate_pem)
        .map_err(|_| ApiError::bad_request("certificatePem: it holds no PEM certificate"))
}
