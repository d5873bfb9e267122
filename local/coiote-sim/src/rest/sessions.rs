//! `POST /sessions/{deviceId}/allow-deregistered`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::error::ApiError;
use crate::installation::Installation;

/// Starts a session. Responds at once and runs the device's tasks afterwards; an unreachable device is no error.
pub(super) async fn start(
    State(installation): State<Arc<Installation>>,
    device_id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(device_id) = device_id.map_err(|error| ApiError::bad_request(error.body_text()))?;
    if let Some(endpoint) = installation.start_session(&device_id)? {
        tokio::spawn(async move { installation.run_scheduled(&endpoint) });
    }
    Ok(Json(json!({})))
}
