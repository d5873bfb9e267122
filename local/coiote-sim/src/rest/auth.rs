//! Authentication: calls about devices need the header `Authorization: Certificate` and a registered client certificate;
//! set-up calls need user and password, since there is no certificate yet.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;

use super::error::ApiError;
use super::tls::Peer;
use crate::credentials::Credentials;
use crate::installation::Installation;

/// Checks the header and the client certificate.
pub(super) async fn by_certificate(
    State(installation): State<Arc<Installation>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // Another value of the header may be a secret, so no message quotes it.
    match request.headers().get(AUTHORIZATION).map(|value| value.as_bytes()) {
        Some(b"Certificate") => {}
        Some(_) => return Err(ApiError::unauthorized("Authorization is not \"Certificate\"")),
        None => return Err(ApiError::unauthorized("the header \"Authorization: Certificate\" is missing")),
    }
    match &peer.certificate {
        Some(certificate) if installation.is_registered_client(certificate) => Ok(next.run(request).await),
        Some(_) => Err(ApiError::unauthorized("the client certificate is not registered")),
        None => Err(ApiError::unauthorized("no client certificate was presented")),
    }
}

/// Checks user and password. Without `--user` all calls are refused.
pub(super) async fn by_password(
    State(credentials): State<Option<Arc<Credentials>>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match (request.headers().get(AUTHORIZATION), credentials) {
        (Some(header), Some(credentials)) if credentials.are_in(header.as_bytes()) => Ok(next.run(request).await),
        (Some(_), _) => Err(ApiError::unauthorized("user and password (Authorization: Basic) are not the right ones")),
        (None, _) => Err(ApiError::unauthorized("user and password (Authorization: Basic) are missing")),
    }
}
