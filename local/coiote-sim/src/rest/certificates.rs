//! Set-up calls: `/auth/certificates` for the client certificates of the functions, and
//! `/awsIntegration/auth/externalCertificate` for the certificate that Coiote connects to AWS IoT with.
//!
//! The bodies hold secrets, so no message quotes them.

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

type RawBody = Result<Bytes, BytesRejection>;
/// Response without content, for which Coiote has `null`.
type NullResponse = Result<Json<Value>, ApiError>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClientCertificateBody {
    certificate_pem: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExternalCertificateBody {
    certificate_pem: String,
    private_key: String,
}

pub(super) async fn register(
    State(installation): State<Arc<Installation>>,
    headers: HeaderMap,
    body: RawBody,
) -> NullResponse {
    installation.register_client_certificate(client_certificate(&headers, body)?);
    Ok(Json(Value::Null))
}

pub(super) async fn unregister(
    State(installation): State<Arc<Installation>>,
    headers: HeaderMap,
    body: RawBody,
) -> NullResponse {
    installation.unregister_client_certificate(&client_certificate(&headers, body)?)?;
    Ok(Json(Value::Null))
}

pub(super) async fn set_external(
    State(installation): State<Arc<Installation>>,
    headers: HeaderMap,
    body: RawBody,
) -> NullResponse {
    let ExternalCertificateBody { certificate_pem, private_key } = serde_json::from_slice(&body::json(&headers, body)?)
        .map_err(|_| ApiError::bad_request("the body is not {\"certificatePem\": text, \"privateKey\": text}"))?;
    let certificate = ExternalCertificate::new(certificate_pem, private_key)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    installation.set_external_certificate(certificate);
    Ok(Json(Value::Null))
}

/// Removes the certificate. A body is allowed and ignored, since there is only one.
pub(super) async fn remove_external(State(installation): State<Arc<Installation>>) -> NullResponse {
    installation.remove_external_certificate()?;
    Ok(Json(Value::Null))
}

fn client_certificate(headers: &HeaderMap, body: RawBody) -> Result<CertificateDer<'static>, ApiError> {
    let ClientCertificateBody { certificate_pem } = serde_json::from_slice(&body::json(headers, body)?)
        .map_err(|_| ApiError::bad_request("the body is not {\"certificatePem\": text}"))?;
    pem::certificate_in(&certificate_pem)
        .map_err(|_| ApiError::bad_request("certificatePem: it holds no PEM certificate"))
}
