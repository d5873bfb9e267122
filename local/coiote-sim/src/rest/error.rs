//! Errors in Coiote's form: `{"message": "…", "code": 4040}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::warn;

use crate::installation::Refusal;

/// Error response of the REST API.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    /// Coiote's own code: the HTTP status with one more digit.
    code: u16,
    message: String,
}

impl ApiError {
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 4000, message)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 4010, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, 4040, message)
    }

    pub(super) fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, 4050, message)
    }

    pub(super) fn by_fault(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, status.as_u16() * 10, message)
    }

    fn new(status: StatusCode, code: u16, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = match &refusal {
            Refusal::UnknownDevice(_) => (StatusCode::NOT_FOUND, 4040),
            Refusal::NoReport(_) => (StatusCode::NOT_FOUND, 4041),
            Refusal::UnknownTemplate(_) => (StatusCode::NOT_FOUND, 4042),
            Refusal::UnknownCertificate(_) => (StatusCode::NOT_FOUND, 4043),
            Refusal::UnknownTask(_) => (StatusCode::NOT_FOUND, 4044),
            Refusal::Parameters(_) | Refusal::Invalid(_) => (StatusCode::BAD_REQUEST, 4000),
            Refusal::DeviceExists(_) => (StatusCode::CONFLICT, 4090),
        };
        Self::new(status, code, refusal.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        warn!("REST call refused: {} {} {}", self.status.as_u16(), self.code, self.message);
        (self.status, Json(json!({"message": self.message, "code": self.code}))).into_response()
    }
}
